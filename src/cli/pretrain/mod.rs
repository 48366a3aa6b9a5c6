//! `clipcap pretrain`

pub mod encoder;
pub mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use clipcap::pretrain::encoder::EncoderRunConfig;
use clipcap::pretrain::run::{
    PretrainConfig, PretrainContext, PretrainData, Pretrained, pretrain_clip, pretrain_gpt2,
};
use clipcap::trainer::run;

use encoder::EncoderArgs;
use sample::SampleArgs;

use super::common::{RunArgs, STOPPED, TruncatedArg, interruptible, report, valid};
use super::{complete, find, out};

/// Train CLIP, GPT-2 or another image encoder from scratch
#[derive(Args)]
#[command(after_help = "Example, the way model/sample was made:\n  \
    clipcap pretrain sample --output model/mine\n\
Part by part, with other data or settings:\n  \
    clipcap pretrain clip --output model/mine\n  \
    clipcap pretrain gpt2 --output model/mine\n  \
    clipcap train --model model/mine\n\
    An encoder learned from images alone:\n  \
    clipcap pretrain simclr --output model/simclr\n  \
    clipcap probe --encoder model/simclr")]
pub struct PretrainArgs {
    #[command(subcommand)]
    target: Box<Target>,
}

#[derive(Subcommand)]
enum Target {
    /// The sample model: CLIP, GPT-2 and the mapper, one after the other
    Sample(SampleArgs),
    /// CLIP, by contrasting images with sentences
    Clip(TargetArgs),
    /// GPT-2, by predicting the next token of captions
    Gpt2(TargetArgs),
    /// A ResNet-18, by telling views of an image from those of others
    Simclr(EncoderArgs),
    /// A convolutional autoencoder
    Autoencoder(EncoderArgs),
    /// A ResNet-18, from the classes of images
    Resnet18(EncoderArgs),
    /// Principal components of the pixels
    Pca(EncoderArgs),
}

#[derive(Args)]
struct TargetArgs {
    /// Model folder that gets the trained part
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Begin with the weights and vocabulary of this model: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    from: Option<PathBuf>,
    /// Learn from this many generated images
    #[arg(long, value_name = "N", conflicts_with = "data")]
    scenes: Option<usize>,
    /// Learn from captioned images, in any format that `train --data` reads
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the images named in --data are in; may be given several times
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Vec<PathBuf>,
    /// Times that the data is gone through [default: 6 for CLIP, 3 for GPT-2]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images or captions in a batch [default: 64 for CLIP, 32 for GPT-2]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Peak learning rate [default: 1e-3 for CLIP, 2e-3 for GPT-2]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Seed of everything random [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    run: RunArgs,
}

impl TargetArgs {
    fn apply(&self, mut config: PretrainConfig) -> PretrainConfig {
        if let Some(data) = &self.data {
            config.data = PretrainData::Files {
                captions: data.clone(),
                images: self.images.clone(),
            };
        }
        if let Some(count) = self.scenes {
            config.data = PretrainData::Scenes { count };
        }
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch_size = self.batch_size.unwrap_or(config.batch_size);
        config.seed = self.seed.unwrap_or(config.seed);
        config.schedule.learning_rate = self.learning_rate.unwrap_or(config.schedule.learning_rate);
        config
    }
}

pub fn run(args: PretrainArgs) -> Result<ExitCode> {
    let (args, config, kind) = match *args.target {
        Target::Clip(args) => (args, PretrainConfig::clip(), "pretrain-clip"),
        Target::Gpt2(args) => (args, PretrainConfig::gpt2(), "pretrain-gpt2"),
        Target::Sample(args) => return sample::run(&args),
        Target::Simclr(args) => return encoder::run(&args, EncoderRunConfig::simclr),
        Target::Autoencoder(args) => return encoder::run(&args, EncoderRunConfig::autoencoder),
        Target::Resnet18(args) => return encoder::run(&args, EncoderRunConfig::resnet18),
        Target::Pca(args) => return encoder::run(&args, EncoderRunConfig::pca),
    };
    args.truncated.apply();
    let mut config = args.apply(config);
    valid(config.validate());
    config.from = args.from.as_deref().map(find::folder).transpose()?;
    let device = args.run.device.resolve()?;
    let folder = run::create(Path::new(run::ARTIFACTS), kind, args.run.name.as_deref())?;
    let context = PretrainContext {
        folder: &folder,
        output: &args.output,
        device: &device,
        ui: args.run.ui.into(),
        report: report(),
        interrupter: interruptible()?,
        resume: false,
    };
    let done = run::within(&folder, || match kind {
        "pretrain-clip" => pretrain_clip(&config, &context),
        _ => pretrain_gpt2(&config, &context),
    })?;
    finish(&done, &args.output, &folder)
}

/// Says what was made and where.
fn finish(done: &Pretrained, output: &Path, folder: &Path) -> Result<ExitCode> {
    let mut text = String::new();
    if let Some((epoch, loss)) = done.best {
        text = format!(
            "{} parameters; epoch {epoch} was best, with a validation loss of {loss:.3}\n",
            done.parameters
        );
    }
    let (output, folder) = (output.display(), folder.display());
    let told = out::text(&format!("{text}wrote {output} (run: {folder})\n"));
    if done.interrupted {
        return Ok(ExitCode::from(STOPPED));
    }
    told?;
    Ok(ExitCode::SUCCESS)
}
