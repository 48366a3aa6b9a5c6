//! `clipcap train`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use clipcap::caption_model::Trainable;
use clipcap::data::noise::NoiseMode;
use clipcap::data::split::SplitShares;
use clipcap::mapper::MapperKind;
use clipcap::train::caption::{DATASET, TrainContext, Trained, train};
use clipcap::train::config::{CaptionChoice, TrainConfig};
use clipcap::train::run;

use super::common::{DeviceArg, SAMPLE_MODEL, UiArg, interruptible, report};

/// Captions shown at the end.
const SHOWN: usize = 6;

/// Train the mapper, or mapper and GPT-2; with no argument on the shipped sample
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap train\n      the shipped sample: 1,000 generated scenes, about two minutes on two cores\n  \
    clipcap train --model model/mine --data annotations/captions_train2017.json --images train2017\n      \
    the paper's settings on COCO: mapper and GPT-2, Adam at 5e-5, 20 epochs, images split 80/10/10")]
pub struct TrainArgs {
    /// Model folder that CLIP and GPT-2 come from
    #[arg(long, value_name = "DIR", default_value = SAMPLE_MODEL)]
    model: PathBuf,
    /// COCO caption annotations [default: the generated sample]
    #[arg(long, value_name = "FILE", requires = "images")]
    data: Option<PathBuf>,
    /// Folder of the annotations' pictures
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Option<PathBuf>,
    /// Shares of the images to train on, validate on and test on, in percent [default: 80/10/10]
    #[arg(long, value_name = "A/B/C")]
    split: Option<SplitShares>,
    /// What is trained [default: mapper on the sample, mapper-and-gpt2 elsewhere]
    #[arg(long, value_enum)]
    trainable: Option<TrainableArg>,
    #[arg(long, value_enum, default_value = "transformer")]
    mapper: MapperArg,
    /// Vectors that GPT-2 reads before the caption
    #[arg(long, value_name = "N", default_value_t = 40)]
    prefix_length: usize,
    /// Vectors that the transformer mapper reads the embedding as
    #[arg(long, value_name = "N", default_value_t = 40)]
    clip_length: usize,
    /// Layers of the transformer mapper
    #[arg(long, value_name = "N", default_value_t = 8)]
    layers: usize,
    /// Where noise is put on the normalised embedding
    #[arg(long, value_enum, default_value = "coordinates")]
    noise: NoiseArg,
    /// Share of the coordinates, or of the samples, that get noise; for relative noise its norm
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    noise_rate: f64,
    /// Variance of the noise
    #[arg(long, value_name = "VARIANCE", default_value_t = 0.016)]
    noise_variance: f64,
    /// Do not divide the embedding by its norm
    #[arg(long)]
    no_normalize: bool,
    /// See an image with each of its captions in an epoch, or with a random one [default: one on the sample, all elsewhere]
    #[arg(long, value_enum)]
    captions: Option<CaptionsArg>,
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Peak learning rate [default: 2e-3 on the sample, 5e-5 elsewhere]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Optimiser steps of linear rise to the peak
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name of the run's folder in artifacts/ [default: train-1, train-2, ...]
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    ui: UiArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum TrainableArg {
    /// The mapper alone
    Mapper,
    /// The mapper and GPT-2
    MapperAndGpt2,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MapperArg {
    Transformer,
    Mlp,
    Linear,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CaptionsArg {
    All,
    One,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum NoiseArg {
    /// No noise
    None,
    /// Gaussian noise on a random share of the coordinates (the paper)
    Coordinates,
    /// Gaussian noise on all of a random share of the embeddings
    Samples,
    /// A random direction of a given share of the embedding's norm
    Relative,
    /// Gaussian noise on every coordinate (CapDec)
    Gaussian,
    /// A random point in a ball (CapDec)
    Ball,
}

impl TrainArgs {
    fn config(&self) -> TrainConfig {
        let mut config = match (&self.data, &self.images) {
            (Some(captions), Some(images)) => {
                TrainConfig::paper(captions.clone(), images.clone(), self.model.clone())
            }
            _ => TrainConfig::sample(self.model.clone()),
        };
        config.mapper = match self.mapper {
            MapperArg::Mlp => MapperKind::Mlp,
            MapperArg::Linear => MapperKind::Linear,
            MapperArg::Transformer => MapperKind::Transformer {
                clip_length: self.clip_length,
                layers: self.layers,
                heads: 8,
            },
        };
        config.prefix_length = self.prefix_length;
        config.normalize_embedding = !self.no_normalize;
        config.noise.mode = match self.noise {
            NoiseArg::None => NoiseMode::None,
            NoiseArg::Coordinates => NoiseMode::Coordinates,
            NoiseArg::Samples => NoiseMode::Samples,
            NoiseArg::Relative => NoiseMode::Relative,
            NoiseArg::Gaussian => NoiseMode::Gaussian,
            NoiseArg::Ball => NoiseMode::Ball,
        };
        config.noise.rate = self.noise_rate;
        config.noise.variance = self.noise_variance;
        config.split = self.split.unwrap_or(config.split);
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch_size = self.batch_size.unwrap_or(config.batch_size);
        config.schedule.learning_rate = self.learning_rate.unwrap_or(config.schedule.learning_rate);
        config.schedule.warmup_steps = self.warmup_steps.unwrap_or(config.schedule.warmup_steps);
        config.seed = self.seed.unwrap_or(config.seed);
        if let Some(trainable) = self.trainable {
            config.trainable = match trainable {
                TrainableArg::Mapper => Trainable::Mapper,
                TrainableArg::MapperAndGpt2 => Trainable::MapperAndGpt2,
            };
        }
        if let Some(captions) = self.captions {
            config.captions = match captions {
                CaptionsArg::All => CaptionChoice::All,
                CaptionsArg::One => CaptionChoice::One,
            };
        }
        config
    }
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    let config = args.config();
    config.validate()?;
    let device = args.device.resolve()?;
    let folder = run::create(Path::new(run::ARTIFACTS), "train", args.run.as_deref())?;
    let context = TrainContext {
        folder: &folder,
        dataset: Path::new(DATASET),
        device: &device,
        ui: args.ui.into(),
        report: report(),
        interrupter: interruptible()?,
    };
    let started = Instant::now();
    let trained = train(&config, &context)?;
    show(&trained, &folder, started.elapsed().as_secs_f64());
    Ok(if trained.interrupted {
        ExitCode::from(130)
    } else {
        ExitCode::SUCCESS
    })
}

fn show(trained: &Trained, folder: &Path, seconds: f64) {
    for captioned in trained.test.iter().take(SHOWN) {
        println!("{}", captioned.file_name);
        println!("  caption    {}", captioned.caption);
        for (i, reference) in captioned.references.iter().take(2).enumerate() {
            println!(
                "  {} {reference}",
                if i == 0 { "reference " } else { "          " }
            );
        }
    }
    if let Some(accuracy) = trained.main_object_accuracy {
        println!(
            "{:.1}% of the {} test captions name the main object's colour and shape (no test image was trained on)",
            100.0 * accuracy,
            trained.test.len()
        );
    }
    if let Some((epoch, loss)) = trained.best {
        println!("epoch {epoch} was best, with a validation loss of {loss:.3}");
    }
    println!(
        "{} after {seconds:.0} s; the model is {}, the run {}",
        if trained.interrupted {
            "stopped"
        } else {
            "done"
        },
        trained.model.display(),
        folder.display()
    );
}
