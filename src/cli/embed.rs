//! `clipcap embed`

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::captioner::ImageEncoder;
use clipcap::model_folder::ModelFolder;
use serde_json::json;

use super::common::{DeviceArg, SAMPLE_MODEL, open_all, picture_files};

/// Pictures embedded together.
const BATCH: usize = 32;

/// Print the CLIP embeddings of pictures: projected, not normalised
#[derive(Args)]
#[command(after_help = "Example:\n  clipcap embed --model model/mine photos/ > embeddings.jsonl")]
pub struct EmbedArgs {
    /// Picture files, or folders of them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
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
    let mut failed = false;
    for chunk in picture_files(&args.images).chunks(BATCH) {
        let opened = open_all(chunk);
        let crops: Vec<_> = opened
            .iter()
            .flatten()
            .map(|image| encoder.crop(image))
            .collect();
        let mut embeddings = encoder.embed(&crops)?.into_iter();
        let mut out = io::stdout().lock();
        for (path, image) in chunk.iter().zip(&opened) {
            let image_name = path.display().to_string();
            let line = match image {
                Ok(_) => json!({"image": image_name, "embedding": embeddings.next()}),
                Err(error) => {
                    failed = true;
                    json!({"image": image_name, "error": error.to_string()})
                }
            };
            writeln!(out, "{line}").context("writing to standard output")?;
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
