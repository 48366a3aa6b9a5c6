//! The nearest training image of an image: by Euclidean distance, over the first principal components of small crops.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Int, Tensor, TensorData};
use caption_metrics::bootstrap::choose;
use image::RgbImage;
use rayon::prelude::*;

use crate::data::source::CaptionedImage;
use crate::guard::guarded;
use crate::models::encoder::preprocessing;
use crate::models::pca::Pca;

/// Side of the crops, as CIFAR-10's images.
pub const SIDE: u32 = 32;
/// Most components that are kept, as in the paper's PCA.
const COMPONENTS: usize = 128;
/// Most training images that components are computed from; the others are projected on them.
const FITTED: usize = 10_000;
/// Images projected or looked up together.
const TOGETHER: usize = 512;

/// Components that a number of training images gives.
pub fn components(images: usize) -> usize {
    COMPONENTS.min(images.min(FITTED).saturating_sub(1))
}

/// The crops of the images, on all cores. Those that cannot be read are taken out, and why is added to `unread`.
pub fn read(images: &mut Vec<&CaptionedImage>, unread: &mut Vec<anyhow::Error>) -> Vec<RgbImage> {
    let preprocessing = preprocessing(SIDE);
    let crop = |image: &CaptionedImage| -> Result<RgbImage> {
        let name = &image.file_name;
        let source = (image.source.as_ref()).ok_or_else(|| anyhow!("{name}: has no image"))?;
        match guarded(|| source.open()) {
            Ok(opened) => Ok(preprocessing.crop(&opened?)),
            Err(panicked) => Err(anyhow!("{name}: {panicked}")),
        }
    };
    let found: Vec<Result<RgbImage>> = images.par_iter().map(|image| crop(image)).collect();
    let mut crops = Vec::with_capacity(images.len());
    let mut kept = Vec::with_capacity(images.len());
    for (image, crop) in images.iter().zip(found) {
        match crop {
            Ok(crop) => {
                crops.push(crop);
                kept.push(*image);
            }
            Err(error) => unread.push(error),
        }
    }
    *images = kept;
    crops
}

/// For each of `asked` the place of the nearest of `known`, the first of equals.
///
/// # Errors
/// When there is none to be near.
pub fn nearest(known: &[RgbImage], asked: &[RgbImage], seed: u64) -> Result<Vec<usize>> {
    let dim = components(known.len());
    if dim == 0 {
        anyhow::ensure!(!known.is_empty(), "none of the training images can be read");
        return Ok(vec![0; asked.len()]);
    }
    let fitted: Vec<RgbImage> = choose(known.len(), FITTED, seed)
        .into_iter()
        .map(|place| known[place].clone())
        .collect();
    let pca = Pca::fit(rows(&fitted), dim, seed)?;
    let projected: Vec<Tensor<2>> = (known.chunks(TOGETHER))
        .map(|crops| pca.project(rows(crops)))
        .collect();
    let known = Tensor::cat(projected, 0); // [n, dim]
    let squares = known.clone().powi_scalar(2).sum_dim(1).transpose(); // [1, n]
    let mut places = Vec::with_capacity(asked.len());
    for crops in asked.chunks(TOGETHER) {
        let asked = pca.project(rows(crops)); // [a, dim]
        // The square of the distance, without what is the same for all of `known`.
        let distance = squares.clone() - asked.matmul(known.clone().transpose()) * 2.0; // [a, n]
        let nearest: Tensor<2, Int> = distance.argmin(1); // [a, 1]
        places.extend(
            nearest
                .into_data()
                .iter::<i64>()
                .map(|place| place as usize),
        );
    }
    Ok(places)
}

/// Crops as rows of numbers, `[n, 3 * SIDE * SIDE]`.
fn rows(crops: &[RgbImage]) -> Tensor<2> {
    let values = preprocessing(SIDE).normalize_all(crops.par_iter());
    let width = values.len() / crops.len().max(1);
    Tensor::from_data(
        TensorData::new(values, [crops.len(), width]),
        &Device::flex(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// A gradient of one color.
    fn crop(color: [u8; 3], slope: u8) -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| {
            Rgb(color.map(|value| value.saturating_add((x as u8 + y as u8) / 8 * slope)))
        })
    }

    #[test]
    fn the_nearest_image_is_the_one_that_differs_least() {
        let known: Vec<RgbImage> = (0..6_u8)
            .map(|i| crop([40 * i, 200 - 40 * i, 90], i))
            .collect();
        let asked = [
            crop([43, 160, 92], 1),
            crop([198, 2, 90], 5),
            crop([0, 200, 90], 0),
        ];
        assert_eq!(nearest(&known, &asked, 1).unwrap(), [1, 5, 0]);
        assert_eq!(nearest(&known[..1], &asked, 1).unwrap(), [0, 0, 0]);
        assert!(nearest(&[], &asked, 1).is_err());
    }
}
