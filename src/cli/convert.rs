//! `clipcap convert`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgAction, Args};
use clipcap::convert::{ConvertConfig, convert, read_training_set};
use clipcap::files;

use super::out;

/// Make a model folder from checkpoints of CLIP, GPT-2 and ClipCap
///
/// The format of a checkpoint is detected automatically: safetensors, sharded or not, PyTorch files old and new, TorchScript
/// archives; Hugging Face's names, OpenAI's or open_clip's; vision transformers and ResNets. Nothing in a pickle is run.
#[derive(Args)]
#[command(after_help = "\
Examples:
  clipcap convert --clip clip-vit-base-patch32/ --gpt2 gpt2/ --captioner coco_weights.pt --output model/coco
  clipcap convert --clip RN50x4.pt --gpt2 gpt2/ --captioner transformer_weights.pt --output model/coco-rn
  clipcap convert --clip clip-vit-base-patch32/ --gpt2 distilgpt2/ --output model/base
  clipcap convert --training-set oscar_split_ViT-B_32_train.pkl --output dataset/coco")]
pub struct ConvertArgs {
    /// CLIP: a Hugging Face folder, or a .pt, .bin or .safetensors file in Hugging Face's, OpenAI's or open_clip's names
    #[arg(long, value_name = "SRC", required_unless_present_any = ["gpt2", "training_set"])]
    clip: Option<PathBuf>,
    /// GPT-2: a Hugging Face folder, or a file with its vocabulary beside it
    #[arg(long, value_name = "SRC")]
    gpt2: Option<PathBuf>,
    /// ClipCap or CapDec training checkpoint; a GPT-2 in it replaces the weights of --gpt2
    #[arg(long, value_name = "FILE", requires_all = ["clip", "gpt2"], conflicts_with = "training_set")]
    captioner: Option<PathBuf>,
    /// Divide the embedding by its norm before the mapper [default: true for a transformer mapper, false for the others]
    #[arg(long, value_name = "true|false", action = ArgAction::Set, requires = "captioner")]
    normalize_embedding: Option<bool>,
    /// Instead of a model: a training pickle of ClipCap's (`clip_embedding`), whose captions and embeddings are written out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clip", "gpt2"])]
    training_set: Option<PathBuf>,
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(args: ConvertArgs) -> Result<ExitCode> {
    if let Some(file) = args.training_set {
        files::check_free(&args.output)?;
        files::check_folder(&args.output)?;
        let written = read_training_set(&file)?.write(&args.output)?;
        out::line(format_args!(
            "wrote {}: {} captions of {} images, embeddings of {}",
            args.output.display(),
            written.captions,
            written.images,
            written.clip_dim
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = convert(&ConvertConfig {
        clip: args.clip,
        gpt2: args.gpt2,
        captioner: args.captioner,
        normalize_embedding: args.normalize_embedding,
        output: args.output,
    })?;
    out::line(report)?;
    Ok(ExitCode::SUCCESS)
}
