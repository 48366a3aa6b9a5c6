//! `clipcap ablate`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use clipcap::files;
use clipcap::train::ablate::{Ablation, ablate, table};
use clipcap::train::caption::{DATASET, TrainContext};
use clipcap::train::dashboard::Ui;
use clipcap::train::run;

use super::common::{DeviceArg, interruptible, report};
use super::train::BaseArgs;

/// Train named settings one by one and compare them in a table
#[derive(Args)]
#[command(after_help = "Example:\n  \
    clipcap ablate benches/ablation.json --epochs 2\n\n\
The file is a list of {\"name\": ..., \"set\": {\"FIELD\": VALUE, ...}}, with the fields of a run's config.json. \
A comparison that was stopped goes on with the same command and --run.")]
pub struct AblateArgs {
    /// JSON file with the settings
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// Name of the comparison's folder in artifacts/ [default: ablate-1, ablate-2, ...]
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
}

pub fn run(args: AblateArgs) -> Result<ExitCode> {
    let ablation = Ablation {
        base: args.base.config()?,
        variants: files::read_json(&args.file)?,
    };
    if ablation.variants.is_empty() {
        bail!(
            "{} names no setting: give at least one",
            args.file.display()
        );
    }
    let devices = args.device.or_several(&[])?;
    let artifacts = Path::new(run::ARTIFACTS);
    let folder = run::open(artifacts, "ablate", args.run.as_deref(), "ablation.json")?;
    eprintln!(
        "{} settings in {}",
        ablation.variants.len(),
        folder.display()
    );
    let outcomes = ablate(
        &ablation,
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
    print!("{}", table(&outcomes));
    Ok(ExitCode::SUCCESS)
}
