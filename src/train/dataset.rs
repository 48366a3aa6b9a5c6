//! What a run is trained on: a data set with its embeddings, tokens and parts.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::caption::TrainContext;
use super::config::{CaptionChoice, Ending, TrainConfig, TrainData};
use super::dashboard::Report;
use crate::captioner::ImageEncoder;
use crate::data::batcher::CaptionItem;
use crate::data::embeddings::{self, Embeddings};
use crate::data::noise::normalize;
use crate::data::picture_source::PictureSource;
use crate::data::scenes;
use crate::data::source::{self, CaptionedImage};
use crate::data::split::Splits;
use crate::model_folder::ModelFolder;
use crate::tokenizer::Tokenizer;

/// Above this share of unreadable pictures a run does not begin.
const MAX_UNREADABLE: f64 = 0.1;

/// Images that could be read, with their embeddings, in three parts.
pub struct Dataset {
    pub images: Vec<CaptionedImage>,
    /// As CLIP gave them.
    pub embeddings: Vec<Vec<f32>>,
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

    /// A part as it is trained on: tokenised captions with their embedding.
    pub fn items(
        &self,
        part: &[usize],
        tokenized: &TokenizedCaptions,
        config: &TrainConfig,
    ) -> Vec<CaptionItem> {
        let mut items = Vec::new();
        for &index in part {
            let mut clip_embedding = self.embeddings[index].clone();
            if config.normalize_embedding {
                normalize(&mut clip_embedding);
            }
            let captions = tokenized.captions[index].clone();
            let item = |captions| CaptionItem {
                clip_embedding: clip_embedding.clone(),
                captions,
            };
            match config.captions {
                CaptionChoice::One => items.push(item(captions)),
                CaptionChoice::All => {
                    items.extend(captions.into_iter().map(|caption| item(vec![caption])))
                }
            }
        }
        items
    }
}

/// Reads the data, embeds its pictures (or finds the embeddings of an earlier run) and deals the images out.
///
/// # Errors
/// When the data cannot be read, too many of its pictures cannot, or there is nothing to train on.
pub fn load(config: &TrainConfig, context: &TrainContext, folder: &ModelFolder) -> Result<Dataset> {
    let report = &context.report;
    let (data, folders) = match &config.data {
        TrainData::Sample => {
            let sample = context.dataset.join("sample");
            let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
            (annotations, vec![sample.join("images")])
        }
        TrainData::Files { captions, images } => (captions.clone(), images.clone()),
    };
    let found = source::load(&data, &folders)?;
    for line in &found.left_out.named {
        report(&format!("left out: {line}"));
    }
    let pictures = pictures(&found.images).with_context(|| data.display().to_string())?;
    let encoder = ImageEncoder::load(folder, context.device)?;
    let total = pictures.len();
    let embedded = embeddings::cached(
        &context.dataset.join("embeddings"),
        folder,
        &encoder,
        &pictures,
        &|done| {
            if done == total || done % 1024 == 0 {
                report(&format!("embedded {done}/{total} images"));
            }
        },
    )?;
    check_readable(&embedded, &data, report)?;
    let (images, embeddings): (Vec<_>, Vec<_>) = found
        .images
        .into_iter()
        .zip(embedded.rows)
        .filter_map(|(image, row)| Some((image, row?)))
        .unzip();
    let splits = (config.split.split(&images, config.seed)).map_err(|error| anyhow!(error))?;
    if splits.train.is_empty() {
        bail!("there is no image to train on: give more data, or a larger first share in --split");
    }
    Ok(Dataset {
        images,
        embeddings,
        splits,
        dropped: found.left_out.count + embedded.unreadable.len(),
    })
}

/// Where the pictures are.
///
/// # Errors
/// When an image has none: the data set is captions alone.
fn pictures(images: &[CaptionedImage]) -> Result<Vec<PictureSource>> {
    let picture = |image: &CaptionedImage| {
        image
            .picture
            .clone()
            .context("is captions without pictures: give pairs of picture and caption")
    };
    images.iter().map(picture).collect()
}

/// Names the first unreadable pictures.
///
/// # Errors
/// When there are too many of them.
fn check_readable(embedded: &Embeddings, data: &Path, report: &Report) -> Result<()> {
    let (unreadable, total) = (&embedded.unreadable, embedded.rows.len());
    for error in unreadable.iter().take(10) {
        report(&format!("skipped {error}"));
    }
    if unreadable.len() as f64 > MAX_UNREADABLE * total as f64 {
        bail!(
            "{} of {total} images of {} cannot be read, more than {:.0}% (the first: {}): check --images",
            unreadable.len(),
            data.display(),
            100.0 * MAX_UNREADABLE,
            unreadable[0]
        );
    }
    Ok(())
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
