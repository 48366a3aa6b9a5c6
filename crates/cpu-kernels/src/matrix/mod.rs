//! Matrix products. The right factor is packed into panels of [`Isa::panel`] columns, so that a row of a panel is what
//! one step of the inner loop reads; the left one into tiles of a few rows, whose sums stay in registers.
//!
//! Shapes: `[m, k] x [k, n] -> [m, n]`.
//!
//! [`Isa::panel`]: super::simd::Isa::panel

mod int8;
mod left;
mod packed;
mod tile;
mod weight;

use half::bf16;
use rayon::prelude::*;

use super::simd::{Isa, LANES, Simd};
use crate::Activation;
use left::pack_tiles;
use packed::{Pack, Panels};
use tile::Block;

pub(super) use left::tiling;
pub use packed::Packed;
pub(super) use tile::Out;
pub use weight::Weight;

/// Multiplications of groups below which a product is not worth handing out.
const WORTH_SHARING: usize = 64 * 1024;

/// A matrix in someone else's memory, perhaps transposed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    /// From a row to the next, in float32 values.
    pub row_stride: usize,
    /// From a column to the next, in float32 values.
    pub col_stride: usize,
}

/// What is done to a product as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Term added to each column.
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

/// What both factors of a product are rounded to before they are multiplied. Sums are in float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// Not at all.
    #[default]
    Float32,
    /// bfloat16: half the bytes, and twice the speed where the processor has an instruction for it.
    Bfloat16,
}

impl Compute {
    /// `out = a x b`, over all cores.
    pub fn product(self, a: View, b: View, out: &mut [f32], epilogue: Epilogue) {
        let isa = Isa::best();
        match self {
            Self::Float32 => Packed::<f32>::with_isa(b, isa).product(a, out, epilogue),
            Self::Bfloat16 => Packed::<bf16>::with_isa(b, isa).product(a, out, epilogue),
        }
    }
}

/// `out = a x b` in float32, over all cores.
pub fn product(a: View, b: View, out: &mut [f32], epilogue: Epilogue) {
    Compute::Float32.product(a, b, out, epilogue);
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

/// So many values of what may be more, with what was there before.
fn at_least(memory: &mut Vec<f32>, count: usize) -> &mut [f32] {
    memory.resize(memory.len().max(count), 0.0);
    &mut memory[..count]
}

/// `out = a x b` by one thread, for factors that fit the cache.
#[inline(always)]
pub(super) fn small_product<S: Simd>(s: S, a: View, b: View, out: Out, scratch: &mut Scratch) {
    let Scratch { tiles, panels } = scratch;
    let (height, count) = tiling(a.rows, S::ROWS);
    let rows = count * height;
    let tiles = at_least(tiles, rows * a.cols);
    pack_tiles(s, a, 0, height, tiles);
    let panel = S::PANELS * LANES;
    let count = b.cols.div_ceil(panel);
    let panels = at_least(panels, count * b.rows * panel);
    if b.rows > 0 {
        for (i, out) in panels.chunks_exact_mut(b.rows * panel).enumerate() {
            s.vectorize(Pack::<f32> {
                b,
                first: i * panel,
                out,
                columns: &mut vec![(); S::PANELS],
            });
        }
    }
    s.vectorize(Block::<f32> {
        left: tiles,
        rows: &vec![(); rows],
        height,
        first_row: 0,
        b: Panels {
            data: panels,
            columns: &vec![(); count * S::PANELS],
            rows: b.rows,
            cols: b.cols,
        },
        panels: 0..count,
        first_panel: 0,
        out,
        epilogue: Epilogue::default(),
    });
}

#[cfg(test)]
mod tests;
