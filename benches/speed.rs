//! This program's side of `speed.py`, which starts it and asks for one piece of work after another.
//!
//! `cargo bench --bench speed -- MODEL FOLDER [DEVICE [PRECISION]]` reads one JSON line a piece of work from standard input
//! and answers each with a line, `{"seconds": ...}` or `{"error": ...}`. Where the work has `"dump": true`, the answer has what
//! was computed, as `out`; it is written down outside the clock. FOLDER has `images/` and `embeddings.json`, by `speed.py`.
//!
//! Under the name `clipcap` it is the program itself, so that one file is all that has to be carried to a machine with a GPU
//! and without Rust.

#![recursion_limit = "256"]

// Cargo builds a bench without a harness with `cfg(test)`: the tests of these files are there, and nothing runs them.
#[allow(dead_code, unused_imports)]
#[path = "../src/cli/mod.rs"]
mod cli;

use std::fs;
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
use clipcap::device::{DeviceChoice, Precision};
use clipcap::images;
use clipcap::models::caption_model::{CaptionModel, Trainable};
use clipcap::models::resnet18::{ResNet18, ResNet18Config, Stem};
use clipcap::train::learner::{CaptionLearner, StepConfig};
use clipcap::trainer::optimizer::OptimizerConfig;
use cpu_kernels::memory::keep_freed_memory;
use cpu_kernels::threads::pin_threads;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Images that the largest piece of work has.
const IMAGES: usize = 256;

/// A line of standard input.
#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    work: Work,
    #[serde(default)]
    dump: bool,
}

/// One piece of work.
#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
enum Work {
    /// Images to embeddings.
    Clip { batch: usize },
    /// Sentences to embeddings.
    Text { batch: usize },
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

/// What was computed.
#[derive(Serialize)]
#[serde(untagged)]
enum Out {
    Embeddings(Vec<Vec<f32>>),
    /// The best caption of each image.
    Tokens(Vec<Vec<u32>>),
    Loss(Option<f32>),
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
    let (Some(model), Some(folder)) = (args.next(), args.next()) else {
        println!("run `python benches/speed.py`, which makes a model and images for this");
        return Ok(());
    };
    let device: DeviceChoice = args.next().as_deref().unwrap_or("cpu").parse()?;
    let device = device.resolve()?;
    let precision = args
        .next()
        .map(|name| serde_json::from_value(name.into()).context("a precision"))
        .transpose()?;
    let mut bench = Bench::new(Path::new(&model), Path::new(&folder), device, precision)?;
    for line in std::io::stdin().lock().lines() {
        let Line { work, dump } = serde_json::from_str(&line?).context("a line of work")?;
        let start = Instant::now();
        let out = bench.run(work);
        let seconds = start.elapsed().as_secs_f64();
        let answer = match out {
            Ok(out) if dump => json!({"seconds": seconds, "out": out}),
            Ok(_) => json!({"seconds": seconds}),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Bench {
    fn new(
        model: &Path,
        folder: &Path,
        device: Device,
        precision: Option<Precision>,
    ) -> Result<Self> {
        let captioning = precision.unwrap_or_else(|| Precision::default_for(&device));
        let builder = Captioner::builder().device(&device).precision(captioning);
        let captioner = builder.load(model)?;
        let mut paths: Vec<PathBuf> = fs::read_dir(folder.join("images"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        paths.sort();
        let crops = paths
            .iter()
            .map(|path| Ok(captioner.encoder.crop(&images::open(path)?)))
            .collect::<Result<Vec<_>>>()?;
        // Not by this encoder: kernels for so many images would be compiled, and both sides begin with the same.
        let embeddings = fs::read(folder.join("embeddings.json"))?;
        let embeddings = serde_json::from_slice(&embeddings).context("embeddings.json")?;
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

    fn run(&mut self, work: Work) -> Result<Out> {
        match work {
            Work::Clip { batch } => {
                let encoder = &self.captioner()?.encoder;
                Ok(Out::Embeddings(encoder.embed(&self.crops[..batch])?))
            }
            Work::Text { batch } => {
                let encoder = &self.captioner()?.encoder;
                Ok(Out::Embeddings(encoder.embed_texts(&sentences(batch))?))
            }
            Work::Caption {
                batch,
                beams,
                tokens,
            } => self.caption(batch, beams, tokens),
            Work::Train {
                batch,
                tokens,
                joint,
            } => self.train(batch, tokens, joint),
            Work::Resnet18 {
                batch,
                side,
                width,
                stem,
            } => self.train_resnet18(batch, side, ResNet18Config { width, stem }),
        }
    }

    fn captioner(&self) -> Result<&Captioner> {
        self.captioner.as_ref().context("captioning comes first")
    }

    fn caption(&self, batch: usize, beams: usize, tokens: usize) -> Result<Out> {
        let decoder = &self.captioner()?.decoder;
        let mut config = decoder.decode_config(match beams {
            0 => Strategy::Greedy,
            beam_size => Strategy::Beam { beam_size },
        });
        config.max_length = tokens;
        config.stop_tokens.clear();
        let captions = decoder.caption(&self.embeddings[..batch], &config)?;
        let best = captions
            .into_iter()
            .filter_map(|found| found.into_iter().next());
        let tokens: Vec<_> = best.map(|caption| caption.tokens).collect();
        if tokens.len() != batch {
            bail!("{} captions of {batch} images", tokens.len());
        }
        Ok(Out::Tokens(tokens))
    }

    /// The mean of the embeddings' squares is what is made smaller.
    fn train_resnet18(&mut self, batch: usize, side: usize, config: ResNet18Config) -> Result<Out> {
        (self.captioner, self.learner) = (None, None);
        let device = self.device.clone().autodiff();
        let is_same = |of: &Resnet18| of.config == config && of.pixels.dims()[0] == batch;
        let kept = (self.resnet18.take()).filter(|(of, ..)| is_same(of));
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
        let loss = loss.into_data();
        self.device.sync()?;
        self.resnet18 = Some((of, network, optimizer));
        Ok(Out::Loss(loss.iter().next()))
    }

    fn train(&mut self, batch: usize, tokens: usize, joint: bool) -> Result<Out> {
        (self.captioner, self.resnet18) = (None, None);
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
            .flat_map(|row| normalized(row))
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
        let loss = output.item.loss.into_data();
        self.device.sync()?;
        self.learner = Some((joint, learner, optimizer));
        Ok(Out::Loss(loss.iter().next()))
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

/// As data sets have the embeddings that are trained on.
fn normalized(row: &[f32]) -> impl Iterator<Item = f32> {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(move |x| x / norm)
}

/// Sentences of ten words, those of `peers/common.py`.
fn sentences(count: usize) -> Vec<String> {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let word = |i: usize, j: usize| [letter(i * 7 + j * 3), letter(i * 5 + j * 11)];
    let sentence =
        |i: usize| -> Vec<String> { (0..10).map(|j| word(i, j).iter().collect()).collect() };
    (0..count).map(|i| sentence(i).join(" ")).collect()
}
