//! Completions for shells, made while somebody types: the shell asks the program, which looks what is there.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};
use clipcap::catalog::{Catalog, Room};
use clipcap::hub::SETS;
use clipcap::hub::archives;
use clipcap::search::runs::list;
use clipcap::trainer::run::ARTIFACTS;

use super::out;

/// Set by the shell's script to its own name, when it asks.
const VARIABLE: &str = "CLIPCAP_COMPLETE";

/// Print a script that teaches a shell to complete commands, flags, and names of models and runs
#[derive(Args)]
#[command(after_help = "\
Examples:
  clipcap completions bash > ~/.local/share/bash-completion/completions/clipcap
  clipcap completions zsh > ~/.zfunc/_clipcap
  clipcap completions fish > ~/.config/fish/completions/clipcap.fish

What is completed is asked of the program itself, which has to be on the PATH.")]
pub struct CompletionsArgs {
    /// Shell to print it for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shell {
    /// Bash 4 or newer
    Bash,
    /// Elvish
    Elvish,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// Zsh
    Zsh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

pub fn run(args: CompletionsArgs) -> Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(args.shell.name())
        .context("the shell is not known")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "clipcap", "clipcap", "clipcap", &mut script)?;
    out::written(out::Stdout.write_all(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell that asks, and ends the program then.
pub fn answer() {
    CompleteEnv::with_factory(super::command)
        .var(VARIABLE)
        .complete();
}

/// Completes models: names and folders.
pub fn models() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| {
        let listed = Catalog::default().list().into_iter();
        let names = listed.filter(|model| written_so_far(&model.name, written));
        let mut candidates: Vec<CompletionCandidate> = names
            .map(|model| {
                let from = match model.room {
                    Room::Hub => format!("to be fetched: {}", model.about),
                    Room::Run => format!("run: {}", model.about),
                    _ => model.about,
                };
                CompletionCandidate::new(model.name).help(Some(from.into()))
            })
            .collect();
        candidates.extend(PathCompleter::dir().complete(written));
        candidates
    })
}

/// Completes datastores: folders that `index` built, and those that may hold one.
pub fn indexes() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| PathCompleter::dir().complete(written))
}

/// Completes what `fetch` knows by name.
pub fn fetchable() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let sets = SETS.iter().map(|set| (set.name, set.about));
        let data = archives::known().map(|data| (data.name, data.about));
        sets.chain(data)
            .map(|(name, about)| CompletionCandidate::new(name).help(Some(about.into())))
            .collect()
    })
}

/// Completes runs of this folder by name, and other folders.
pub fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|written: &OsStr| {
        let mut candidates = runs_named(written);
        candidates.extend(PathCompleter::dir().complete(written));
        candidates
    })
}

/// Completes runs of this folder by name alone.
pub fn run_names() -> ArgValueCompleter {
    ArgValueCompleter::new(runs_named)
}

fn runs_named(written: &OsStr) -> Vec<CompletionCandidate> {
    list(Path::new(ARTIFACTS))
        .into_iter()
        .filter(|run| written_so_far(&run.name, written))
        .map(|run| CompletionCandidate::new(&run.name).help(Some(run.kind.into())))
        .collect()
}

fn written_so_far(name: &str, written: &OsStr) -> bool {
    name.starts_with(&*written.to_string_lossy())
}
