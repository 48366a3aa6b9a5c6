//! `clipcap tune`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::train::caption::{DATASET, TrainContext};
use clipcap::train::dashboard::Ui;
use clipcap::train::run;
use clipcap::train::space::Dimension;
use clipcap::train::tune::{TuneConfig, table, tune};

use super::common::{DeviceArg, interruptible, report};
use super::train::BaseArgs;

/// Choose a run's settings by k-fold cross-validation
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap tune learning_rate=1e-3,2e-3,4e-3 prefix_length=10,40 --folds 3 --epochs 5\n  \
    clipcap tune learning_rate=1e-5..1e-3:log noise.rate=0..0.3 --random 10 --data captions.json --images photos/\n  \
    clipcap train --config artifacts/tune-1/chosen.json\n\n\
A search that was stopped goes on with the same command and --run; several at once with the same --run share the work.")]
pub struct TuneArgs {
    /// Fields of a run's config.json and what to try for each: value,value,... or low..high, with :log for a logarithmic range
    #[arg(value_name = "FIELD=VALUES", required = true)]
    space: Vec<Dimension>,
    /// Parts that the images are dealt into; each is held out once
    #[arg(long, value_name = "K", default_value_t = 5)]
    folds: usize,
    /// Try so many random settings instead of the whole grid
    #[arg(long, value_name = "N")]
    random: Option<usize>,
    #[command(flatten)]
    base: BaseArgs,
    /// Name of the search's folder in artifacts/ [default: tune-1, tune-2, ...]
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
}

pub fn run(args: TuneArgs) -> Result<ExitCode> {
    let config = TuneConfig {
        base: args.base.config()?,
        space: args.space.clone(),
        random: args.random,
        folds: args.folds,
    };
    let count = config.settings()?.len();
    let devices = args.device.or_several(&[])?;
    let artifacts = Path::new(run::ARTIFACTS);
    let folder = run::open(artifacts, "tune", args.run.as_deref(), "tune.json")?;
    eprintln!(
        "{count} settings x {} folds in {}",
        config.folds,
        folder.display()
    );
    let tuned = tune(
        &config,
        &TrainContext {
            folder: &folder,
            dataset: Path::new(DATASET),
            devices: &devices,
            ui: Ui::Quiet,
            report: report(),
            interrupter: interruptible()?,
            resume: false,
        },
    )?;
    print!("{}", table(&tuned.scores));
    match &tuned.chosen {
        Some(chosen) => println!(
            "the best of {count}: {}; train with it: clipcap train --config {}",
            tuned.scores[0].setting,
            chosen.display()
        ),
        None => println!(
            "{} trainings are still running elsewhere; the last to finish chooses, or run this again",
            tuned.elsewhere
        ),
    }
    Ok(ExitCode::SUCCESS)
}
