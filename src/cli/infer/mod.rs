//! `clipcap infer`

mod loading;
mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::captioner::Captioning;
use clipcap::data::scenes;
use clipcap::data::source;
use clipcap::data::split::{SplitShares, ids};
use clipcap::inputs::{self, Input, InputError};
use clipcap::train::caption::DATASET;
use indicatif::ProgressBar;

use self::loading::{Batch, Item};
use self::output::{Output, OutputArgs};
use crate::cli::decoding::DecodeArgs;
use crate::cli::model::ModelArgs;

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
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

pub fn run(args: InferArgs) -> Result<ExitCode> {
    args.output.check();
    let (_, captioning) = args.model.load(&args.decoding)?;
    let (mut output, wanted) = Output::open(
        &args.output,
        captioning.num_captions,
        captioning.rerank_by_clip,
    )?;
    let (inputs, count) = find(args.images, args.recursive)?;
    let batch_size = args.model.batch_size.get();
    let bar = output.progress(count, batch_size);
    let preprocessing = captioning.captioner.encoder.preprocessing().clone();
    let batches = loading::start(inputs, wanted, preprocessing, batch_size);
    caption_all(&captioning, batches, &mut output, &bar)?;
    bar.finish_and_clear();
    Ok(output.finish())
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

fn caption_all(
    captioning: &Captioning,
    batches: Receiver<Batch>,
    output: &mut Output,
    bar: &ProgressBar,
) -> Result<()> {
    for batch in batches {
        let (kept, count) = (batch.kept, batch.items.len());
        let crops: Vec<_> = batch.crops().cloned().collect();
        let mut found = captioning.caption(&crops)?.into_iter();
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
