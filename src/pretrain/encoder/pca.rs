//! Principal components of a data set's pixels.

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;

use crate::datasets::classes::Images;
use crate::models::encoder::preprocessing;
use crate::models::pca::Pca;

/// Most images that principal components are computed from.
const MOST_IMAGES: usize = 50_000;

/// Principal components of images' pixels at this side, on the CPU.
///
/// # Errors
/// When an image cannot be read, or there are too few of them.
pub fn fit_pca(images: &Images, image_size: u32, dim: usize, seed: u64) -> Result<Pca> {
    let preprocessing = preprocessing(image_size);
    let crops: Vec<RgbImage> = (0..images.len().min(MOST_IMAGES))
        .into_par_iter()
        .map(|index| Ok(preprocessing.crop(&images.get(index)?)))
        .collect::<Result<_>>()?;
    let values = preprocessing.normalize_all(crops.par_iter());
    let width = values.len() / crops.len().max(1);
    let data = TensorData::new(values, [crops.len(), width]);
    Pca::fit(Tensor::from_data(data, &Device::flex()), dim, seed)
}
