//! What a run is trained on: a data set with its embeddings, tokens and parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::Device;

use super::caption::TrainContext;
use super::config::{LearnFrom, TrainConfig, TrainData};
use super::embedder::Embedder;
use super::part::{LearnedFrom, TokenizedCaptions};
use super::resume;
use crate::captioner::model_folder::ModelFolder;
use crate::data::embedding_file::Embedding;
use crate::data::gap::{self, Gap};
use crate::data::source::{self, CaptionedImage};
use crate::data::split::Splits;
use crate::data::split_lists;
use crate::datasets::scenes::{self, SceneSet};
use crate::files::Lock;
use crate::trainer::dashboard::LogFn;

/// Captioned images with their embeddings, in three parts.
pub struct Dataset {
    pub images: Vec<CaptionedImage>,
    /// The scenes that the images are of, of generated ones.
    pub scenes: Option<SceneSet>,
    /// The images' embeddings as CLIP gave them; `None` of those that are not needed.
    pub embeddings: Arc<Vec<Option<Embedding>>>,
    /// The captions' embeddings as CLIP gave them, by image, where they are learned from.
    captions: Option<Arc<Vec<Vec<Embedding>>>>,
    /// The mean way from the captions' embeddings to the images', where it is asked for.
    pub offset: Option<Vec<f32>>,
    pub splits: Splits,
    /// How the images were dealt into the parts.
    dealt: String,
    /// Images and captions that could not be used.
    dropped: usize,
}

impl Dataset {
    /// What the data set holds, in a line.
    pub fn summary(&self, tokenized: &TokenizedCaptions) -> String {
        let captions = tokenized.count();
        let note = |count: usize, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        format!(
            "{} images with {captions} captions of {:.1} tokens, the longest of {}{}{}: {} to train on, {} for validation, {} to test on ({})",
            self.images.len(),
            tokenized.tokens as f64 / captions.max(1) as f64,
            tokenized.longest,
            note(tokenized.cut, "cut to fit GPT-2"),
            note(self.dropped, "entries left out"),
            self.splits.train.len(),
            self.splits.val.len(),
            self.splits.test.len(),
            self.dealt
        )
    }

    /// What is learned from.
    pub fn learned_from(&self) -> LearnedFrom {
        match &self.captions {
            Some(captions) => LearnedFrom::Captions(captions.clone()),
            None => LearnedFrom::Images(self.embeddings.clone()),
        }
    }
}

/// Reads the data, embeds what is needed of it (or finds the embeddings of an earlier run) and deals the images out.
///
/// # Errors
/// When the data cannot be read, too many of its images cannot, or there is nothing to train on.
pub fn load(config: &TrainConfig, context: &TrainContext, folder: &ModelFolder) -> Result<Dataset> {
    let report = &context.report;
    let (data, folders) = locate(&config.data, context.dataset)?;
    let found = split_lists::load(&data, &folders, &config.split, &|line| report(line))?;
    resume::check_data(context.folder, &data, &found.images, &config.split)?;
    let embedder = Embedder::new(folder, context.dataset, context.devices.main(), report)?;
    let mut dataset = match config.learn_from {
        LearnFrom::Images => learn_from_images(config, &embedder, found.images, &data)?,
        LearnFrom::Captions => learn_from_captions(config, &embedder, found.images, &data)?,
    };
    dataset.dropped += found.left_out.count;
    if dataset.splits.train.is_empty() {
        bail!("there is no image to train on: give more data, or a larger first share");
    }
    Ok(dataset)
}

/// Checks that a run of several trainings, in the context's folder, still finds what it was begun with. Several processes may
/// do so at once.
///
/// # Errors
/// When networks, datastore, captions or images are others, or cannot be read.
pub fn check_unchanged(config: &TrainConfig, context: &TrainContext) -> Result<()> {
    let encoder = ModelFolder::open(config.encoder_folder())?;
    let gpt2 = ModelFolder::open(&config.model)?;
    let (data, folders) = locate(&config.data, context.dataset)?;
    let found = split_lists::load(&data, &folders, &config.split, &|_| ())?;
    let _lock = Lock::wait(context.folder, &|line| (context.report)(line))?;
    resume::check_inputs(context.folder, config, &encoder, &gpt2)?;
    resume::check_data(context.folder, &data, &found.images, &config.split)
}

/// The embeddings of images, and of the captions of each.
type Pairs = (Vec<Arc<[f32]>>, Vec<Vec<Arc<[f32]>>>);

