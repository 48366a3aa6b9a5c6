//! `clipcap pretrain`

pub mod encoder;
pub mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use clipcap::data::split::Split;
use clipcap::pretrain::encoder::EncoderRunConfig;
use clipcap::pretrain::run::{
    PretrainConfig, PretrainContext, PretrainData, Pretrained, pretrain_clip, pretrain_gpt2,
};
use clipcap::trainer::run;

use encoder::EncoderArgs;
use sample::SampleArgs;

use super::common::{
    RunArgs, STOPPED, TruncatedArg, interruptible, refuse_split_seed, report, valid,
};
use super::{complete, find, out};

/// Train CLIP, GPT-2 or another image encoder from scratch
#[derive(Args)]
#[command(after_help = "Example, the way model/sample was made:\n  \
    clipcap pretrain sample --output model/mine\n\
Part by part, with other data or settings:\n  \
    clipcap pretrain clip --output model/mine\n  \
    clipcap pretrain gpt2 --output model/mine\n  \
    clipcap train --model model/mine\n\
    From photographs with captions, in a larger network:\n  \
    clipcap pretrain clip --data captions.csv --images photos --width 192 --layers 6 --output model/mine\n\
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
    Clip(ClipArgs),
    /// GPT-2, by predicting the next token of captions
    Gpt2(Gpt2Args),
    /// A ResNet-18, by telling views of an image from those of others
    Simclr(EncoderArgs),
    /// A convolutional autoencoder
    Autoencoder(EncoderArgs),
    /// A ResNet-18, from the classes of images
    Resnet18(EncoderArgs),
    /// Principal components of the pixels
    Pca(EncoderArgs),
}

/// The model folder that gets what is trained.
#[derive(Args)]
struct ModelOutputArgs {
    /// Model folder that gets the trained part; one that has such a part is refused
    #[arg(long = "output", value_name = "DIR")]
    path: PathBuf,
    /// Replace the part that --output has already
    #[arg(long)]
    overwrite: bool,
}

/// What CLIP's and GPT-2's training share.
#[derive(Args)]
struct TargetArgs {
    #[command(flatten)]
    output: ModelOutputArgs,
    /// Begin with the weights and vocabulary of this model: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    from: Option<PathBuf>,
    /// Learn from this many generated images
    #[arg(long, value_name = "N", conflicts_with = "data")]
    scenes: Option<usize>,
    /// Learn from the training part of captioned images, in any format that `train --data` reads
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the images named in --data are in; may be given several times
    #[arg(long, value_name = "DIR", requires = "data", conflicts_with = "scenes")]
    images: Vec<PathBuf>,
    /// How the images of --data are divided, as `train --shares` says it: what is for testing is not looked at
    #[arg(
        long = "shares",
        alias = "split",
        value_name = "A/B/C|file|TRAIN,VAL,TEST",
        requires = "data",
        conflicts_with = "scenes"
    )]
    split: Option<Split>,
    /// Random seed that images are dealt into parts by, where shares do it; `train` takes its --seed [default: 1]
    #[arg(long, value_name = "N", requires = "data", conflicts_with = "scenes")]
    split_seed: Option<u64>,
    /// Folder with the vocabulary to write in: tokenizer.json, or vocab.json with merges.txt [default: one is learned]
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    vocabulary: Option<PathBuf>,
    /// Tokens of a vocabulary that is learned from the captions [default: 4096 with --data]
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "vocabulary"])]
    vocab_size: Option<usize>,
    /// Epochs [default: 6 for CLIP and 3 for GPT-2, 30 and 10 with --data]
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

#[derive(Args)]
struct ClipArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Side of the images that CLIP looks at, in pixels [default: 64]
    #[arg(long, value_name = "PIXELS", conflicts_with = "from")]
    image_size: Option<usize>,
    /// Side of a patch, in pixels [default: 8]
    #[arg(long, value_name = "PIXELS", conflicts_with = "from")]
    patch_size: Option<usize>,
    /// Channels of the vision transformer; the text tower has two thirds of them [default: 96]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    width: Option<usize>,
    /// Layers of the vision transformer; the text tower has three quarters of them [default: 4]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    layers: Option<usize>,
    /// Values of an embedding [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    embedding: Option<usize>,
    /// Weight of the loss of captions predicted from an embedding, beside the contrastive loss; 0 for none [default: 2]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    caption_weight: Option<f64>,
}

