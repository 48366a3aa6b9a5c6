//! An encoder with its preprocessing, ready to embed whole data sets.

use std::path::Path;

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;

use super::{Encoder, Pca, Pixels, preprocessing};
use crate::clip::Preprocessing;
use crate::data::classes::Images;
use crate::model_folder::ModelFolder;

/// Images embedded together.
const BATCH: usize = 64;
/// Most images that principal components are computed from.
const MOST_FOR_PCA: usize = 50_000;

/// What turns images into embeddings.
#[derive(Debug)]
pub struct FrozenEncoder {
    encoder: Box<dyn Encoder>,
    preprocessing: Preprocessing,
    device: Device,
}

impl FrozenEncoder {
    /// The encoder of a model folder: CLIP's image tower, or what `pretrain` made.
    ///
    /// # Errors
    /// When the folder has none, or a file of it is missing or does not fit.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        let preprocessing = folder.preprocessing()?.clone();
        let encoder = match folder.load_encoder(device)? {
            Some(encoder) => encoder,
            None => Box::new(folder.load_clip(device)?),
        };
        Ok(Self {
            encoder,
            preprocessing,
            device: device.clone(),
        })
    }

    /// The pixels of images at this side.
    pub fn pixels(image_size: u32) -> Self {
        Self {
            encoder: Box::new(Pixels),
            preprocessing: preprocessing(image_size),
            device: Device::flex(),
        }
    }

    /// The principal components of these images' pixels at this side.
    ///
    /// # Errors
    /// See [`fit_pca`].
    pub fn pca(images: &Images, image_size: u32, dim: usize, seed: u64) -> Result<Self> {
        Ok(Self {
            encoder: Box::new(fit_pca(images, image_size, dim, seed)?),
            ..Self::pixels(image_size)
        })
    }

    /// The embeddings of all images on the CPU, `[n, d]`. `progress` is told how many are done.
    ///
    /// # Errors
    /// When an image cannot be read, or the device fails.
    pub fn embed(&self, images: &Images, progress: &dyn Fn(usize)) -> Result<Tensor<2>> {
        let mut rows: Vec<f32> = Vec::new();
        let count = images.len();
        for first in (0..count).step_by(BATCH) {
            let batch = first..count.min(first + BATCH);
            let end = batch.end;
            let pixel_values = pixel_values(images, batch, &self.preprocessing)?;
            let pixel_values = Tensor::from_data(pixel_values, &self.device);
            let embeddings = self.encoder.encode(pixel_values).try_into_vec_as::<f32>();
            rows.extend(embeddings.map_err(|error| anyhow!("the device failed: {error}"))?);
            progress(end);
        }
        let width = rows.len() / count.max(1);
        let data = TensorData::new(rows, [count, width]);
        Ok(Tensor::from_data(data, &Device::flex()))
    }
}

/// Principal components of images' pixels, on the CPU.
///
/// # Errors
/// When an image cannot be read, or there are too few of them.
pub fn fit_pca(images: &Images, image_size: u32, dim: usize, seed: u64) -> Result<Pca> {
    let count = images.len().min(MOST_FOR_PCA);
    let values = pixel_values(images, 0..count, &preprocessing(image_size))?;
    let rows = Tensor::<4>::from_data(values, &Device::flex()).flatten(1, 3);
    Pca::fit(rows, dim, seed)
}

/// Some images as an encoder sees them, `[n, 3, side, side]`.
fn pixel_values(
    images: &Images,
    which: std::ops::Range<usize>,
    preprocessing: &Preprocessing,
) -> Result<TensorData> {
    let count = which.len();
    let crops: Vec<RgbImage> = which
        .into_par_iter()
        .map(|index| Ok(preprocessing.crop(&images.get(index)?)))
        .collect::<Result<_>>()?;
    let side = preprocessing.image_size as usize;
    let values = preprocessing.normalize_all(crops.par_iter());
    Ok(TensorData::new(values, [count, 3, side, side]))
}
