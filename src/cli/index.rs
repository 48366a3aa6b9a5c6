//! `clipcap index`

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::captioner::{ImageEncoder, open_crops};
use clipcap::data::source::Format;
use clipcap::data::split::Split;
use clipcap::data::split_lists;
use clipcap::datasets::{self, scenes};
use clipcap::evaluate::model::{Part, part_of};
use clipcap::inputs::{self, Input, InputError, OtherFiles};
use clipcap::path_text;
use clipcap::retrieve::{Builder, Built, EXACT_BELOW, Entry, Kind};
use clipcap::sample_model::NAME as SAMPLE;

use super::common::{DeviceArg, FoundArgs, refuse_idle, refuse_split_seed, usage};
use super::{complete, find, out};

/// Entries embedded together.
const BATCH: usize = 64;
/// Batches between two lines that say how far it is.
const TOLD_EVERY: usize = 64;

/// Build a datastore of captions or images, to be searched by `search` and read by `infer --retrieve` and --project-memory
///
/// A build that was interrupted goes on where it was when the same command is given again.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap index captions.json --model model/mine --output stores/captions\n  \
    clipcap index --split train captions.json --model model/mine --output stores/captions\n      \
    the captions of the part that `train` trains on, so that none of the others is looked up\n  \
    clipcap index photos/ --recursive --model model/mine --output stores/photos\n  \
    clipcap index more/ --append --model model/mine --output stores/photos")]
pub struct IndexArgs {
    /// Captions in any format that `train --data` reads, or a text with one a line; or images: files, folders, quoted
    /// patterns, addresses (--allow-urls), or - for a list of these on standard input [default: the captions of the
    /// generated sample]
    #[arg(value_name = "CAPTIONS|IMAGE")]
    inputs: Vec<PathBuf>,
    /// What the inputs are [default: captions if there is one file that is no image, else images]
    #[arg(long, value_enum, value_name = "KIND")]
    of: Option<KindArg>,
    /// Folder for the datastore
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Add to the datastore that is there; what it has is not embedded again
    #[arg(long)]
    append: bool,
    /// Model that CLIP comes from: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", default_value = SAMPLE, add = complete::models())]
    model: PathBuf,
    /// Part of the captions' images to take the captions of: train, val, test or all
    #[arg(long, value_name = "PART", default_value = "all")]
    split: Part,
    /// How the images are divided, as `train --shares` says it: shares in percent, `file`, three lists, or `auto` [default: auto]
    #[arg(long, value_name = "A/B/C|file|TRAIN,VAL,TEST")]
    shares: Option<Split>,
    /// Seed that the images are divided by [default: 1]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// Entries from which a graph is built (HNSW), which finds nearly all that comparing with every entry does, sooner
    #[arg(long, value_name = "N", default_value_t = EXACT_BELOW)]
    exact_below: usize,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum KindArg {
    /// Captions
    Captions,
    /// Images
    Images,
}

impl IndexArgs {
    fn kind(&self) -> Kind {
        match (self.of, &self.inputs[..]) {
            (Some(KindArg::Captions), _) | (None, []) => Kind::Captions,
            (Some(KindArg::Images), _) => Kind::Images,
            (None, [one]) if one.is_file() && !inputs::is_image(one).unwrap_or(false) => {
                Kind::Captions
            }
            (None, _) => Kind::Images,
        }
    }
}

impl IndexArgs {
    fn shares(&self) -> Split {
        self.shares.clone().unwrap_or_default()
    }

    fn seed(&self) -> u64 {
        self.split_seed.unwrap_or(1)
    }

    /// Ends the program where a flag is given that has no effect with what the inputs are.
    fn refuse_idle(&self, kind: Kind) {
        let division = [
            ("--shares", self.shares.is_some()),
            ("--split-seed", self.split_seed.is_some()),
        ];
        match kind {
            Kind::Captions => {
                self.found
                    .refuse_idle("it is for finding images, and these are captions");
                if self.split == Part::All {
                    refuse_idle(&division, "all parts are taken: name one with --split");
                }
                refuse_split_seed(&self.shares(), self.split_seed.is_some());
            }
            Kind::Images => {
                let split = ("--split", self.split != Part::All);
                refuse_idle(
                    &[split],
                    "a part is one of captioned images, and these are images alone",
                );
                refuse_idle(
                    &division,
                    "parts are of captioned images, and these are images alone",
                );
                if self.inputs.is_empty() {
                    usage(
                        ErrorKind::MissingRequiredArgument,
                        "--of images needs images: name some",
                    );
                }
            }
        }
    }

