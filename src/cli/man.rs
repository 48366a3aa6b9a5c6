//! `clipcap man`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clipcap::files;

use super::{Cli, out};

/// Write man pages, one a command
#[derive(Args)]
#[command(after_help = "Example:\n  clipcap man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Folder to write them into
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn run(args: ManArgs) -> Result<ExitCode> {
    files::create_dir(&args.folder)?;
    let command = Cli::command()
        .version(env!("CARGO_PKG_VERSION"))
        .long_version(None);
    clap_mangen::generate_to(command, &args.folder)
        .with_context(|| format!("cannot write man pages into {}", args.folder.display()))?;
    out::line(args.folder.join("clipcap.1").display())?;
    Ok(ExitCode::SUCCESS)
}
