//! `clipcap demo`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser};
use clipcap::trainer::run::ARTIFACTS;

use super::{Cli, dispatch, out};

/// Show what the program does, in a minute or two: caption some of the sample's images, train, and score what was trained
///
/// Each step is a command of this program, which is shown before it is run.
#[derive(Args)]
#[command(after_help = "\
Example:
  clipcap demo

It works with the sample, in the current folder: dataset/sample and artifacts/demo-N. There is no download.")]
pub struct DemoArgs {}

pub fn run(_: DemoArgs) -> Result<ExitCode> {
    let run = new_run();
    let name = run
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let report = run.join("report.html");
    let report_text = report.display().to_string();
    let explained = run.join("explained.html");
    let explained_text = explained.display().to_string();
    let steps: [(&str, &[&str]); 5] = [
        (
            "The sample model captions images that it was not trained on.",
            &["infer", "--model", "sample"],
        ),
        (
            "Several captions of an image, by beam search, in the order of CLIP's similarity.",
            &[
                "infer",
                "--model",
                "sample",
                "--decode",
                "beam",
                "--num-captions",
                "3",
                "--rerank",
                "clip",
                IMAGE,
            ],
        ),
        (
            "A new mapper is trained, a linear one for two epochs, which takes some 20 seconds.",
            &[
                "train", "--mapper", "linear", "--epochs", "2", "--ui", "plain", "--run", &name,
            ],
        ),
        (
            "What was trained captions the test part, and is scored.",
            &[
                "evaluate",
                "--model",
                &name,
                "--split",
                "test",
                "--report",
                &report_text,
            ],
        ),
        (
            "Where the words of a caption came from.",
            &[
                "explain",
                "--model",
                "sample",
                "--report",
                &explained_text,
                IMAGE,
            ],
        ),
    ];
    for (what, words) in steps {
        out::note(format_args!("\n{what}\n$ clipcap {}\n", words.join(" ")));
        let cli = Cli::try_parse_from(std::iter::once("clipcap").chain(words.iter().copied()))
            .with_context(|| format!("`clipcap {}`", words.join(" ")))?;
        let code = dispatch(cli.command)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    out::note("\nTo look at:");
    for page in [report, explained, run.join("curves.svg"), run.join("best")] {
        out::line(page.display())?;
    }
    out::note(
        "\nNext: `clipcap serve` has a page to drop images on; `clipcap models` lists models for photographs.",
    );
    Ok(ExitCode::SUCCESS)
}

/// An image of the sample's test part.
const IMAGE: &str = "dataset/sample/images/006524.png";

/// A run's folder that is not there yet.
fn new_run() -> PathBuf {
    (1..)
        .map(|number| Path::new(ARTIFACTS).join(format!("demo-{number}")))
        .find(|run| !run.exists())
        .unwrap_or_default()
}
