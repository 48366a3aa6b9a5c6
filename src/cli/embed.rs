//! `clipcap embed`

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::captioner::ImageEncoder;
use clipcap::inputs::{self, Input, InputError};
use clipcap::model_folder::ModelFolder;
use serde_json::json;

use super::common::{DeviceArg, SAMPLE_MODEL, open_crops};

/// Pictures embedded together.
const BATCH: usize = 32;

/// Print the CLIP embeddings of pictures: projected, not normalised
#[derive(Args)]
#[command(after_help = "Example:\n  clipcap embed --model model/mine photos/ > embeddings.jsonl")]
pub struct EmbedArgs {
    /// Picture files, folders of them, quoted patterns, or - for a list of files on standard input
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Look into the subfolders of folders
    #[arg(long, short)]
    recursive: bool,
    /// Model folder
    #[arg(long, value_name = "DIR", default_value = SAMPLE_MODEL)]
    model: PathBuf,
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
}

pub fn run(args: EmbedArgs) -> Result<ExitCode> {
    let Format::Jsonl = args.format;
    let device = args.device.resolve()?;
    let encoder = ImageEncoder::load(&ModelFolder::open(&args.model)?, &device)?;
    let mut inputs =
        inputs::expand(args.images, args.recursive, io::BufReader::new(io::stdin())).peekable();
    let mut failed = false;
    while inputs.peek().is_some() {
        let batch: Vec<_> = inputs.by_ref().take(BATCH).collect();
        failed |= embed(&encoder, &batch)?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints a line for each picture; tells whether one failed.
fn embed(encoder: &ImageEncoder, batch: &[Result<Input, InputError>]) -> Result<bool> {
    let paths: Vec<PathBuf> = batch
        .iter()
        .flatten()
        .map(|input| input.path.clone())
        .collect();
    let mut opened = open_crops(&paths, encoder.preprocessing()).into_iter();
    let crops: Vec<_> = opened.as_slice().iter().flatten().cloned().collect();
    let mut embeddings = encoder.embed(&crops)?.into_iter();
    let mut failed = false;
    let mut out = io::stdout().lock();
    for input in batch {
        let (path, error) = match input {
            Ok(input) => {
                let opened = opened.next().context("a picture was not opened")?;
                (
                    input.path.as_path(),
                    opened.err().map(|error| error.to_string()),
                )
            }
            Err(error) => (error.path(), Some(error.to_string())),
        };
        let image = path.display().to_string();
        failed |= error.is_some();
        let line = match error {
            None => json!({"image": image, "embedding": embeddings.next()}),
            Some(error) => json!({"image": image, "error": error}),
        };
        writeln!(out, "{line}").context("writing to standard output")?;
    }
    Ok(failed)
}
