//! Captions of one part of a data set, made by a model in order to be scored.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::Device;

use super::read::{Candidates, References};
use crate::captioner::model_folder::ModelFolder;
use crate::captioner::{CaptionDecoder, ImageEncoder, MemoryOptions, Own};
use crate::data::coco::{CaptionResult, write_results};
use crate::data::embedding_file::Embedding;
use crate::data::embeddings;
use crate::data::image_source::ImageSource;
use crate::data::source::CaptionedImage;
use crate::data::split::Split;
use crate::data::split_lists;
use crate::data::unreadable;
use crate::decode::Strategy;
use crate::device::Precision;

/// Captions decoded together.
const BATCH: usize = 64;

/// The part of the data that is captioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    Val,
    Test,
    All,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "train" => Ok(Self::Train),
            "val" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            "all" => Ok(Self::All),
            other => Err(format!(
                "`{other}` is not a part: use train, val, test or all"
            )),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::All => "all",
        })
    }
}

/// What is captioned, and how.
pub struct CaptionSplit<'a> {
    pub model: &'a Path,
    /// A data set in any of the formats of [`crate::data::source`], and the folders of its images.
    pub data: &'a Path,
    pub image_folders: &'a [PathBuf],
    pub part: Part,
    /// As in training, for the parts to be the same.
    pub split: Split,
    pub seed: u64,
    pub strategy: Strategy,
    /// The folder for cached embeddings.
    pub dataset: &'a Path,
    pub device: &'a Device,
    /// Without it images are embedded as for training, in float32, and captioned in [`Precision::default_for`] the device.
    pub precision: Option<Precision>,
    /// What is looked up in a datastore; an image's own captions are not.
    pub memory: MemoryOptions,
}

/// A part with its captions.
pub struct CaptionedPart {
    pub candidates: Candidates,
    pub references: References,
    /// The file that the captions were written to.
    pub path: PathBuf,
}

/// Captions the part and writes `predictions-<part>.json` into `output`.
///
/// # Errors
/// When data or model cannot be read, or too many images cannot; others are named and left out.
pub fn caption(
    split: &CaptionSplit,
    output: &Path,
    report: &dyn Fn(&str),
) -> Result<CaptionedPart> {
    let folder = ModelFolder::open(split.model)?;
    let (data, folders) = (split.data, split.image_folders);
    let images = part_images(data, folders, split.part, &split.split, split.seed, report)?;
    if images.is_empty() {
        bail!(
            "the {} part of {} is empty",
            split.part,
            split.data.display()
        );
    }
    let sources = images
        .iter()
        .map(|image| {
            let what = || {
                format!(
                    "{} has no image of {}",
                    split.data.display(),
                    image.file_name
                )
            };
            image.source.clone().with_context(what)
        })
        .collect::<Result<Vec<ImageSource>>>()?;
    let encoder = split.precision.unwrap_or(Precision::F32);
    let encoder = ImageEncoder::load_as(&folder, split.device, encoder)?;
    let cache = split.dataset.join("embeddings");
    let total = sources.len();
    let seen = embeddings::cached(&cache, &folder, &encoder, &sources, &|done: usize| {
        // A few are embedded before a line can be read.
        if done.is_multiple_of(1024) {
            report(&format!("embedded {done}/{total} images"));
        }
    })?;
    unreadable::check(&seen.unreadable, total, split.data.display(), report)?;
    let readable = images.into_iter().zip(seen.rows);
    let (images, rows): (Vec<CaptionedImage>, Vec<Embedding>) = readable
        .filter_map(|(image, row)| Some((image, row?)))
        .unzip();
    let total = images.len();
    let default = || Precision::default_for(split.device);
    let precision = split.precision.unwrap_or_else(default);
    let decoder = CaptionDecoder::load(&folder, split.device, precision)?
        .with_memory(split.memory.open(&folder)?);
    let said = |done: usize| report(&format!("captioned {done}/{total} images"));
    let rows: Vec<&Embedding> = rows.iter().collect();
    let ids: Vec<String> = images.iter().map(|image| image.id.to_string()).collect();
    let own: Vec<Own> = (images.iter().zip(&ids))
        .map(|(image, id)| Own {
            id,
            captions: &image.captions,
        })
        .collect();
    let captions = best_captions(&decoder, &rows, &own, split.strategy.clone(), &said)?;
    let results: Vec<CaptionResult> = (images.iter().zip(captions))
        .map(|(image, caption)| CaptionResult {
            image_id: image.id.clone(),
            caption,
        })
        .collect();
    let path = output.join(format!("predictions-{}.json", split.part));
    write_results(&path, &results)?;
    let captions = results
        .into_iter()
        .map(|result| (result.image_id, result.caption));
    let described = images
        .into_iter()
        .map(|image| (image.id, Some(image.file_name), image.captions));
    Ok(CaptionedPart {
        candidates: Candidates::new(&path, captions.collect()),
        references: References::new(split.data, described.collect()),
        path,
    })
}

/// The best caption of each embedding, so many decoded together; `report` is told how many there are. `own`: whose embedding
/// each is.
///
/// # Errors
/// When an embedding cannot be read, or decoding fails.
pub(crate) fn best_captions(
    decoder: &CaptionDecoder,
    rows: &[&Embedding],
    own: &[Own],
    strategy: Strategy,
    report: &dyn Fn(usize),
) -> Result<Vec<String>> {
    let decode = decoder.decode_config(strategy);
    let mut best = Vec::with_capacity(rows.len());
    for (rows, own) in rows.chunks(BATCH).zip(own.chunks(BATCH)) {
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.read()).collect::<Result<_>>()?;
        for captions in decoder.caption_of(&rows, own, &decode)? {
            let first = captions.into_iter().next();
            best.push(first.context("decoding gave no caption")?.caption);
        }
        report(best.len());
    }
    Ok(best)
}

/// The images of a part of a data set, in its order.
///
/// # Errors
/// When the data set cannot be read or divided so.
pub fn part_images(
    data: &Path,
    folders: &[PathBuf],
    part: Part,
    split: &Split,
    seed: u64,
    report: &dyn Fn(&str),
) -> Result<Vec<CaptionedImage>> {
    let images = split_lists::load(data, folders, split, report)?.images;
    part_of(images, part, split, seed)
}

/// The images of a part, in their order.
///
/// # Errors
/// As [`Split::split`]'s.
pub fn part_of(
    images: Vec<CaptionedImage>,
    part: Part,
    split: &Split,
    seed: u64,
) -> Result<Vec<CaptionedImage>> {
    let parts = (split.split(&images, seed)).map_err(|error| anyhow!(error))?;
    let mut chosen = match part {
        Part::Train => parts.train,
        Part::Val => parts.val,
        Part::Test => parts.test,
        Part::All => return Ok(images),
    };
    chosen.sort_unstable();
    Ok(chosen
        .into_iter()
        .map(|place| images[place].clone())
        .collect())
}
