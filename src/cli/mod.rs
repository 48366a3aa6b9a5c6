//! The command line. Only here are arguments parsed, lines printed and exit codes chosen.

mod ablate;
mod common;
mod complete;
mod convert;
mod decoding;
mod demo;
mod devices;
mod doctor;
mod embed;
mod evaluate;
mod explain;
mod export;
mod fetch;
mod find;
mod gap;
mod index;
mod infer;
mod man;
mod memory;
mod model;
mod models;
mod out;
mod pretrain;
mod probe;
mod runs;
mod search;
mod search_index;
mod serve;
mod shards;
mod signals;
mod train;
mod tune;
mod values;
mod version;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clipcap::device;
use clipcap::guard::guarded;

/// Captions images with CLIP, a mapper and GPT-2.
#[derive(Parser)]
#[command(
    name = "clipcap",
    version,
    long_version = version::long(),
    about,
    max_term_width = 100,
    after_help = "New here? `clipcap demo` shows what it does, `clipcap doctor` whether all is well, `clipcap models` what to caption with."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Infer(infer::InferArgs),
    Explain(Box<explain::ExplainArgs>),
    Serve(serve::ServeArgs),
    Embed(embed::EmbedArgs),
    Index(index::IndexArgs),
    Search(search_index::SearchArgs),
    Gap(gap::GapArgs),
    Tune(Box<tune::TuneArgs>),
    Ablate(Box<ablate::AblateArgs>),
    Runs(runs::RunsArgs),
    Evaluate(evaluate::EvaluateArgs),
    Pretrain(pretrain::PretrainArgs),
    Probe(Box<probe::ProbeArgs>),
    Convert(convert::ConvertArgs),
    Export(export::ExportArgs),
    Fetch(fetch::FetchArgs),
    Demo(demo::DemoArgs),
    Models(models::ModelsArgs),
    Devices(devices::DevicesArgs),
    Doctor(doctor::DoctorArgs),
    Completions(complete::CompletionsArgs),
    Man(man::ManArgs),
}

/// Parses, runs, and turns an error into one line. The exit code is 0 when all went well; 2 when the command line is wrong by
/// itself, whatever the files hold that it names; 1 when a file, a model, the machine or an image is to blame.
pub fn run() -> ExitCode {
    complete::answer();
    device::default_to_cpu();
    out::start();
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => guarded(|| dispatch(cli.command)).unwrap_or_else(|panic| {
            let place = panic.message;
            Err(anyhow!(
                "the program is at fault: {place}; please report this line"
            ))
        }),
        Err(error) => show_usage(&error),
    };
    match result {
        Ok(code) => code,
        Err(error) if out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The commands. A number below 0 after a flag is its value, to be refused by its range, and no flag of its own.
fn command() -> clap::Command {
    fn numbers(command: clap::Command) -> clap::Command {
        command
            .mut_args(|argument| match argument.is_positional() {
                false if argument.get_action().takes_values() => {
                    argument.allow_negative_numbers(true)
                }
                _ => argument,
            })
            .mut_subcommands(numbers)
    }
    let mut cli = numbers(Cli::command());
    cli.build();
    cli
}

/// Help and version, which were asked for, go to standard output; wrong usage to standard error, with exit code 2.
fn show_usage(error: &clap::Error) -> Result<ExitCode> {
    if error.use_stderr() {
        match plain_number(error) {
            Some(message) => out::note(message.trim_end()),
            None => {
                let _ = error.print();
            }
        }
        return Ok(ExitCode::from(2));
    }
    out::written(error.print())?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a value that is no number, in words for a person instead of Rust's.
fn plain_number(error: &clap::Error) -> Option<String> {
    const WORDS: [(&str, &str); 5] = [
        ("invalid digit found in string", "give a whole number"),
        ("invalid float literal", "give a number"),
        ("number would be zero for non-zero type", "give at least 1"),
        ("number too large to fit in target type", "it is too large"),
        (
            "cannot parse integer from empty string",
            "give a whole number",
        ),
    ];
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let told = error.to_string();
    let (rust, plain) = WORDS.into_iter().find(|(rust, _)| told.contains(rust))?;
    Some(told.replacen(rust, plain, 1))
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(*args),
        Command::Infer(args) => infer::run(args),
        Command::Explain(args) => explain::run(*args),
        Command::Serve(args) => serve::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Index(args) => index::run(args),
        Command::Search(args) => search_index::run(args),
        Command::Gap(args) => gap::run(args),
        Command::Tune(args) => tune::run(*args),
        Command::Ablate(args) => ablate::run(*args),
        Command::Runs(args) => runs::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Probe(args) => probe::run(*args),
        Command::Convert(args) => convert::run(args),
        Command::Export(args) => export::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Models(args) => models::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => complete::run(args),
        Command::Man(args) => man::run(args),
    }
}

#[cfg(test)]
mod documented_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command) {
        assert!(
            command.get_about().is_some(),
            "{} says nothing of itself",
            command.get_name()
        );
        for argument in command.get_arguments() {
            let name = format!("{} {}", command.get_name(), argument.get_id());
            assert!(argument.get_help().is_some(), "{name} has no help");
            for value in argument.get_possible_values() {
                let value_name = value.get_name();
                let is_plain = ["true", "false"].contains(&value_name);
                assert!(
                    is_plain || value.get_help().is_some(),
                    "{name}: {value_name} has no help"
                );
            }
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn every_command_flag_and_value_says_what_it_is() {
        let cli = command();
        cli.clone().debug_assert();
        cli.get_subcommands()
            .filter(|command| command.get_name() != "help")
            .for_each(check);
    }
}
