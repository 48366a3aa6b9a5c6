//! `clipcap infer`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::{Caption, Captioner};
use clipcap::data::scenes;
use clipcap::data::source;
use clipcap::data::split::{SplitShares, ids};
use clipcap::decode::{DecodeConfig, Strategy};
use clipcap::picture::PictureError;
use clipcap::train::caption::DATASET;
use clipcap::train::run;
use serde_json::json;

use super::common::{DeviceArg, SAMPLE_MODEL, open_all, picture_files, usage};

/// Pictures captioned together.
const BATCH: usize = 16;
/// Sample pictures captioned when none are given.
const SAMPLE_PICTURES: usize = 5;

/// Caption pictures; with no argument some of the sample's test pictures
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap infer photo.jpg holiday/\n  \
    clipcap infer --decode beam --format jsonl photo.jpg > captions.jsonl")]
pub struct InferArgs {
    /// Picture files, or folders of them
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Model folder [default: the last run's, else the shipped sample model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "greedy")]
    decode: DecodeArg,
    /// Beams, with --decode beam
    #[arg(long, value_name = "N", default_value_t = 5)]
    beam_size: usize,
    /// Longest caption in tokens [default: 67, or what fits the model]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Captions a picture, best first, with --decode beam or sample
    #[arg(long, value_name = "N", default_value_t = 1)]
    num_captions: usize,
    /// Divides the scores before sampling: below 1 likely tokens become likelier
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Sample from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the likeliest tokens that together have probability P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Seed of sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum DecodeArg {
    /// The likeliest token each time
    Greedy,
    /// ClipCap's beam search
    Beam,
    /// Random tokens
    Sample,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    /// One line a caption
    Text,
    /// One JSON object a line
    Jsonl,
    /// A table with a header
    Csv,
}

impl InferArgs {
    fn strategy(&self) -> Strategy {
        match self.decode {
            DecodeArg::Greedy if self.num_captions != 1 => usage(
                ErrorKind::ArgumentConflict,
                "--num-captions needs --decode beam or --decode sample: greedy finds one caption",
            ),
            DecodeArg::Greedy => Strategy::Greedy,
            DecodeArg::Beam if self.num_captions > self.beam_size => usage(
                ErrorKind::ArgumentConflict,
                &format!(
                    "--num-captions {} needs a --beam-size of at least as many",
                    self.num_captions
                ),
            ),
            DecodeArg::Beam => Strategy::Beam {
                beam_size: self.beam_size,
            },
            DecodeArg::Sample => Strategy::Sample {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
                num_captions: self.num_captions,
            },
        }
    }
}

pub fn run(args: InferArgs) -> Result<ExitCode> {
    let strategy = args.strategy();
    let device = args.device.resolve()?;
    let model = choose_model(args.model.as_deref())?;
    let captioner = Captioner::load(&model, &device)?;
    let mut config = captioner.reader.decode_config(strategy);
    config.max_length = args.max_length.unwrap_or(config.max_length);
    config.validate()?;
    let paths = if args.images.is_empty() {
        sample_pictures()?
    } else {
        picture_files(&args.images)
    };

    let mut output = Output::new(args.format)?;
    for chunk in paths.chunks(BATCH) {
        caption_chunk(&captioner, &config, chunk, args.num_captions, &mut output)?;
    }
    output.finish()
}

fn choose_model(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(model) = given {
        return Ok(model.to_path_buf());
    }
    let (model, which) = match run::latest_model(Path::new(run::ARTIFACTS)) {
        Some(model) => (model, "the last run"),
        None => (PathBuf::from(SAMPLE_MODEL), "the shipped sample model"),
    };
    eprintln!("model: {} ({which})", model.display());
    Ok(model)
}

/// The first pictures of the sample's test part, which no run with the default split trains on.
fn sample_pictures() -> Result<Vec<PathBuf>> {
    let sample = Path::new(DATASET).join("sample");
    let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
    let images = source::load(&annotations, &[sample.join("images")])?.images;
    let test = SplitShares::default().split(&ids(&images), 1).test;
    Ok(test
        .into_iter()
        .take(SAMPLE_PICTURES)
        .map(|index| sample.join("images").join(&images[index].file_name))
        .collect())
}

fn caption_chunk(
    captioner: &Captioner,
    config: &DecodeConfig,
    paths: &[PathBuf],
    num_captions: usize,
    output: &mut Output,
) -> Result<()> {
    let opened = open_all(paths);
    let images: Vec<_> = opened
        .iter()
        .filter_map(|image| image.as_ref().ok().cloned())
        .collect();
    let mut captions = captioner.caption_batch(&images, config)?.into_iter();
    for (path, image) in paths.iter().zip(opened) {
        match image {
            Ok(_) => {
                let found = captions.next().context("a picture got no caption")?;
                for (rank, caption) in found.iter().take(num_captions).enumerate() {
                    output.caption(path, rank, caption)?;
                }
            }
            Err(error) => output.error(path, &error)?,
        }
    }
    Ok(())
}

/// Captions on standard output, as they come.
struct Output {
    format: Format,
    failed: bool,
}

impl Output {
    fn new(format: Format) -> Result<Self> {
        let output = Self {
            format,
            failed: false,
        };
        if format == Format::Csv {
            output.csv(&["image", "rank", "caption", "log_prob", "score", "error"])?;
        }
        Ok(output)
    }

    fn caption(&mut self, path: &Path, rank: usize, found: &Caption) -> Result<()> {
        let image = path.display().to_string();
        match self.format {
            Format::Text => self.line(&format!("{image}: {}", found.caption)),
            Format::Jsonl => self.line(
                &json!({
                    "image": image, "rank": rank, "caption": found.caption, "tokens": found.tokens,
                    "log_prob": found.log_prob, "score": found.score,
                })
                .to_string(),
            ),
            Format::Csv => self.csv(&[
                &image,
                &rank.to_string(),
                &found.caption,
                &found.log_prob.to_string(),
                &found.score.to_string(),
                "",
            ]),
        }
    }

    fn error(&mut self, path: &Path, error: &PictureError) -> Result<()> {
        self.failed = true;
        let image = path.display().to_string();
        match self.format {
            Format::Text => {
                eprintln!("error: {error}");
                Ok(())
            }
            Format::Jsonl => {
                self.line(&json!({"image": image, "error": error.to_string()}).to_string())
            }
            Format::Csv => self.csv(&[&image, "", "", "", "", &error.to_string()]),
        }
    }

    fn csv(&self, fields: &[&str]) -> Result<()> {
        let mut writer = csv::Writer::from_writer(io::stdout().lock());
        writer
            .write_record(fields)
            .context("writing to standard output")?;
        writer.flush().context("writing to standard output")
    }

    fn line(&self, line: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("writing to standard output")
    }

    fn finish(self) -> Result<ExitCode> {
        Ok(if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