    /// What is added, as the command line says it.
    fn adding(&self) -> String {
        let mut words: Vec<String> = (self.inputs.iter())
            .map(|input| path_text::text(input).to_string())
            .collect();
        if words.is_empty() {
            words.push("the sample".into());
        }
        if self.split != Part::All {
            let (split, shares, seed) = (self.split, self.shares(), self.seed());
            words.push(format!(
                "--split {split} --shares {shares} --split-seed {seed}"
            ));
        }
        words.join(" ")
    }
}

pub fn run(args: IndexArgs) -> Result<ExitCode> {
    args.found.truncated.apply();
    let kind = args.kind();
    args.refuse_idle(kind);
    let device = args.device.resolve()?;
    let folder = ModelFolder::open(&find::folder(&args.model)?)?;
    let mut identity = folder.encoder_identity()?;
    identity.model = path_text::text(&args.model);
    let note = |line: &str| out::note(line);
    let adding = args.adding();
    let builder = Builder::open(&args.output, kind, identity, args.append, &adding, &note)?;
    if builder.resumed > 0 {
        out::note(format_args!(
            "going on after {} {kind} of a build that was interrupted",
            builder.resumed
        ));
    }
    let encoder = ImageEncoder::load(&folder, &device)?;
    let (built, failed) = match kind {
        Kind::Captions => (captions(&args, &encoder, builder)?, 0),
        Kind::Images => images(&args, &encoder, builder)?,
    };
    let search = match built.has_graph {
        true => "searched by a graph",
        false => "searched exactly",
    };
    out::line(format_args!(
        "{}: {} {kind}, {} of them new, {search}",
        args.output.display(),
        built.entries,
        built.added
    ))?;
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

fn captions(args: &IndexArgs, encoder: &ImageEncoder, mut builder: Builder) -> Result<Built> {
    encoder.check_texts()?;
    let shares = args.shares();
    let mut missing = Vec::new();
    let sample = Path::new(datasets::FOLDER).join("sample");
    let files = match &args.inputs[..] {
        [] => vec![scenes::ensure(
            &sample,
            scenes::SAMPLE_SEED,
            scenes::SAMPLE_COUNT,
        )?],
        files => files.to_vec(),
    };
    for data in files {
        let report = |line: &str| out::note(line);
        let found = split_lists::load(&data, &[], &shares, &report)?;
        let has_ids = found.format != Format::Captions;
        for image in part_of(found.images, args.split, &shares, args.seed())? {
            let id = has_ids.then(|| image.id.to_string());
            let entries = image.captions.into_iter().map(|entry| Entry {
                entry,
                image: id.clone(),
            });
            missing.extend(entries.filter(|entry| !builder.has(entry)));
        }
    }
    let cut = encoder.cut_texts(missing.iter().map(|entry| entry.entry.as_str()))?;
    if let Some(line) = cut.told() {
        out::note(line);
    }
    for (number, batch) in missing.chunks(BATCH).enumerate() {
        let texts: Vec<String> = batch.iter().map(|entry| entry.entry.clone()).collect();
        let rows = encoder.embed_texts(&texts)?;
        builder.add(batch.iter().cloned().zip(rows))?;
        tell(
            number,
            (number * BATCH + batch.len()).min(missing.len()),
            Some(missing.len()),
        );
    }
    builder.finish(args.exact_below, &|line| out::note(line))
}

fn images(
    args: &IndexArgs,
    encoder: &ImageEncoder,
    mut builder: Builder,
) -> Result<(Built, usize)> {
    let expansion = args.found.expansion();
    let others = OtherFiles::default();
    let stdin = io::BufReader::new(io::stdin());
    let mut inputs = inputs::expand(args.inputs.clone(), expansion, stdin, &others);
    let (mut count, mut failed) = (0, 0);
    for number in 0.. {
        let batch: Vec<_> = inputs.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        count += batch.len();
        failed += add_images(encoder, &mut builder, batch)?;
        tell(number, count, None);
    }
    if others.count() > 0 {
        out::note(&others);
    }
    let built = builder.finish(args.exact_below, &|line| out::note(line))?;
    if failed > 0 {
        out::note(format_args!("{failed} of {count} images were left out"));
    }
    Ok((built, failed))
}

/// Adds the images that can be read and are not there; says why others are left out, and how many.
fn add_images(
    encoder: &ImageEncoder,
    builder: &mut Builder,
    batch: Vec<Result<Input, InputError>>,
) -> Result<usize> {
    let mut failed = 0;
    let mut refuse = |reason: String| {
        failed += 1;
        out::note(format_args!("left out: {reason}"));
    };
    let mut wanted = Vec::new();
    for input in batch {
        match input {
            Ok(input) => {
                let entry = Entry {
                    entry: path_text::text(&input.path),
                    image: None,
                };
                if !builder.has(&entry) {
                    wanted.push((entry, input));
                }
            }
            Err(error) => refuse(error.to_string()),
        }
    }
    let inputs: Vec<&Input> = wanted.iter().map(|(_, input)| input).collect();
    let opened = open_crops(&inputs, encoder.preprocessing());
    let crops: Vec<_> = opened.iter().flatten().cloned().collect();
    let mut rows = encoder.embed(&crops)?.into_iter();
    let mut found = Vec::new();
    for ((entry, _), opened) in wanted.into_iter().zip(opened) {
        match opened {
            Ok(_) => found.push((entry, rows.next().context("an image got no embedding")?)),
            Err(error) => refuse(error.to_string()),
        }
    }
    builder.add(found)?;
    Ok(failed)
}

/// Says now and then how far it is.
fn tell(batch: usize, done: usize, total: Option<usize>) {
    let is_time = (batch + 1).is_multiple_of(TOLD_EVERY);
    match total {
        Some(total) if is_time => out::note(format_args!("embedded {done} of {total}")),
        None if is_time => out::note(format_args!("embedded {done}")),
        _ => {}
    }
}
