//! Pillow's bicubic resampling of 8-bit pixels, to the last bit (`Resample.c`, Pillow 13).
//!
//! It is written out here because the crates for it weigh one pixel more or less at each end of the window, which is up
//! to 19 gray levels off at hard edges.

use image::RgbImage;

/// Bits behind the binary point of a weight: 32, less 8 for the pixel and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;
/// One half, so that cutting off rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// A part of a side of the resized image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Length of the whole side after resizing.
    pub full: u64,
    /// First pixel wanted.
    pub start: u64,
    /// Number of pixels wanted.
    pub count: u32,
}

/// Where an output pixel's input begins, and the weights of the pixels from there on.
struct Kernel {
    first: usize,
    weights: Vec<i32>,
}

/// The `columns` x `rows` window of the image resized to `columns.full` x `rows.full`.
pub fn resample(image: &RgbImage, columns: Window, rows: Window) -> RgbImage {
    let (width, height) = image.dimensions();
    let across = kernels(width, columns);
    let mut down = kernels(height, rows);
    let stride = 3 * width as usize;
    // Each pass rounds, so their order shows in the last bits. Pillow shrinks the height of tall images first.
    let pixels = if height > 2 * width && rows.full < u64::from(height) {
        let lowered = resample_columns(image.as_raw(), stride, &down);
        resample_rows(&lowered, stride, &across)
    } else {
        // Only the rows that the second pass reads.
        let first = down.iter().map(|kernel| kernel.first).min().unwrap_or(0);
        let last = down
            .iter()
            .map(|kernel| kernel.first + kernel.weights.len())
            .max()
            .unwrap_or(0);
        let narrowed = resample_rows(
            &image.as_raw()[stride * first..stride * last],
            stride,
            &across,
        );
        down.iter_mut().for_each(|kernel| kernel.first -= first);
        resample_columns(&narrowed, 3 * across.len(), &down)
    };
    RgbImage::from_raw(columns.count, rows.count, pixels).expect("three bytes a pixel")
}

/// Every row, of `stride` bytes, becomes one of `kernels.len()` pixels.
fn resample_rows(pixels: &[u8], stride: usize, kernels: &[Kernel]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / stride * 3 * kernels.len());
    for row in pixels.chunks_exact(stride) {
        for kernel in kernels {
            let mut sums = [HALF; 3];
            for (values, &weight) in row[3 * kernel.first..].chunks_exact(3).zip(&kernel.weights) {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(clip));
        }
    }
    out
}

/// The rows, of `stride` bytes, become `kernels.len()` rows.
fn resample_columns(pixels: &[u8], stride: usize, kernels: &[Kernel]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stride * kernels.len());
    let mut sums = vec![0_i32; stride];
    for kernel in kernels {
        sums.fill(HALF);
        for (row, &weight) in pixels[stride * kernel.first..]
            .chunks_exact(stride)
            .zip(&kernel.weights)
        {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn kernels(side: u32, window: Window) -> Vec<Kernel> {
    let scale = f64::from(side) / window.full as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    (0..u64::from(window.count))
        .map(|i| {
            let center = ((window.start + i) as f64 + 0.5) * scale;
            // Truncation, as C's cast does: below zero it is clamped anyway.
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(side as usize);
            let weights: Vec<f64> = (first..end)
                .map(|x| bicubic((x as f64 - center + 0.5) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            Kernel {
                first,
                weights: weights
                    .iter()
                    .map(|weight| fixed_point(weight / sum))
                    .collect(),
            }
        })
        .collect()
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

/// Keys' cubic with `a = -0.5`.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
