//! `clipcap infer`

mod decoding;
mod loading;
mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::captioner::{Caption, Captioner};
use clipcap::data::scenes;
use clipcap::data::source;
use clipcap::data::split::{SplitShares, ids};
use clipcap::decode::DecodeConfig;
use clipcap::engine::WeightType;
use clipcap::inputs::{self, Input, InputError};
use clipcap::train::caption::DATASET;
use clipcap::train::run;
use indicatif::ProgressBar;

use self::decoding::DecodeArgs;
use self::loading::{Batch, Item};
use self::output::{Output, OutputArgs};
use super::common::{DeviceArg, SAMPLE_MODEL};

/// Sample pictures captioned when none are given.
const SAMPLE_PICTURES: usize = 5;

/// Caption pictures; with no argument some of the sample's test pictures
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap infer photo.jpg holiday/ 'scans/**/*.png'\n  \
    clipcap infer --decode beam --num-captions 5 --rerank clip photo.jpg\n  \
    clipcap infer --recursive --format jsonl --output captions.jsonl photos/\n  \
    find photos -newer last | clipcap infer --format sidecar -")]
pub struct InferArgs {
    /// Picture files, folders of them, quoted patterns, or - for a list of files on standard input
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Look into the subfolders of folders
    #[arg(long, short)]
    recursive: bool,
    /// Model folder [default: the last run's, else the shipped sample model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Pictures captioned together
    #[arg(long, value_name = "N", default_value = "16")]
    batch_size: std::num::NonZeroUsize,
    /// How weights are kept in memory [default: f16 on the CPU, which computes in f32 always; f32 on GPUs, which compute in the
    /// weights' type]
    #[arg(long, value_enum)]
    weights: Option<WeightsArg>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum WeightsArg {
    /// As they are
    F32,
    /// In halves: half the memory, faster
    F16,
    /// In bytes, on the CPU: a quarter of the memory, and small differences in the numbers
    Int8,
}

impl From<WeightsArg> for WeightType {
    fn from(weights: WeightsArg) -> Self {
        match weights {
            WeightsArg::F32 => Self::F32,
            WeightsArg::F16 => Self::F16,
            WeightsArg::Int8 => Self::Int8,
        }
    }
}

pub fn run(args: InferArgs) -> Result<ExitCode> {
    let strategy = args.decoding.strategy();
    args.output.check();
    let device = args.device.resolve()?;
    let model = choose_model(args.model.as_deref())?;
    let weights = match args.weights {
        Some(weights) => weights.into(),
        None => WeightType::default_for(&device),
    };
    let captioner = Captioner::load_as(&model, &device, weights)?;
    let job = Job {
        config: args.decoding.config(strategy, &captioner.reader)?,
        num_captions: args.decoding.num_captions(),
        rerank_by_clip: args.decoding.rerank_by_clip(),
        captioner,
    };
    let (mut output, wanted) = Output::open(&args.output, job.num_captions, job.rerank_by_clip)?;
    let (inputs, count) = find(args.images, args.recursive)?;
    let bar = output.progress(count, args.batch_size.get());
    let preprocessing = job.captioner.encoder.preprocessing().clone();
    let batches = loading::start(inputs, wanted, preprocessing, args.batch_size.get());
    job.caption_all(batches, &mut output, &bar)?;
    bar.finish_and_clear();
    Ok(output.finish())
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

type Inputs = Box<dyn Iterator<Item = Result<Input, InputError>> + Send>;

/// The pictures asked for and, unless standard input has yet to tell, how many they are.
fn find(named: Vec<PathBuf>, recursive: bool) -> Result<(Inputs, Option<usize>)> {
    let named = if named.is_empty() {
        sample_pictures()?
    } else {
        named
    };
    let listed = named.iter().any(|name| name == Path::new("-"));
    let inputs = inputs::expand(named, recursive, io::BufReader::new(io::stdin()));
    if listed {
        return Ok((Box::new(inputs), None));
    }
    let inputs: Vec<_> = inputs.collect();
    let count = inputs.len();
    Ok((Box::new(inputs.into_iter()), Some(count)))
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

/// The model and what it is asked.
struct Job {
    captioner: Captioner,
    config: DecodeConfig,
    num_captions: usize,
    rerank_by_clip: bool,
}

impl Job {
    fn caption_all(
        &self,
        batches: Receiver<Batch>,
        output: &mut Output,
        bar: &ProgressBar,
    ) -> Result<()> {
        for batch in batches {
            let (kept, count) = (batch.kept, batch.items.len());
            let mut found = self.caption(&batch)?.into_iter();
            for item in batch.items {
                match item {
                    Item::Picture { input, target, .. } => {
                        let captions = found.next().context("a picture got no caption")?;
                        output.captions(&input.path, target.as_deref(), &captions)?;
                    }
                    Item::Failed { name, reason } => output.error(&name, &reason, bar)?,
                }
            }
            output.flush(kept)?;
            bar.inc((kept + count) as u64);
        }
        Ok(())
    }

    /// The captions of a batch's pictures, of each the best few.
    fn caption(&self, batch: &Batch) -> Result<Vec<Vec<Caption>>> {
        let crops: Vec<_> = batch.crops().cloned().collect();
        let embeddings = self.captioner.encoder.embed(&crops)?;
        let mut captions = self.captioner.reader.caption(&embeddings, &self.config)?;
        if self.rerank_by_clip {
            self.captioner.rerank(&embeddings, &mut captions)?;
        }
        for captions in &mut captions {
            captions.truncate(self.num_captions);
        }
        Ok(captions)
    }
}