/// The embeddings of the images that can be read and, in the same order, of their captions. Without `data`, those of the
/// sample in the folder `dataset`; with it, a data set and the folders of its images.
pub fn embed_pairs(
    model: &Path,
    data: Option<(&Path, &[PathBuf])>,
    dataset: &Path,
    device: &Device,
    report: &LogFn,
) -> Result<Pairs> {
    let data = match data {
        Some((captions, images)) => TrainData::Files {
            captions: captions.to_path_buf(),
            images: images.to_vec(),
        },
        None => TrainData::Sample,
    };
    let (data, folders) = locate(&data, dataset)?;
    let found = source::load_and_report(&data, &folders, &|line| report(line))?;
    let mut images = found.images;
    images.truncate(gap::CENTER_IMAGES);
    let folder = ModelFolder::open(model)?;
    let embedder = Embedder::new(&folder, dataset, device, report)?;
    embedder.check_texts()?;
    let all: Vec<usize> = (0..images.len()).collect();
    let rows = embedder.images(&images, &all, &data)?;
    let (images, rows): (Vec<_>, Vec<_>) = (images.into_iter().zip(rows))
        .filter_map(|(image, row)| Some((image, row?)))
        .unzip();
    read_pairs(rows.iter().zip(&embedder.captions(&images)?))
}

fn read_pairs<'a>(
    pairs: impl Iterator<Item = (&'a Embedding, &'a Vec<Embedding>)>,
) -> Result<Pairs> {
    let read = |row: &Embedding| -> Result<Arc<[f32]>> { Ok(row.read()?.into()) };
    let both = |(image, captions): (_, &Vec<Embedding>)| {
        let captions = captions.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok((read(image)?, captions))
    };
    let pairs = pairs.map(both).collect::<Result<Vec<_>>>()?;
    Ok(pairs.into_iter().unzip())
}

/// The file or folder of a data set, and where its images are; the sample is made if need be.
pub(crate) fn locate(data: &TrainData, dataset: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    match data {
        TrainData::Sample => {
            let sample = dataset.join("sample");
            let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
            Ok((annotations, vec![sample.join("images")]))
        }
        TrainData::Files { captions, images } => Ok((captions.clone(), images.clone())),
    }
}

/// All images are embedded, and those that cannot be read are left out.
fn learn_from_images(
    config: &TrainConfig,
    embedder: &Embedder,
    images: Vec<CaptionedImage>,
    data: &Path,
) -> Result<Dataset> {
    let all: Vec<usize> = (0..images.len()).collect();
    let rows = embedder.images(&images, &all, data)?;
    let dropped = rows.iter().filter(|row| row.is_none()).count();
    let (images, embeddings): (Vec<_>, Vec<_>) = images
        .into_iter()
        .zip(rows)
        .filter(|(_, row)| row.is_some())
        .unzip();
    Ok(Dataset {
        splits: split(config, &images)?,
        dealt: config.split.describe(&images, config.split_seed()),
        images,
        scenes: SceneSet::find(data),
        embeddings: Arc::new(embeddings),
        captions: None,
        offset: None,
        dropped,
    })
}

/// Captions are embedded, and images only where they are tested on or the way to them is asked for.
fn learn_from_captions(
    config: &TrainConfig,
    embedder: &Embedder,
    images: Vec<CaptionedImage>,
    data: &Path,
) -> Result<Dataset> {
    let splits = split(config, &images)?;
    let captions = embedder.captions(&images)?;
    let mut needed: Vec<usize> = splits.test.clone();
    if config.modality_offset {
        needed.extend(splits.train.iter().take(gap::CENTER_IMAGES));
    }
    needed.retain(|&index| images[index].source.is_some());
    let mut embeddings = vec![None; images.len()];
    for (&index, row) in needed.iter().zip(embedder.images(&images, &needed, data)?) {
        embeddings[index] = row;
    }
    let mut dataset = Dataset {
        dealt: config.split.describe(&images, config.split_seed()),
        images,
        scenes: SceneSet::find(data),
        embeddings: Arc::new(embeddings),
        captions: Some(Arc::new(captions)),
        offset: None,
        splits,
        dropped: 0,
    };
    if config.modality_offset {
        dataset.offset = Some(dataset.modality_offset()?);
    }
    // Only what can be embedded can be tested on.
    let embeddings = &dataset.embeddings;
    dataset
        .splits
        .test
        .retain(|&index| embeddings[index].is_some());
    Ok(dataset)
}

impl Dataset {
    /// The mean way from captions to images, from those training images of which both are known.
    fn modality_offset(&self) -> Result<Vec<f32>> {
        let captions = self
            .captions
            .as_ref()
            .context("captions are not embedded")?;
        let known = (self.splits.train.iter())
            .filter_map(|&index| Some((self.embeddings[index].as_ref()?, &captions[index])));
        let (images, texts) = read_pairs(known)?;
        let Some(gap) = Gap::measure(&images, &texts) else {
            bail!(
                "the offset between captions and images needs images of the training part: give --images, or leave out --modality-offset"
            );
        };
        Ok(gap.offset)
    }
}

fn split(config: &TrainConfig, images: &[CaptionedImage]) -> Result<Splits> {
    (config.split.split(images, config.split_seed())).map_err(|error| anyhow!(error))
}
