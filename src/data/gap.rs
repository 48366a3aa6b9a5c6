//! The gap between CLIP's embeddings of images and of sentences: CapDec learns on one side of it and is used on the
//! other (Nukrai et al. 2022, <https://arxiv.org/abs/2211.00575>).

use std::sync::Arc;

use serde::Serialize;

use crate::vector::{dot, norm, normalized};

/// Images from which the centers are taken: CapDec's number (`embeddings_generator.py` at 4451bfd).
pub const CENTER_IMAGES: usize = 20_000;

/// What is between the two kinds of embeddings, all normalized.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    pub images: usize,
    pub captions: usize,
    /// Norms of the two means: near 1 when all point the same way.
    pub image_center_norm: f64,
    pub caption_center_norm: f64,
    /// Cosine of the two means.
    pub center_cosine: f64,
    /// Norm of the way from the captions' mean to the images'.
    pub offset_norm: f64,
    /// Mean cosine of an image and its captions.
    pub pair_cosine: f64,
    /// Mean cosine of two captions of an image; `None` when no image has two.
    pub caption_cosine: Option<f64>,
    /// Mean, over two captions of an image, of the largest difference in a coordinate: CapDec's rule takes it for the
    /// noise's standard deviation (section 3.2 of the paper).
    pub caption_distance: Option<f64>,
    /// Its square: what `--noise-variance` takes.
    pub noise_variance: Option<f64>,
    /// The way from the captions' mean to the images'.
    #[serde(skip)]
    pub offset: Vec<f32>,
}

impl Gap {
    /// Measures it on images and their captions' embeddings, in the same order; `None` when there are none.
    pub fn measure(images: &[Arc<[f32]>], captions: &[Vec<Arc<[f32]>>]) -> Option<Self> {
        let images: Vec<Vec<f32>> = images.iter().map(|image| normalized(image)).collect();
        let captions: Vec<Vec<Vec<f32>>> = captions
            .iter()
            .map(|captions| captions.iter().map(|caption| normalized(caption)).collect())
            .collect();
        let count = captions.iter().map(Vec::len).sum();
        if images.is_empty() || count == 0 {
            return None;
        }
        let image_center = mean(images.iter());
        let caption_center = mean(captions.iter().flatten());
        let offset: Vec<f32> = image_center
            .iter()
            .zip(&caption_center)
            .map(|(a, b)| a - b)
            .collect();
        let pairs = images
            .iter()
            .zip(&captions)
            .flat_map(|(image, captions)| captions.iter().map(|caption| dot(image, caption)));
        let siblings = || captions.iter().flat_map(|captions| pairs_of(captions));
        let caption_distance = average(siblings().map(|(a, b)| largest_difference(a, b)));
        Some(Self {
            images: images.len(),
            captions: count,
            image_center_norm: norm(&image_center),
            caption_center_norm: norm(&caption_center),
            center_cosine: dot(&image_center, &caption_center)
                / (norm(&image_center) * norm(&caption_center)),
            offset_norm: norm(&offset),
            pair_cosine: average(pairs).unwrap_or_default(),
            caption_cosine: average(siblings().map(|(a, b)| dot(a, b))),
            caption_distance,
            noise_variance: caption_distance.map(|distance| distance.powi(2)),
            offset,
        })
    }
}

fn pairs_of(all: &[Vec<f32>]) -> impl Iterator<Item = (&[f32], &[f32])> {
    all.iter()
        .enumerate()
        .flat_map(move |(i, a)| all[i + 1..].iter().map(move |b| (&a[..], &b[..])))
}

fn mean<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> Vec<f32> {
    let mut sum: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for row in rows {
        sum.resize(row.len(), 0.0);
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, &value)| *sum += f64::from(value));
        count += 1.0;
    }
    sum.into_iter().map(|sum| (sum / count) as f32).collect()
}

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centers_cosines_and_distances_are_of_normalized_embeddings() {
        let row = |x: f32, y: f32| -> Arc<[f32]> { [x, y].into() };
        let images = [row(2.0, 0.0), row(0.0, 3.0)];
        let captions = [vec![row(5.0, 0.0), row(3.0, 4.0)], vec![row(0.0, 1.0)]];
        let gap = Gap::measure(&images, &captions).unwrap();
        assert_eq!((gap.images, gap.captions), (2, 3));
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
        close(gap.image_center_norm, 0.5_f64.sqrt());
        close(
            gap.caption_center_norm,
            (1.6_f64.powi(2) + 1.8_f64.powi(2)).sqrt() / 3.0,
        );
        close(gap.pair_cosine, (1.0 + 0.6 + 1.0) / 3.0);
        close(gap.caption_cosine.unwrap(), 0.6);
        close(gap.caption_distance.unwrap(), 0.8);
        close(gap.noise_variance.unwrap(), 0.64);
        close(f64::from(gap.offset[0]), 0.5 - 1.6 / 3.0);
    }

    #[test]
    fn nothing_to_measure_is_none() {
        assert_eq!(Gap::measure(&[], &[]), None);
    }
}
