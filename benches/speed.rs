//! This program's side of `speed.py`, which starts it and asks for one piece of work after another.
//!
//! `cargo bench --bench speed -- MODEL IMAGES [DEVICE [PRECISION]]` reads one JSON line a piece of work from standard input
//! and answers each with the seconds it took. Under the name `clipcap` it is the program itself, so that one file is all
//! that has to be carried to a machine with a GPU and without Rust.

#![recursion_limit = "256"]

// Cargo builds a bench without a harness with `cfg(test)`: the tests of these files are there, and nothing runs them.
#[allow(dead_code, unused_imports)]
#[path = "../src/cli/mod.rs"]
mod cli;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::TrainStep;
use clipcap::captioner::Captioner;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::data::batcher::{CaptionBatch, TokenBatch};
use clipcap::decode::Strategy;
use clipcap::device::DeviceChoice;
use clipcap::device::Precision;
use clipcap::images;
use clipcap::models::caption_model::{CaptionModel, Trainable};
use clipcap::models::resnet18::{ResNet18, ResNet18Config, Stem};
use clipcap::train::learner::{CaptionLearner, StepConfig};
use clipcap::trainer::optimizer::OptimizerConfig;
use cpu_kernels::memory::keep_freed_memory;
use cpu_kernels::threads::pin_threads;
use image::RgbImage;
use serde::Deserialize;

/// Images that the largest piece of work has.
const IMAGES: usize = 256;

/// One piece of work.
#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
enum Work {
    /// Images to embeddings.
    Clip { batch: usize },
    /// Embeddings to captions of so many tokens; no beams is greedy.
    Caption {
        batch: usize,
        beams: usize,
        tokens: usize,
    },
    /// One training step on captions of so many tokens, of the mapper or of GPT-2 too.
    Train {
        batch: usize,
        tokens: usize,
        joint: bool,
    },
    /// One training step of a ResNet-18 on images of so many pixels a side.
    Resnet18 {
        batch: usize,
        side: usize,
        width: usize,
        stem: Stem,
    },
}

/// A ResNet-18 and the images that it learns from.
struct Resnet18 {
    config: ResNet18Config,
    pixels: Tensor<4>,
}

