//! `clipcap ablate`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::files;
use clipcap::search::ablate::{Ablation, ablate, table};

use super::common::{MarkdownArg, usage};
use super::out;
use super::search::SearchArgs;

/// Train named settings one by one and compare them in a table
#[derive(Args)]
#[command(after_help = "Example:\n  \
    clipcap ablate benches/ablation.json --epochs 2\n  \
    clipcap ablate benches/ablation.json --seeds 3 --markdown ablation.md\n      \
    each setting three times, and a table of means and standard deviations\n\n\
The file is a list of {\"name\": ..., \"set\": {\"FIELD\": VALUE, ...}}, with the fields of a run's config.json. \
A comparison that was stopped is resumed by the same command and --run.")]
pub struct AblateArgs {
    /// JSON file with the settings
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Train each setting so many times, with the seed of the settings and those that follow it; images stay in their parts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: usize,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    markdown: MarkdownArg,
}

pub fn run(args: AblateArgs) -> Result<ExitCode> {
    if args.seeds == 0 {
        usage(ErrorKind::InvalidValue, "--seeds is 0: give at least 1");
    }
    let ablation = Ablation {
        base: args.search.config()?,
        variants: files::read_json(&args.file)?,
        seeds: args.seeds,
    };
    if ablation.variants.is_empty() {
        bail!(
            "{} names no setting: give at least one",
            args.file.display()
        );
    }
    args.markdown.check()?;
    let size = match args.seeds {
        1 => format!("{} settings", ablation.variants.len()),
        seeds => format!("{} settings x {seeds} seeds", ablation.variants.len()),
    };
    let compared = (args.search).within("ablate", "ablation.json", &size, |context| {
        ablate(&ablation, context)
    })?;
    args.markdown.write(|| table(&compared))?;
    out::text(&table(&compared))?;
    Ok(ExitCode::SUCCESS)
}
