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
mod signals;
mod train;
mod tune;
mod values;
mod version;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};
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

/// Parses, runs, and turns an error into one line: 0 when all went well, 1 when it failed, 2 for wrong usage.
pub fn run() -> ExitCode {
    complete::answer();
    device::default_to_cpu();
    out::start();
    let result = match Cli::try_parse() {
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

/// Help and version, which were asked for, go to standard output; wrong usage to standard error, with exit code 2.
fn show_usage(error: &clap::Error) -> Result<ExitCode> {
    if error.use_stderr() {
        let _ = error.print();
        return Ok(ExitCode::from(2));
    }
    out::written(error.print())?;
    Ok(ExitCode::SUCCESS)
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(*args),
        Command::Infer(args) => infer::run(args),
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
    use clap::CommandFactory;

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
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        cli.get_subcommands()
            .filter(|command| command.get_name() != "help")
            .for_each(check);
    }
}