struct Bench {
    device: Device,
    /// Of training; float32 unless told otherwise.
    precision: Precision,
    folder: ModelFolder,
    /// For captioning, until something is trained: both do not have to fit.
    captioner: Option<Captioner>,
    crops: Vec<RgbImage>,
    embeddings: Vec<Vec<f32>>,
    learner: Option<(bool, CaptionLearner, ModuleOptimizer)>,
    resnet18: Option<(Resnet18, ResNet18, ModuleOptimizer)>,
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(PathBuf::from);
    if name.is_some_and(|name| name.file_stem() == Some("clipcap".as_ref())) {
        return cli::run();
    }
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    // As the program does.
    keep_freed_memory();
    pin_threads();
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(model), Some(images)) = (args.next(), args.next()) else {
        println!("run `python benches/speed.py`, which makes a model and images for this");
        return Ok(());
    };
    let device: DeviceChoice = args.next().as_deref().unwrap_or("cpu").parse()?;
    let device = device.resolve()?;
    let precision = args
        .next()
        .map(|name| serde_json::from_value(name.into()).context("a precision"))
        .transpose()?;
    let mut bench = Bench::new(Path::new(&model), Path::new(&images), device, precision)?;
    for line in std::io::stdin().lock().lines() {
        let work = serde_json::from_str(&line?).context("a line of work")?;
        let start = Instant::now();
        bench.run(work)?;
        println!("{}", start.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Bench {
    fn new(
        model: &Path,
        images: &Path,
        device: Device,
        precision: Option<Precision>,
    ) -> Result<Self> {
        let captioning = precision.unwrap_or_else(|| Precision::default_for(&device));
        let builder = Captioner::builder().device(&device).precision(captioning);
        let captioner = builder.load(model)?;
        let mut paths: Vec<PathBuf> = std::fs::read_dir(images)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        paths.sort();
        let crops = paths
            .iter()
            .map(|path| Ok(captioner.encoder.crop(&images::open(path)?)))
            .collect::<Result<Vec<_>>>()?;
        // What is in an embedding does not matter here, and kernels for so many images would be compiled for it.
        let width = captioner.encoder.dim()?;
        let embedding = |row: usize| {
            (0..width)
                .map(|i| ((row * width + i) as f32).sin())
                .collect()
        };
        let embeddings = (0..crops.len()).map(embedding).collect();
        let crops = crops.iter().cycle().take(IMAGES).cloned().collect();
        Ok(Self {
            folder: ModelFolder::open(model)?,
            device,
            precision: precision.unwrap_or_default(),
            captioner: Some(captioner),
            crops,
            embeddings,
            learner: None,
            resnet18: None,
        })
    }

    fn run(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Clip { batch } => {
                let captioner = self.captioner.as_ref().context("captioning comes first")?;
                captioner.encoder.embed(&self.crops[..batch])?;
            }
            Work::Caption {
                batch,
                beams,
                tokens,
            } => {
                let decoder = &self.captioner.as_ref().context("captioning first")?.decoder;
                let mut config = decoder.decode_config(match beams {
                    0 => Strategy::Greedy,
                    beam_size => Strategy::Beam { beam_size },
                });
                config.max_length = tokens;
                config.stop_tokens.clear();
                let captions = decoder.caption(&self.embeddings[..batch], &config)?;
                if captions.len() != batch {
                    bail!("{} captions of {batch} images", captions.len());
                }
            }
            Work::Train {
                batch,
                tokens,
                joint,
            } => self.train(batch, tokens, joint)?,
            Work::Resnet18 {
                batch,
                side,
                width,
                stem,
            } => self.train_resnet18(batch, side, ResNet18Config { width, stem })?,
        }
        Ok(())
    }

    /// The mean of the embeddings' squares is what is made smaller.
    fn train_resnet18(&mut self, batch: usize, side: usize, config: ResNet18Config) -> Result<()> {
        (self.captioner, self.learner) = (None, None);
        let device = self.device.clone().autodiff();
        let kept = (self.resnet18.take()).filter(|(of, ..)| of.config == config);
        let (of, network, mut optimizer) = kept.unwrap_or_else(|| {
            let count = 3 * side * side;
            let values: Vec<f32> = (0..batch * count)
                .map(|i| ((i / count * 977 + i * 31) % 255) as f32 / 255.0)
                .collect();
            let pixels = TensorData::new(values, [batch, 3, side, side]);
            let pixels = Tensor::from_data(pixels, &device);
            let optimizer = OptimizerConfig::adam().init();
            (Resnet18 { config, pixels }, config.init(&device), optimizer)
        });
        let embeddings = network.forward(of.pixels.clone());
        let loss = (embeddings.clone() * embeddings).mean();
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        let network = optimizer.step(1e-3, network, grads);
        drop(loss.into_data());
        self.device.sync()?;
        self.resnet18 = Some((of, network, optimizer));
        Ok(())
    }

    fn train(&mut self, batch: usize, tokens: usize, joint: bool) -> Result<()> {
        self.captioner = None;
        let kept = self.learner.take().filter(|(kind, ..)| *kind == joint);
        let (_, learner, mut optimizer) = match kept {
            Some(learner) => learner,
            None => self.learner(joint)?,
        };
        let ids: Vec<Vec<u32>> = (0..batch)
            .map(|row| {
                (0..tokens)
                    .map(|i| (row * 977 + i * 31 + 5) as u32)
                    .collect()
            })
            .collect();
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let device = self.device.clone().autodiff();
        let values: Vec<f32> = self
            .embeddings
            .iter()
            .cycle()
            .take(batch)
            .flatten()
            .copied()
            .collect();
        let width = values.len() / batch;
        let batch = CaptionBatch {
            clip_embedding: Tensor::from_data(TensorData::new(values, [batch, width]), &device),
            tokens: TokenBatch::new(&rows, &device),
            references: Vec::new(),
            prompts: Vec::new(),
            weight: 1.0,
        };
        let output = TrainStep::step(&learner, batch);
        let learner = optimizer.step(2e-5, learner, output.grads);
        // Where the device works behind the host's back, the loss is what it has to be done for.
        drop(output.item.loss.into_data());
        self.device.sync()?;
        self.learner = Some((joint, learner, optimizer));
        Ok(())
    }

    fn learner(&self, joint: bool) -> Result<(bool, CaptionLearner, ModuleOptimizer)> {
        let model = CaptionModel {
            prefix_mapper: self.folder.load_mapper(&self.device)?,
            gpt2: self.folder.load_gpt2(&self.device)?,
        };
        let step = StepConfig {
            trainable: match joint {
                true => Trainable::MapperAndGpt2,
                false => Trainable::Mapper,
            },
            accumulation: 1,
            clip_norm: None,
            label_smoothing: 0.0,
            precision: self.precision,
        };
        let learner = CaptionLearner::new(model, step).train();
        Ok((joint, learner, OptimizerConfig::transformers_adamw().init()))
    }
}
