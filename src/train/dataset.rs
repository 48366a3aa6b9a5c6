//! What a run is trained on: a data set with its embeddings, tokens and parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::Device;

use super::caption::TrainContext;
use super::config::{CaptionChoice, Ending, LearnFrom, TrainConfig, TrainData};
use super::dashboard::Report;
use super::embedder::Embedder;
use crate::data::batcher::{CaptionItem, Pair};
use crate::data::gap::{self, Gap};
use crate::data::scenes;
use crate::data::source::{self, CaptionedImage};
use crate::data::split::Splits;
use crate::model_folder::ModelFolder;
use crate::tokenizer::Tokenizer;

/// An embedding, shared by all who look at it.
pub type Embedding = Arc<[f32]>;

/// Captioned images with their embeddings, in three parts.
pub struct Dataset {
    pub images: Vec<CaptionedImage>,
    /// The images' embeddings as CLIP gave them; `None` of those that are not needed.
    pub embeddings: Vec<Option<Embedding>>,
    /// The captions' embeddings as CLIP gave them, by image, where they are learnt from.
    captions: Option<Vec<Vec<Embedding>>>,
    /// The mean way from the captions' embeddings to the images', where it is asked for.
    pub offset: Option<Vec<f32>>,
    pub splits: Splits,
    /// Images and captions that could not be used.
    dropped: usize,
}

/// The captions of a data set as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizedCaptions {
    /// By image.
    pub captions: Vec<Vec<Vec<u32>>>,
    /// Tokens in all, before any was cut.
    pub tokens: usize,
    /// Tokens of the longest caption, before it was cut.
    pub longest: usize,
    /// Captions that were cut to fit.
    pub cut: usize,
}

impl Dataset {
    /// Tokenises all captions, once.
    ///
    /// `longest` is what fits GPT-2 after the prefix; longer captions lose their end.
    pub fn tokenize(
        &self,
        tokenizer: &Tokenizer,
        ending: Ending,
        longest: usize,
    ) -> Result<TokenizedCaptions> {
        let mut found = TokenizedCaptions::default();
        for image in &self.images {
            let mut captions = Vec::with_capacity(image.captions.len());
            for caption in &image.captions {
                let mut tokens = caption_tokens(tokenizer, caption, ending)?;
                found.tokens += tokens.len();
                found.longest = found.longest.max(tokens.len());
                if tokens.len() > longest {
                    found.cut += 1;
                    tokens.truncate(longest);
                }
                captions.push(tokens);
            }
            found.captions.push(captions);
        }
        Ok(found)
    }

    /// What the data set holds, in a line.
    pub fn summary(&self, tokenized: &TokenizedCaptions) -> String {
        let captions: usize = tokenized.captions.iter().map(Vec::len).sum();
        let note = |count: usize, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        format!(
            "{} images with {captions} captions of {:.1} tokens, the longest of {}{}{}: {} to train on, {} for validation, {} to test on",
            self.images.len(),
            tokenized.tokens as f64 / captions.max(1) as f64,
            tokenized.longest,
            note(tokenized.cut, "cut to fit GPT-2"),
            note(self.dropped, "entries left out"),
            self.splits.train.len(),
            self.splits.val.len(),
            self.splits.test.len()
        )
    }

    /// A part as it is trained on.
    pub fn items(
        &self,
        part: &[usize],
        tokenized: &TokenizedCaptions,
        choice: CaptionChoice,
    ) -> Vec<CaptionItem> {
        let item = |pairs| CaptionItem {
            pairs,
            references: None,
        };
        let pairs = part.iter().map(|&index| self.pairs(index, tokenized));
        match choice {
            CaptionChoice::One => pairs.map(item).collect(),
            CaptionChoice::All => pairs.flatten().map(|pair| item(vec![pair])).collect(),
        }
    }

    /// A part as it is validated on: `captioned` of its images are also to be captioned.
    pub fn valid_items(
        &self,
        part: &[usize],
        tokenized: &TokenizedCaptions,
        choice: CaptionChoice,
        captioned: usize,
    ) -> Vec<CaptionItem> {
        let mut items = Vec::new();
        for (place, &index) in part.iter().enumerate() {
            let first = items.len();
            items.extend(self.items(&[index], tokenized, choice));
            if place < captioned
                && let Some(item) = items.get_mut(first)
            {
                item.references = Some(self.images[index].captions.clone().into());
            }
        }
        items
    }

    /// An image's captions, each with the embedding it is learnt from.
    fn pairs(&self, image: usize, tokenized: &TokenizedCaptions) -> Vec<Pair> {
        let captions = tokenized.captions[image].iter().cloned();
        let pair = |(caption, clip_embedding): (_, &Arc<[f32]>)| Pair {
            clip_embedding: clip_embedding.clone(),
            caption,
        };
        match (&self.captions, &self.embeddings[image]) {
            (Some(own), _) => captions.zip(&own[image]).map(pair).collect(),
            (None, Some(shared)) => captions.map(|caption| pair((caption, shared))).collect(),
            (None, None) => Vec::new(),
        }
    }
}

