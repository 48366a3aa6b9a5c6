//! The embeddings of a data set's images and captions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;

use crate::captioner::ImageEncoder;
use crate::captioner::model_folder::ModelFolder;
use crate::data::embedding_file::Embedding;
use crate::data::embeddings::{self, Progress};
use crate::data::image_source::ImageSource;
use crate::data::source::CaptionedImage;
use crate::data::unreadable;
use crate::trainer::dashboard::LogFn;

/// CLIP with a cache.
pub(super) struct Embedder<'a> {
    cache: PathBuf,
    encoder: ImageEncoder,
    folder: &'a ModelFolder,
    report: &'a LogFn,
}

impl<'a> Embedder<'a> {
    /// `dataset` is the folder that the cache is in.
    pub(super) fn new(
        folder: &'a ModelFolder,
        dataset: &Path,
        device: &Device,
        report: &'a LogFn,
    ) -> Result<Self> {
        Ok(Self {
            cache: dataset.join("embeddings"),
            encoder: ImageEncoder::load(folder, device)?,
            folder,
            report,
        })
    }

    /// # Errors
    /// When captions cannot be embedded; the message says what the model lacks.
    pub(super) fn check_texts(&self) -> Result<()> {
        self.encoder.check_texts()
    }

    fn progress(&self, total: usize, what: &'static str) -> Reported<'_> {
        Reported {
            report: self.report,
            total,
            what,
        }
    }

    /// The embeddings of some of the images; `None` of those that cannot be read.
    pub(super) fn images(
        &self,
        images: &[CaptionedImage],
        which: &[usize],
        data: &Path,
    ) -> Result<Vec<Option<Embedding>>> {
        if which.is_empty() {
            return Ok(Vec::new());
        }
        let chosen: Vec<&CaptionedImage> = which.iter().map(|&index| &images[index]).collect();
        let sources = sources(&chosen).with_context(|| data.display().to_string())?;
        let progress = self.progress(sources.len(), "images");
        let found =
            embeddings::cached(&self.cache, self.folder, &self.encoder, &sources, &progress)?;
        let report = |line: &str| (self.report)(line);
        unreadable::check(&found.unreadable, found.rows.len(), data.display(), &report)?;
        Ok(found.rows)
    }

    /// The embeddings of all captions, by image.
    pub(super) fn captions(&self, images: &[CaptionedImage]) -> Result<Vec<Vec<Embedding>>> {
        let texts: Vec<String> = images
            .iter()
            .flat_map(|image| image.captions.clone())
            .collect();
        let cut = self.encoder.cut_texts(texts.iter().map(String::as_str))?;
        if let Some(line) = cut.told() {
            (self.report)(&line);
        }
        let progress = self.progress(texts.len(), "captions");
        let rows =
            embeddings::cached_texts(&self.cache, self.folder, &self.encoder, &texts, &progress)?;
        let mut rows = rows.into_iter();
        let of = |image: &CaptionedImage| rows.by_ref().take(image.captions.len()).collect();
        Ok(images.iter().map(of).collect())
    }
}

/// A line now and then.
struct Reported<'a> {
    report: &'a LogFn,
    total: usize,
    what: &'static str,
}

impl Progress for Reported<'_> {
    fn done(&self, count: usize) {
        if count == self.total || count.is_multiple_of(1024) {
            (self.report)(&format!("embedded {count}/{} {}", self.total, self.what));
        }
    }

    fn waiting(&self, line: &str) {
        (self.report)(line);
    }
}

/// Where the images are.
///
/// # Errors
/// When an image has none: the data set is captions alone.
fn sources(images: &[&CaptionedImage]) -> Result<Vec<ImageSource>> {
    let image = |image: &&CaptionedImage| {
        image
            .source
            .clone()
            .context("is captions without images: give images too, or learn from the captions alone with --learn-from captions")
    };
    images.iter().map(image).collect()
}
