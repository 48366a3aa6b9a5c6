//! What a caption loses when a part of the image is covered. It needs no more of the networks than their answers.

use anyhow::Result;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use image::{Rgb, RgbImage};

use super::attention::{Reading, split};
use crate::captioner::{ImageEncoder, Modules};
use crate::models::caption_model::CaptionModel;
use crate::nn;
use crate::vector;

/// Images embedded and scored together.
const TOGETHER: usize = 16;

/// A square image divided into `side` by `side` cells, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Cells a side.
    pub side: usize,
}

impl Grid {
    /// Number of cells.
    pub fn count(self) -> usize {
        self.side * self.side
    }

    /// The first pixel of each column or row, and the image's end, `side + 1` of them.
    fn borders(self, pixels: u32) -> impl Fn(usize) -> u32 {
        let side = self.side as u64;
        move |index| (u64::from(pixels) * index as u64 / side) as u32
    }

    /// The image with some of its cells in its mean color.
    pub fn cover(self, image: &RgbImage, cells: impl IntoIterator<Item = usize>) -> RgbImage {
        let (mean, mut covered) = (mean_color(image), image.clone());
        let (x, y) = (self.borders(image.width()), self.borders(image.height()));
        for cell in cells {
            let (row, column) = (cell / self.side, cell % self.side);
            for y in y(row)..y(row + 1) {
                for x in x(column)..x(column + 1) {
                    covered.put_pixel(x, y, mean);
                }
            }
        }
        covered
    }
}

/// Rounded to whole steps of color.
fn mean_color(image: &RgbImage) -> Rgb<u8> {
    let mut sums = [0_u64; 3];
    for pixel in image.pixels() {
        for (sum, &value) in sums.iter_mut().zip(&pixel.0) {
            *sum += u64::from(value);
        }
    }
    let count = (u64::from(image.width()) * u64::from(image.height())).max(1);
    Rgb(sums.map(|sum| ((sum + count / 2) / count) as u8))
}

/// How much lower the log-probability of each explained token is with each cell covered: `[side * side]` for each token.
///
/// # Errors
/// When the device fails.
pub fn cells(
    modules: &Modules,
    encoder: &ImageEncoder,
    crop: &RgbImage,
    reading: &Reading,
    grid: Grid,
) -> Result<Vec<Vec<f32>>> {
    let whole = log_probs(&modules.captions, &[reading.embedding.to_vec()], reading)?;
    let mut maps = vec![Vec::with_capacity(grid.count()); reading.explained.len()];
    let all: Vec<usize> = (0..grid.count()).collect();
    for cells in all.chunks(TOGETHER) {
        let covered: Vec<RgbImage> = (cells.iter())
            .map(|&cell| grid.cover(crop, [cell]))
            .collect();
        let scores = log_probs(&modules.captions, &encoder.embed(&covered)?, reading)?;
        for scores in scores {
            for ((map, score), whole) in maps.iter_mut().zip(scores).zip(&whole[0]) {
                map.push(whole - score);
            }
        }
    }
    Ok(maps)
}

/// The log-probability of each explained token, for each of some embeddings as CLIP gives them.
///
/// # Errors
/// When the device fails.
pub fn log_probs(
    captions: &CaptionModel,
    embeddings: &[Vec<f32>],
    reading: &Reading,
) -> Result<Vec<Vec<f32>>> {
    let (explained, gpt2) = (reading.explained.clone(), &captions.gpt2);
    let device = gpt2.wte.weight.val().device();
    let tokens = &reading.tokens[..explained.end];
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    let mut found = Vec::with_capacity(embeddings.len());
    for embeddings in embeddings.chunks(TOGETHER) {
        let rows: Vec<Vec<f32>> = (embeddings.iter())
            .map(|row| match reading.normalize {
                true => vector::normalized(row),
                false => row.clone(),
            })
            .collect();
        let (b, t) = (rows.len(), tokens.len());
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let ids = TensorData::new(ids.repeat(b), [b, t]);
        let ids = Tensor::<2, Int>::from_data(ids, &device); // [B, T]
        let states = captions.forward(nn::rows_to_tensor(&rows, &device), ids.clone()); // [B, T, C]
        let [_, _, c] = states.dims();
        let (start, n) = (explained.start, explained.len());
        let states = states.narrow(1, start, n).reshape([b * n, c]); // [B N, C]
        let targets = ids.narrow(1, start, n).reshape([b * n, 1]);
        let scores = log_softmax(gpt2.logits(states), 1).gather(1, targets); // [B N, 1]
        found.extend(split(scores.reshape([b, n]))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_tile_the_image_and_take_its_mean_color() {
        let image = RgbImage::from_fn(10, 10, |x, _| Rgb([(x * 20) as u8, 7, 0]));
        for side in [1, 3, 4, 10] {
            let grid = Grid { side };
            let all = grid.cover(&image, 0..grid.count());
            assert!(
                all.pixels().all(|pixel| *pixel == Rgb([90, 7, 0])),
                "{side}"
            );
            let mut once = 0;
            for cell in 0..grid.count() {
                let covered = grid.cover(&image, [cell]);
                once += covered.pixels().filter(|pixel| pixel.0[0] == 90).count();
            }
            assert_eq!(once, 100, "each pixel belongs to one cell of {side}");
        }
        let corner = Grid { side: 2 }.cover(&image, [1]);
        assert_eq!(corner.get_pixel(9, 0), &Rgb([90, 7, 0]));
        assert_eq!(corner.get_pixel(0, 0), image.get_pixel(0, 0));
        assert_eq!(corner.get_pixel(9, 9), image.get_pixel(9, 9));
    }
}
