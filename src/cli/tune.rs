//! `clipcap tune`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::search::space::Dimension;
use clipcap::search::tune::{TuneConfig, table, tune};

use super::common::{MarkdownArg, valid};
use super::out;
use super::search::SearchArgs;

/// Choose a run's settings by k-fold cross-validation
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap tune learning_rate=1e-3,2e-3,4e-3 prefix_length=10,40 --folds 3 --epochs 5\n  \
    clipcap tune learning_rate=1e-5..1e-3:log noise.rate=0..0.3 --random 10 --data captions.json --images photos/\n  \
    clipcap train --config artifacts/tune-1/chosen.json\n\n\
A search that was stopped is resumed by the same command and --run; several at once with the same --run share the work.")]
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
    search: SearchArgs,
    #[command(flatten)]
    markdown: MarkdownArg,
}

pub fn run(args: TuneArgs) -> Result<ExitCode> {
    let config = TuneConfig {
        base: args.search.config()?,
        space: args.space.clone(),
        random: args.random,
        folds: args.folds,
    };
    let count = valid(config.settings()).len();
    args.markdown.check()?;
    let size = format!("{count} settings x {} folds", config.folds);
    let tuned =
        (args.search).within("tune", "tune.json", &size, |context| tune(&config, context))?;
    args.markdown.write(|| table(&tuned.scores))?;
    out::text(&table(&tuned.scores))?;
    match &tuned.chosen {
        Some(chosen) => out::line(format_args!(
            "the best of {count}: {}; train with it: clipcap train --config {}",
            tuned.scores[0].setting,
            chosen.display()
        ))?,
        None => out::line(format_args!(
            "{} trainings are still running elsewhere; the last to finish chooses, or run this again",
            tuned.elsewhere
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}
