//! `clipcap models`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::catalog::{self, Catalog, Listed, MODELS, Room};
use clipcap::train::status::RunStatus;
use clipcap::trainer::run::ARTIFACTS;

use super::out;

/// List models: those that are here, and those that can be fetched, with sizes and licenses
#[derive(Args)]
#[command(after_help = "\
Examples:
  clipcap models
  clipcap models --format jsonl

A model is named by its folder, by the name that is listed here, or by its run; CLIPCAP_HOME is where the user's are.")]
pub struct ModelsArgs {
    /// How they are listed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Tables for a person
    Text,
    /// One JSON object a line
    Jsonl,
}

pub fn run(args: ModelsArgs) -> Result<ExitCode> {
    if let Some(problem) = catalog::unusable_home() {
        out::note(problem);
    }
    let models = Catalog::default().list();
    match args.format {
        Format::Text => out::text(&show(&models))?,
        Format::Jsonl => {
            for model in &models {
                out::line(serde_json::to_string(model)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(models: &[Listed]) -> String {
    let home = catalog::home().map_or_else(
        || "set CLIPCAP_HOME".to_string(),
        |home| home.join(MODELS).display().to_string(),
    );
    let rooms = [
        (Room::Program, "In the program".to_string()),
        (Room::Here, format!("In this folder ({MODELS}/)")),
        (Room::Run, format!("Runs of this folder ({ARTIFACTS}/)")),
        (Room::Home, format!("Yours, from any folder ({home})")),
        (
            Room::Hub,
            "On the Hugging Face Hub: clipcap fetch NAME".to_string(),
        ),
    ];
    let width = models
        .iter()
        .map(|model| model.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (room, title) in rooms {
        let here = models.iter().filter(|model| model.room == room);
        let lines: Vec<String> = here.map(|model| line(model, width)).collect();
        if !lines.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            text += &format!("{gap}{title}\n{}\n", lines.join("\n"));
        }
    }
    text
}

fn line(model: &Listed, width: usize) -> String {
    let name = out::one_line(&model.name);
    let mut line = format!("  {name:width$}  {:>7}  {}", size(model.bytes), model.about);
    if let Some(status) = model.status {
        line += &format!("; {}", RunStatus::describe(Some(status)));
    }
    if !model.license.is_empty() {
        line += &format!("; license: {}", out::one_line(&model.license));
    }
    if let Some(problem) = &model.problem {
        line += &format!("; cannot be used: {}", out::one_line(problem));
    }
    line
}

/// Bytes as a person says them, such as `4.9 MB`.
pub fn size(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    match megabytes {
        ..10.0 => format!("{megabytes:.1} MB"),
        10.0..1000.0 => format!("{megabytes:.0} MB"),
        _ => format!("{:.1} GB", megabytes / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (4_900_000, "4.9 MB"),
            (120_400_000, "120 MB"),
            (1_230_000_000, "1.2 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