#[derive(Args)]
struct Gpt2Args {
    #[command(flatten)]
    target: TargetArgs,
    /// Channels [default: 64]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    width: Option<usize>,
    /// Layers [default: 4]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    layers: Option<usize>,
    /// Longest text in tokens, a prefix included [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    positions: Option<usize>,
}

/// Changes a setting that was given.
fn set<T: Copy>(setting: &mut T, given: Option<T>) {
    *setting = given.unwrap_or(*setting);
}

impl TargetArgs {
    fn apply(&self, mut config: PretrainConfig) -> PretrainConfig {
        if let Some(data) = &self.data {
            config = config.on_files(PretrainData::Files {
                captions: data.clone(),
                images: self.images.clone(),
                split: self.split.clone().unwrap_or_default(),
                split_seed: self.split_seed.unwrap_or(1),
            });
        }
        if let Some(count) = self.scenes {
            config.data = PretrainData::Scenes { count };
        }
        config.vocabulary = self.vocabulary.clone();
        set(&mut config.vocab_size, self.vocab_size);
        set(&mut config.epochs, self.epochs);
        set(&mut config.batch_size, self.batch_size);
        set(&mut config.seed, self.seed);
        set(&mut config.schedule.learning_rate, self.learning_rate);
        config
    }
}

impl TargetArgs {
    /// Ends the program where a flag is given that has no effect.
    fn refuse_idle(&self) {
        let shares = self.split.clone().unwrap_or_default();
        refuse_split_seed(&shares, self.split_seed.is_some());
    }
}

impl ClipArgs {
    fn config(&self) -> PretrainConfig {
        let mut config = self.target.apply(PretrainConfig::clip());
        let mut sizes = config.clip_sizes.take().unwrap_or_default();
        set(&mut sizes.image_size, self.image_size);
        set(&mut sizes.patch_size, self.patch_size);
        set(&mut sizes.width, self.width);
        set(&mut sizes.layers, self.layers);
        set(&mut sizes.embedding, self.embedding);
        config.clip_sizes = self.target.from.is_none().then_some(sizes);
        if let Some(weight) = self.caption_weight {
            config.caption_weight = (weight != 0.0).then_some(weight);
        }
        config
    }
}

impl Gpt2Args {
    fn config(&self) -> PretrainConfig {
        let mut config = self.target.apply(PretrainConfig::gpt2());
        let mut sizes = config.gpt2_sizes.take().unwrap_or_default();
        set(&mut sizes.width, self.width);
        set(&mut sizes.layers, self.layers);
        set(&mut sizes.positions, self.positions);
        config.gpt2_sizes = self.target.from.is_none().then_some(sizes);
        config
    }
}

pub fn run(args: PretrainArgs) -> Result<ExitCode> {
    let (mut config, args, kind) = match *args.target {
        Target::Clip(args) => (args.config(), args.target, "pretrain-clip"),
        Target::Gpt2(args) => (args.config(), args.target, "pretrain-gpt2"),
        Target::Sample(args) => return sample::run(&args),
        Target::Simclr(args) => return encoder::run(&args, EncoderRunConfig::simclr),
        Target::Autoencoder(args) => return encoder::run(&args, EncoderRunConfig::autoencoder),
        Target::Resnet18(args) => return encoder::run(&args, EncoderRunConfig::resnet18),
        Target::Pca(args) => return encoder::run(&args, EncoderRunConfig::pca),
    };
    args.truncated.apply();
    args.refuse_idle();
    valid(config.validate());
    config.from = args.from.as_deref().map(find::folder).transpose()?;
    let device = args.run.device.resolve()?;
    let folder = run::create(Path::new(run::ARTIFACTS), kind, args.run.name.as_deref())?;
    let context = PretrainContext {
        folder: &folder,
        output: &args.output.path,
        device: &device,
        ui: args.run.ui.into(),
        report: report(),
        interrupter: interruptible()?,
        resume: false,
        overwrite: args.output.overwrite,
    };
    let done = run::within(&folder, || match kind {
        "pretrain-clip" => pretrain_clip(&config, &context),
        _ => pretrain_gpt2(&config, &context),
    })?;
    finish(&done, &args.output.path, &folder)
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
