//! An image as CLIP sees it: shorter side resized to `image_size`, center crop, mean and standard deviation.
//!
//! It equals the transform of OpenAI's CLIP (`_transform` in `clip.py`, d05afc4) and of torchvision under it: Pillow's
//! antialiased bicubic on 8-bit pixels, rounded after each of its two passes. Hugging Face's slow processor places the
//! crop by another rounding, up to one pixel away when the overhang is odd.

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::resample::{Window, resample};

/// Sizes and constants; they belong to a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Side of the crop in pixels.
    pub image_size: u32,
    /// Subtracted from each channel of `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides each channel.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// The constants of OpenAI's models.
    #[expect(clippy::excessive_precision, reason = "the digits that OpenAI gives")]
    pub fn openai(image_size: u32) -> Self {
        Self {
            image_size,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }

    /// Resizes the shorter side to `image_size` and cuts the middle out, `image_size` pixels square.
    ///
    /// Only what the crop shows is computed: an image of 1 x 5000 pixels costs no more than any other.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        let n = self.image_size;
        let (width, height) = image.dimensions();
        if (width, height) == (n, n) {
            return image.clone();
        }
        let shorter = width.min(height);
        resample(image, window(width, shorter, n), window(height, shorter, n))
    }

    /// Crops as an encoder sees them, `[B, 3, n, n]`.
    pub fn normalize_all<'a>(
        &self,
        crops: impl IndexedParallelIterator<Item = &'a RgbImage>,
    ) -> Vec<f32> {
        let size = 3 * (self.image_size as usize).pow(2);
        let mut values = vec![0.0; crops.len() * size];
        crops
            .zip(values.par_chunks_mut(size))
            .for_each(|(crop, values)| self.normalize(crop.as_raw(), values));
        values
    }

    /// Writes `(pixel / 255 - mean) / std`, channel by channel.
    ///
    /// # Shapes
    /// - `pixels`: `[n, n, 3]` bytes; `out`: `[3, n, n]` values
    fn normalize(&self, pixels: &[u8], out: &mut [f32]) {
        let plane = (pixels.len() / 3).max(1);
        for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let of: [f32; 256] = std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
            for (out, pixel) in out.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *out = of[usize::from(pixel[channel])];
            }
        }
    }

    /// `(value - mean) / std`, channel by channel, of an image whose values are from 0 to 1.
    ///
    /// # Shapes
    /// - `values`: `[3, n, n]`
    pub fn standardize(&self, values: &mut [f32]) {
        let plane = (values.len() / 3).max(1);
        for (channel, values) in values.chunks_exact_mut(plane).enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            values
                .iter_mut()
                .for_each(|value| *value = (*value - mean) / std);
        }
    }

    /// Crop and normalization together, `[3, n, n]` values.
    pub fn pixel_values(&self, image: &RgbImage) -> Vec<f32> {
        let crop = self.crop(image);
        let mut values = vec![0.0; crop.as_raw().len()];
        self.normalize(crop.as_raw(), &mut values);
        values
    }
}

/// The whole image at `side` pixels square, its shape given up.
pub fn resized(image: &RgbImage, side: u32) -> RgbImage {
    if image.dimensions() == (side, side) {
        return image.clone();
    }
    let all = Window {
        full: side.into(),
        start: 0,
        count: side,
    };
    resample(image, all, all)
}

/// The middle `n` pixels of a side, when the shorter side is resized to `n`.
fn window(side: u32, shorter: u32, n: u32) -> Window {
    let full = u64::from(n) * u64::from(side) / u64::from(shorter);
    let overhang = (full - u64::from(n)) as f64;
    Window {
        full,
        // Python's `round`, which torchvision calls, takes a half to the even neighbor.
        start: (overhang / 2.0).round_ties_even() as u64,
        count: n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([
                (x * 7 % 256) as u8,
                (y * 5 % 256) as u8,
                ((x * y) % 251) as u8,
            ])
        })
    }

    #[test]
    fn the_crop_is_in_the_middle_and_halves_go_to_the_even_side() {
        assert_eq!(
            window(100, 100, 50),
            Window {
                start: 0,
                full: 50,
                count: 50
            }
        );
        assert_eq!(
            window(103, 100, 100),
            Window {
                start: 2,
                full: 103,
                count: 100
            }
        );
        assert_eq!(
            window(105, 100, 100),
            Window {
                start: 2,
                full: 105,
                count: 100
            }
        );
        assert_eq!(
            window(640, 480, 224),
            Window {
                start: 37,
                full: 298,
                count: 224
            }
        );
    }

    #[test]
    fn an_image_of_the_right_size_is_left_alone() {
        let image = ramp(16, 16);
        assert_eq!(Preprocessing::openai(16).crop(&image), image);
    }

    #[test]
    fn extreme_images_cost_no_more_than_others() {
        for (width, height) in [(1, 1), (1, 20_000), (20_000, 1), (2, 3)] {
            let crop = Preprocessing::openai(224).crop(&ramp(width, height));
            assert_eq!(crop.dimensions(), (224, 224));
        }
    }

    #[test]
    fn values_are_by_channel_and_normalized() {
        let preprocessing = Preprocessing {
            image_size: 1,
            mean: [0.0, 0.5, 1.0],
            std: [1.0, 0.5, 2.0],
        };
        let image = RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 51]));
        let values = preprocessing.pixel_values(&image);
        let expected = [1.0, -1.0, -0.4];
        assert!(
            values
                .iter()
                .zip(expected)
                .all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6),
            "{values:?}"
        );
    }
}
