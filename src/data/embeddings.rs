//! Image embeddings, computed once an image and kept in a file.
//!
//! The row of an image that could not be read is not a number; the next run tries it again.

mod cache;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::embedding_file::Embedding;
use super::image_source::ImageSource;
use crate::captioner::ImageEncoder;
use crate::captioner::model_folder::ModelFolder;
use crate::device::Precision;
use crate::images::OpenError;
use cache::Cache;

/// Images encoded together: enough to keep the cores busy, few enough to keep memory flat.
const BATCH: usize = 32;

/// Embeddings in the order of the images asked for, and the images that could not be read.
#[derive(Debug)]
pub struct Embeddings<R> {
    /// `None` where the image could not be read.
    pub rows: Vec<Option<R>>,
    pub unreadable: Vec<OpenError>,
}

/// Told how far the work is. A closure is told of numbers alone.
pub trait Progress {
    /// So many are embedded.
    fn done(&self, count: usize);

    /// Another process is at work on the same embeddings, and is waited for; the line says which.
    fn waiting(&self, _line: &str) {}
}

impl<F: Fn(usize)> Progress for F {
    fn done(&self, count: usize) {
        self(count);
    }
}

/// Embeds images, or finds what an earlier call kept in `folder`. While another process does so, it is waited for.
///
/// The cache file's name is a hash of CLIP's weights, its precision, the preprocessing, and every image's place, size and
/// time of change, so a changed image or encoder is never mistaken for an old one. `progress` is told how many are done.
///
/// # Errors
/// When the cache is damaged or cannot be written, or the device fails; an unreadable image is no error.
pub fn cached(
    folder: &Path,
    model: &ModelFolder,
    encoder: &ImageEncoder,
    images: &[ImageSource],
    progress: &dyn Progress,
) -> Result<Embeddings<Embedding>> {
    let mut hash = cache_hash(model)?;
    if encoder.precision() != Precision::F32 {
        hash.update(encoder.precision().name());
    }
    for image in images {
        image.fingerprint(&mut hash);
    }
    let cache = Cache::new(folder, hash, model, images.len())?;
    let mut unreadable = Vec::new();
    let embed = |part: Range<usize>| embed(encoder, &images[part], &mut unreadable);
    cache.fill(progress, embed)?;
    let mut rows = cache.rows()?;
    // What an earlier run could not read is tried again.
    if unreadable.is_empty() {
        let found = retry(encoder, images, &rows, &mut unreadable)?;
        if !found.is_empty() {
            cache.replace(&rows, &found)?;
            rows = cache.rows()?;
        }
    }
    Ok(Embeddings { rows, unreadable })
}

/// Embeds images and keeps nothing.
pub fn uncached(
    encoder: &ImageEncoder,
    images: &[ImageSource],
    progress: &dyn Fn(usize),
) -> Result<Embeddings<Vec<f32>>> {
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for chunk in images.chunks(BATCH) {
        rows.extend(embed(encoder, chunk, &mut unreadable)?);
        progress(rows.len());
    }
    Ok(Embeddings { rows, unreadable })
}

/// Embeds sentences, or finds what an earlier call kept in `folder`; see [`cached`].
pub fn cached_texts(
    folder: &Path,
    model: &ModelFolder,
    encoder: &ImageEncoder,
    texts: &[String],
    progress: &dyn Progress,
) -> Result<Vec<Embedding>> {
    let mut hash = cache_hash(model)?;
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    let cache = Cache::new(folder, hash, model, texts.len())?;
    cache.fill(progress, |part| {
        let rows = encoder.embed_texts(&texts[part])?;
        Ok(rows.into_iter().map(Some).collect())
    })?;
    Ok(cache.rows()?.into_iter().flatten().collect())
}

/// Embeds a few images: decoding on all cores, CLIP in one batch.
fn embed(
    encoder: &ImageEncoder,
    images: &[ImageSource],
    unreadable: &mut Vec<OpenError>,
) -> Result<Vec<Option<Vec<f32>>>> {
    let crops: Vec<Result<RgbImage, OpenError>> = images
        .par_iter()
        .map(|image| image.open().map(|image| encoder.crop(&image)))
        .collect();
    let readable: Vec<RgbImage> = crops.iter().flatten().cloned().collect();
    let mut embedded = encoder.embed(&readable)?.into_iter();
    let row = |crop| match crop {
        Ok(_) => embedded.next(),
        Err(error) => {
            unreadable.push(error);
            None
        }
    };
    Ok(crops.into_iter().map(row).collect())
}

/// Tries again what an earlier run could not read: what can be now, by place.
fn retry(
    encoder: &ImageEncoder,
    images: &[ImageSource],
    rows: &[Option<Embedding>],
    unreadable: &mut Vec<OpenError>,
) -> Result<HashMap<usize, Vec<f32>>> {
    let missing: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].is_none()).collect();
    let mut found = HashMap::new();
    for chunk in missing.chunks(BATCH) {
        let again: Vec<ImageSource> = chunk.iter().map(|&i| images[i].clone()).collect();
        let rows = embed(encoder, &again, unreadable)?;
        found.extend((chunk.iter().zip(rows)).filter_map(|(&i, row)| Some((i, row?))));
    }
    Ok(found)
}

/// What every embedding depends on.
fn cache_hash(model: &ModelFolder) -> Result<Sha256> {
    let mut hash = Sha256::new();
    hash.update(model.image_fingerprint()?);
    Ok(hash)
}
