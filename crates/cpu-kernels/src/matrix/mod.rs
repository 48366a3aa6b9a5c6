//! Matrix products. The right factor is packed into panels of [`Isa::panel`] columns, so that a row of a panel is what
//! one step of the inner loop reads; the left one into tiles of a few rows, whose sums stay in registers.
//!
//! Shapes: `[m, k] x [k, n] -> [m, n]`.
//!
//! [`Isa::panel`]: super::simd::Isa::panel

mod packed;
mod tile;

use rayon::prelude::*;

use super::simd::{Isa, LANES, Simd};
use crate::Activation;
use packed::{Pack, Panels};
use tile::{Block, pack_tiles};

pub use packed::{Packed, Stored};
pub(super) use tile::{Out, tiling};

/// Multiplications below which a product is not worth handing out.
const WORTH_SHARING: usize = 64 * 1024;
/// A matrix in someone else's memory, perhaps transposed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    /// From a row to the next, in floats.
    pub row_stride: usize,
    /// From a column to the next, in floats.
    pub col_stride: usize,
}

/// What is done to a product as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Summand a column.
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Activation>,
    /// Whether the product is added to what is there.
    pub accumulate: bool,
}

impl<'a> View<'a> {
    /// A row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "{rows} x {cols}");
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    pub fn transpose(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The rows of a range.
    pub fn some_rows(self, range: std::ops::Range<usize>) -> Self {
        Self {
            data: &self.data[(range.start * self.row_stride).min(self.data.len())..],
            rows: range.len(),
            ..self
        }
    }

    pub(super) fn row(self, row: usize) -> impl Iterator<Item = &'a f32> {
        let start = (row * self.row_stride).min(self.data.len());
        self.data[start..]
            .iter()
            .step_by(self.col_stride)
            .take(self.cols)
    }
}

/// `out = a x b`, both as they are, over all cores.
pub fn product(a: View, b: View, out: &mut [f32], epilogue: Epilogue) {
    Packed::<f32>::with_isa(b, Isa::best()).product(a, out, epilogue);
}

/// The sum of each column.
pub fn sum_rows(a: View) -> Vec<f32> {
    let threads = rayon::current_num_threads();
    let share = a.rows.div_ceil(threads).max(1);
    let parts: Vec<Vec<f32>> = (0..a.rows.div_ceil(share))
        .into_par_iter()
        .map(|i| {
            let mut sums = vec![0.0; a.cols];
            for row in i * share..a.rows.min((i + 1) * share) {
                let row = &a.data[row * a.row_stride..][..a.cols];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0; a.cols];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Memory for [`small_product`], to be used again.
#[derive(Default)]
pub(super) struct Scratch {
    tiles: Vec<f32>,
    panels: Vec<f32>,
}

/// `out = a x b` by one thread, for factors that fit the cache.
#[inline(always)]
pub(super) fn small_product<S: Simd>(s: S, a: View, b: View, out: Out, scratch: &mut Scratch) {
    let Scratch { tiles, panels } = scratch;
    let (height, count) = tiling(a.rows, S::ROWS);
    tiles.clear();
    tiles.resize(count * height * a.cols, 0.0);
    pack_tiles(a, 0, height, tiles);
    let panel = S::PANELS * LANES;
    panels.clear();
    panels.resize(b.cols.div_ceil(panel) * b.rows * panel, 0.0);
    if b.rows > 0 {
        for (i, out) in panels.chunks_exact_mut(b.rows * panel).enumerate() {
            let pack = Pack {
                b,
                first: i * panel,
                scales: None,
                out,
            };
            s.vectorize(pack);
        }
    }
    s.vectorize(Block {
        tiles,
        height,
        first_row: 0,
        b: Panels {
            data: panels.as_slice(),
            scales: None,
            rows: b.rows,
            cols: b.cols,
        },
        panels: 0..b.cols.div_ceil(panel),
        first_panel: 0,
        out,
        epilogue: Epilogue::default(),
    });
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    fn naive(a: View, b: View) -> Vec<f32> {
        let at = |v: &View, i: usize, j: usize| v.data[i * v.row_stride + j * v.col_stride];
        let mut out = Vec::new();
        for i in 0..a.rows {
            for j in 0..b.cols {
                let sum: f64 = (0..a.cols)
                    .map(|k| f64::from(at(&a, i, k)) * f64::from(at(&b, k, j)))
                    .sum();
                out.push(sum as f32);
            }
        }
        out
    }

    /// Odd ones, ones below a vector, ones that are shared among threads.
    const SHAPES: [[usize; 3]; 9] = [
        [1, 1, 1],
        [1, 7, 50],
        [2, 16, 16],
        [5, 33, 31],
        [13, 64, 65],
        [50, 20, 17],
        [1, 300, 1000],
        [130, 70, 90],
        [700, 300, 40],
    ];

    fn check<W: Stored>(tolerance: f32) {
        check_with::<W>(tolerance, Some(Activation::Relu));
        check_with::<W>(tolerance, None);
    }

    fn check_with<W: Stored>(tolerance: f32, activation: Option<Activation>) {
        for isa in Isa::all() {
            for [m, k, n] in SHAPES {
                let (x, w) = (wave(m * k, 0.31), wave(k * n, 0.17));
                for transposed in [false, true] {
                    let (a, b) = if transposed {
                        (
                            View::new(&x, k, m).transpose(),
                            View::new(&w, n, k).transpose(),
                        )
                    } else {
                        (View::new(&x, m, k), View::new(&w, k, n))
                    };
                    let bias = wave(n, 0.9);
                    let mut out = wave(m * n, 0.01);
                    let packed = Packed::<W>::with_isa(b, isa);
                    let epilogue = Epilogue {
                        bias: Some(&bias),
                        activation,
                        accumulate: true,
                    };
                    packed.product(a, &mut out, epilogue);
                    let before = wave(m * n, 0.01);
                    let bound = tolerance * (k as f32).sqrt();
                    for (i, expected) in naive(a, b).into_iter().enumerate() {
                        let sum = expected + bias[i % n];
                        let sum = activation.map_or(sum, |_| sum.max(0.0));
                        let expected = before[i] + sum;
                        assert!(
                            (out[i] - expected).abs() < bound,
                            "{} {m} {k} {n}: {} {expected}",
                            isa.name(),
                            out[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn products_of_odd_shapes_equal_plain_loops() {
        check::<f32>(2e-6);
    }

    #[test]
    fn columns_are_what_was_packed() {
        let w = wave(5 * 70, 0.17);
        for isa in Isa::all() {
            let packed = Packed::<f16>::with_isa(View::new(&w, 5, 70), isa);
            for column in [0, 15, 16, 31, 33, 69] {
                let mut out = [0.0; 5];
                packed.column(column, &mut out);
                for (row, out) in out.iter().enumerate() {
                    assert_eq!(*out, f16::from_f32(w[row * 70 + column]).to_f32());
                }
            }
        }
    }

    #[test]
    fn half_weights_are_off_by_their_rounding_only() {
        check::<f16>(1e-3);
    }

    #[test]
    fn byte_weights_are_off_by_their_rounding_only() {
        check::<i8>(1e-2);
    }
}
