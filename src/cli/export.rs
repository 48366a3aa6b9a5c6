//! `clipcap export`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::convert::export;

use super::out;
use super::{complete, find};

/// Write a model folder's weights as PyTorch's code knows them
///
/// A file ending in .safetensors gets mapper and GPT-2 under ClipCap's names. A folder gets that file as
/// captioner.safetensors, and clip/ and gpt2/ beside it, in Hugging Face's names (a ResNet in open_clip's). `convert` makes the
/// same model folder of them again.
#[derive(Args)]
#[command(after_help = "\
Examples:
  clipcap export model/sample --output captioner.safetensors
  clipcap export artifacts/train-1/best --output exported/
  clipcap convert --clip exported/clip --gpt2 exported/gpt2 --captioner exported/captioner.safetensors --output model/again")]
pub struct ExportArgs {
    /// Model: a folder, or a name that `clipcap models` lists
    #[arg(value_name = "DIR|NAME", add = complete::models())]
    model: PathBuf,
    /// File to write, ending in .safetensors, or folder to make
    #[arg(long, value_name = "FILE|DIR")]
    output: PathBuf,
}

pub fn run(args: ExportArgs) -> Result<ExitCode> {
    for file in export(&find::folder(&args.model)?, &args.output)? {
        out::line(format_args!("wrote {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
