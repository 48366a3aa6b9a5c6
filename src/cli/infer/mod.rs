//! `clipcap infer`

mod loading;
mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::captioner::{Captioner, Search};
use clipcap::data::source;
use clipcap::data::split::{SplitShares, ids};
use clipcap::datasets::{self, scenes};
use clipcap::images;
use clipcap::inputs::{self, Expansion, Input, InputError, OtherFiles, STDIN};
use clipcap::shards::{self, Settings, ShardFile, Task};
use indicatif::ProgressBar;

use self::loading::{Item, Loader};
use self::output::{Output, OutputArgs};
use crate::cli::common::{FoundArgs, valid};
use crate::cli::decoding::DecodeArgs;
use crate::cli::model::ModelArgs;
use crate::cli::shards::ShareArg;

/// Sample images captioned when none are given.
const SAMPLE_IMAGES: usize = 5;

/// Caption images; with no argument some of the sample's test images
#[derive(Args)]
#[command(
    alias = "caption",
    after_help = "Examples:\n  \
    clipcap infer photo.jpg holiday/ 'scans/**/*.png'\n  \
    clipcap infer --decode beam --num-captions 5 --rerank clip photo.jpg\n  \
    clipcap infer --recursive --format jsonl --output captions.jsonl photos/\n  \
    clipcap infer --decode sample --best-of 20 --consensus --bad-words photo,image photo.jpg\n  \
    find photos -newer last | clipcap infer --format sidecar -\n  \
    clipcap infer --output captions/ 'shards/{00000..00999}.tar'\n  \
    curl https://example.org/photo.jpg | clipcap infer -"
)]
pub struct InferArgs {
    /// Image files, folders of them, quoted patterns, addresses (--allow-urls), or - for a list of these, or for an image,
    /// on standard input; or WebDataset shards (.tar, .tar.gz, .tar.zst), folders of them, names such as {000..999}.tar
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    share: ShareArg,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

pub fn run(args: InferArgs) -> Result<ExitCode> {
    args.decoding.refuse_other_searches();
    args.found.truncated.apply();
    valid(shards::check_names(&args.images));
    if let Some(found) = shards::find(&args.images, args.found.recursive)? {
        return caption_shards(&args, found);
    }
    args.output.check();
    args.share.refuse();
    let (_, captioner, search) = args.model.load(&args.decoding)?;
    let (mut output, wanted) = Output::open(&args.output, search.num_captions, search.rerank)?;
    let expansion = args.found.expansion();
    let others = OtherFiles::default();
    let (inputs, count) = find_images(args.images, expansion, &others)?;
    let batch_size = args.model.batch_size.get();
    let bar = output.progress(count, batch_size);
    let preprocessing = captioner.encoder.preprocessing().clone();
    let loader = Loader::start(inputs, wanted, preprocessing, batch_size)?;
    let inputs = caption_all(&captioner, &search, loader, &mut output, &bar)?;
    bar.finish_and_clear();
    output.finish(inputs, &others)
}

/// Captions shards, each into a file of its own.
fn caption_shards(args: &InferArgs, found: Vec<ShardFile>) -> Result<ExitCode> {
    args.output.check_of_shards();
    let output = args.output.of_shards();
    let Some(jobs) = output.jobs(found, args.share)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let text = args.output.text()?;
    let (model, captioner, search) = args.model.load(&args.decoding)?;
    let settings = Settings::default()
        .with("command", "infer")
        .with("precision", format!("{:?}", captioner.encoder.precision()))
        .with("search", format!("{search:?}"))
        .with("datastore", format!("{:?}", args.model.memory()))
        .with("text", format!("{text:?}"))
        .with("truncated_images", images::allows_truncated().to_string())
        .with_model(&model)?;
    let task = Task::Caption {
        captioner: &captioner,
        search: &search,
        text: &text,
    };
    output.run(task, &settings, &jobs, args.model.batch_size.get())
}

/// What is to be captioned, each with the reason where it cannot be opened.
pub(super) type Inputs = Box<dyn Iterator<Item = Result<Input, InputError>> + Send>;

/// The images asked for and, unless standard input has yet to tell, how many they are.
pub(super) fn find_images(
    named: Vec<PathBuf>,
    expansion: Expansion,
    others: &OtherFiles,
) -> Result<(Inputs, Option<usize>)> {
    let named = if named.is_empty() {
        eprintln!("no image is named: these are of the sample's test part");
        sample_images()?
    } else {
        named
    };
    let listed = named.iter().any(|name| name == Path::new(STDIN));
    let stdin = io::BufReader::new(io::stdin());
    let inputs = inputs::expand(named, expansion, stdin, others);
    if listed {
        return Ok((Box::new(inputs), None));
    }
    let inputs: Vec<_> = inputs.collect();
    let count = inputs.len();
    Ok((Box::new(inputs.into_iter()), Some(count)))
}

/// The first images of the sample's test part, which no run with the default split trains on.
fn sample_images() -> Result<Vec<PathBuf>> {
    let sample = Path::new(datasets::FOLDER).join("sample");
    let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
    let images = source::load(&annotations, &[sample.join("images")])?.images;
    let test = SplitShares::default().split(&ids(&images), 1).test;
    Ok(test
        .into_iter()
        .take(SAMPLE_IMAGES)
        .map(|index| sample.join("images").join(&images[index].file_name))
        .collect())
}

/// Captions all images, and tells how many inputs there were.
fn caption_all(
    captioner: &Captioner,
    search: &Search,
    loader: Loader,
    output: &mut Output,
    bar: &ProgressBar,
) -> Result<usize> {
    while let Some(batch) = loader.next() {
        let (kept, count) = (batch.kept, batch.items.len());
        let crops: Vec<_> = batch.crops().cloned().collect();
        let mut found = captioner.caption_crops(&crops, search)?.into_iter();
        for item in batch.items {
            match item {
                Item::Image { input, target, .. } => {
                    let captions = found.next().context("an image got no caption")?;
                    output.captions(&input.path, target.as_deref(), captions)?;
                }
                Item::Failed(failure) => output.error(&failure, bar)?,
            }
        }
        output.flush(kept)?;
        bar.inc((kept + count) as u64);
    }
    loader.finish()
}
