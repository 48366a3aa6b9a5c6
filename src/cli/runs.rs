//! `clipcap runs`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use clipcap::datasets;
use clipcap::evaluate::table::Style;
use clipcap::search::runs::compare::compare_runs;
use clipcap::search::runs::{find, list, table};
use clipcap::trainer::run;

use super::{complete, out};

/// List the runs in artifacts/, or compare two of them
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    clipcap runs\n  \
    clipcap runs compare train-1 train-2\n      \
    settings that differ, and the test scores with the paired bootstrap test of `evaluate --compare`"
)]
pub struct RunsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// How the list is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Subcommand)]
enum Action {
    /// Show in which settings and scores two trainings differ, and by how much
    Compare(CompareArgs),
}

#[derive(Args)]
struct CompareArgs {
    /// A run in artifacts/, or its folder
    #[arg(value_name = "A", add = complete::runs())]
    a: String,
    /// Another
    #[arg(value_name = "B", add = complete::runs())]
    b: String,
    /// Score that test images are ordered by
    #[arg(long, value_name = "SCORE", default_value = "CIDEr")]
    by: String,
    /// How the comparison is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A table for a person; long settings are cut off
    Text,
    /// The same in Markdown, with all settings
    Markdown,
    /// Everything that is known
    Json,
}

pub fn run(args: RunsArgs) -> Result<ExitCode> {
    let artifacts = Path::new(run::ARTIFACTS);
    if let Some(Action::Compare(args)) = args.action {
        let (a, b) = (find(artifacts, &args.a)?, find(artifacts, &args.b)?);
        let found = compare_runs(a, b, Path::new(datasets::FOLDER), &args.by)?;
        out::text(&match args.format {
            Format::Text => found.table(Style::Text),
            Format::Markdown => found.table(Style::Markdown),
            Format::Json => serde_json::to_string(&found)? + "\n",
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let runs = list(artifacts);
    if runs.is_empty() {
        out::note(format_args!("{} has no run", artifacts.display()));
    }
    match args.format {
        Format::Text if runs.is_empty() => {}
        Format::Text => out::text(&table(&runs, Style::Text))?,
        Format::Markdown => out::text(&table(&runs, Style::Markdown))?,
        Format::Json => out::line(serde_json::to_string(&runs)?)?,
    }
    for run in &runs {
        for problem in &run.problems {
            out::note(format_args!("{} is damaged: {problem}", run.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}