/// Reads the data, embeds what is needed of it (or finds the embeddings of an earlier run) and deals the images out.
///
/// # Errors
/// When the data cannot be read, too many of its pictures cannot, or there is nothing to train on.
pub fn load(config: &TrainConfig, context: &TrainContext, folder: &ModelFolder) -> Result<Dataset> {
    let report = &context.report;
    let (data, folders) = locate(&config.data, context.dataset)?;
    let found = source::load(&data, &folders)?;
    for line in &found.left_out.named {
        report(&format!("left out: {line}"));
    }
    let embedder = Embedder::new(folder, context.dataset, context.devices.main(), report)?;
    let mut dataset = match config.learn_from {
        LearnFrom::Images => learn_from_images(config, &embedder, found.images, &data)?,
        LearnFrom::Captions => learn_from_captions(config, &embedder, found.images, &data)?,
    };
    dataset.dropped += found.left_out.count;
    if dataset.splits.train.is_empty() {
        bail!("there is no image to train on: give more data, or a larger first share in --split");
    }
    Ok(dataset)
}

/// The embeddings of the pictures that can be read and, in the same order, of their captions. Without `data`, those of the
/// sample in the folder `dataset`; with it, a data set and the folders of its pictures.
pub fn embed_pairs(
    model: &Path,
    data: Option<(&Path, &[PathBuf])>,
    dataset: &Path,
    device: &Device,
    report: &Report,
) -> Result<(Vec<Embedding>, Vec<Vec<Embedding>>)> {
    let data = match data {
        Some((captions, images)) => TrainData::Files {
            captions: captions.to_path_buf(),
            images: images.to_vec(),
        },
        None => TrainData::Sample,
    };
    let (data, folders) = locate(&data, dataset)?;
    let mut images = source::load(&data, &folders)?.images;
    images.truncate(gap::CENTER_IMAGES);
    let folder = ModelFolder::open(model)?;
    let embedder = Embedder::new(&folder, dataset, device, report)?;
    let all: Vec<usize> = (0..images.len()).collect();
    let rows = embedder.pictures(&images, &all, &data)?;
    let (images, rows): (Vec<_>, Vec<_>) = (images.into_iter().zip(rows))
        .filter_map(|(image, row)| Some((image, row?)))
        .unzip();
    Ok((rows, embedder.captions(&images)?))
}

/// The file or folder of a data set, and where its pictures are; the sample is made if need be.
fn locate(data: &TrainData, dataset: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    match data {
        TrainData::Sample => {
            let sample = dataset.join("sample");
            let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
            Ok((annotations, vec![sample.join("images")]))
        }
        TrainData::Files { captions, images } => Ok((captions.clone(), images.clone())),
    }
}

/// All pictures are embedded, and those that cannot be read are left out.
fn learn_from_images(
    config: &TrainConfig,
    embedder: &Embedder,
    images: Vec<CaptionedImage>,
    data: &Path,
) -> Result<Dataset> {
    let all: Vec<usize> = (0..images.len()).collect();
    let rows = embedder.pictures(&images, &all, data)?;
    let dropped = rows.iter().filter(|row| row.is_none()).count();
    let (images, embeddings): (Vec<_>, Vec<_>) = images
        .into_iter()
        .zip(rows)
        .filter(|(_, row)| row.is_some())
        .unzip();
    Ok(Dataset {
        splits: split(config, &images)?,
        images,
        embeddings,
        captions: None,
        offset: None,
        dropped,
    })
}

/// Captions are embedded, and pictures only where they are tested on or the way to them is asked for.
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
    needed.retain(|&index| images[index].picture.is_some());
    let mut embeddings = vec![None; images.len()];
    for (&index, row) in needed
        .iter()
        .zip(embedder.pictures(&images, &needed, data)?)
    {
        embeddings[index] = row;
    }
    let mut dataset = Dataset {
        images,
        embeddings,
        captions: Some(captions),
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
            .filter_map(|&index| Some((self.embeddings[index].clone()?, captions[index].clone())));
        let (images, texts): (Vec<_>, Vec<_>) = known.unzip();
        let Some(gap) = Gap::measure(&images, &texts) else {
            bail!(
                "the offset between captions and images needs pictures of the training part: give --images, or leave out --modality-offset"
            );
        };
        Ok(gap.offset)
    }
}

fn split(config: &TrainConfig, images: &[CaptionedImage]) -> Result<Splits> {
    (config.split.split(images, config.seed)).map_err(|error| anyhow!(error))
}

/// A caption's tokens, none left out.
fn caption_tokens(tokenizer: &Tokenizer, caption: &str, ending: Ending) -> Result<Vec<u32>> {
    let tokens = match ending {
        Ending::AsItIs => tokenizer.encode(caption)?,
        Ending::FullStop => {
            let caption = caption.trim_end_matches([' ', '.']);
            tokenizer.encode(&format!("{caption}."))?
        }
    };
    Ok(tokens)
}
