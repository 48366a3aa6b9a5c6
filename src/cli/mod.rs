//! The command line. Only here are arguments parsed, lines printed and exit codes chosen.

mod ablate;
mod common;
mod convert;
mod decoding;
mod devices;
mod embed;
mod evaluate;
mod export;
mod fetch;
mod gap;
mod infer;
mod model;
mod pretrain;
mod probe;
mod search;
mod serve;
mod train;
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Captions pictures with CLIP, a mapper and GPT-2.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
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
    Gap(gap::GapArgs),
    Tune(Box<tune::TuneArgs>),
    Ablate(Box<ablate::AblateArgs>),
    Evaluate(evaluate::EvaluateArgs),
    Pretrain(pretrain::PretrainArgs),
    Probe(Box<probe::ProbeArgs>),
    Convert(convert::ConvertArgs),
    Export(export::ExportArgs),
    Fetch(fetch::FetchArgs),
    Devices(devices::DevicesArgs),
}

/// Parses, runs, and turns an error into one line: 0 when all went well, 1 when it failed, 2 for wrong usage.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => train::run(*args),
        Command::Infer(args) => infer::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Gap(args) => gap::run(args),
        Command::Tune(args) => tune::run(*args),
        Command::Ablate(args) => ablate::run(*args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Probe(args) => probe::run(*args),
        Command::Convert(args) => convert::run(args),
        Command::Export(args) => export::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Devices(args) => devices::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
