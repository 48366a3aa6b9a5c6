//! `clipcap ablate`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use clipcap::files;
use clipcap::search::ablate::{Ablation, ablate, table};

use super::out;
use super::search::SearchArgs;

/// Train named settings one by one and compare them in a table
#[derive(Args)]
#[command(after_help = "Example:\n  \
    clipcap ablate benches/ablation.json --epochs 2\n\n\
The file is a list of {\"name\": ..., \"set\": {\"FIELD\": VALUE, ...}}, with the fields of a run's config.json. \
A comparison that was stopped is resumed by the same command and --run.")]
pub struct AblateArgs {
    /// JSON file with the settings
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    search: SearchArgs,
}

pub fn run(args: AblateArgs) -> Result<ExitCode> {
    let ablation = Ablation {
        base: args.search.config()?,
        variants: files::read_json(&args.file)?,
    };
    if ablation.variants.is_empty() {
        bail!(
            "{} names no setting: give at least one",
            args.file.display()
        );
    }
    let size = format!("{} settings", ablation.variants.len());
    let outcomes = (args.search).within("ablate", "ablation.json", &size, |context| {
        ablate(&ablation, context)
    })?;
    out::text(&table(&outcomes))?;
    Ok(ExitCode::SUCCESS)
}
