//! The left factor of a product in tiles of a few rows: `[tile][k][height]`, zeros behind the last row.

use bytemuck::Zeroable;
use half::bf16;

use super::View;
use super::weight::{round, sealed::Weight};
use crate::dot::Pair;
use crate::simd::Simd;

/// Steps of a tile that are packed for all of its rows before the next ones.
const TOGETHER: usize = 64;

/// Rows a tile, at most `most` and as even as can be, and the number of tiles.
pub(crate) fn tiling(rows: usize, most: usize) -> (usize, usize) {
    let height = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    (height, rows.div_ceil(height))
}

/// Rows `first..` of `a` as tiles of `height` rows, `[tile][k][height]`, zeros behind the last row.
pub(super) fn pack_tiles(a: View, first: usize, height: usize, out: &mut [f32]) {
    let k = a.cols;
    if k == 0 {
        return;
    }
    for (tile, out) in out.chunks_exact_mut(height * k).enumerate() {
        let first = first + tile * height;
        let count = height.min(a.rows.saturating_sub(first));
        if a.row_stride == 1 {
            for (k, out) in out.chunks_exact_mut(height).enumerate() {
                let from = &a.data[k * a.col_stride + first..][..count];
                out[..count].copy_from_slice(from);
            }
        } else if a.col_stride == 1 {
            // Some steps of all rows before the next ones: what is written stays in the nearest cache.
            for (i, out) in out.chunks_mut(height * TOGETHER).enumerate() {
                let steps = out.len() / height;
                for r in 0..count {
                    let row = &a.data[(first + r) * a.row_stride + i * TOGETHER..][..steps];
                    for (k, &x) in row.iter().enumerate() {
                        out[k * height + r] = x;
                    }
                }
            }
        } else {
            for r in 0..count {
                for (out, &x) in out[r..].iter_mut().step_by(height).zip(a.row(first + r)) {
                    *out = x;
                }
            }
        }
    }
}

/// Weights whose products are of converted left factors.
pub(super) trait Converts: Weight {
    /// Converts a row to groups; what is behind its last value in `out` is 0.
    fn convert<S: Simd>(s: S, x: &[f32], out: &mut [Self::Left]) -> Self::Row;
}

/// As [`pack_tiles`], with rows converted: `[tile][group][height]`.
#[inline(always)]
pub(super) fn pack_converted<S: Simd, W: Converts>(
    s: S,
    a: View,
    first: usize,
    height: usize,
    out: &mut [W::Left],
    rows: &mut [W::Row],
) {
    let groups = a.cols.div_ceil(W::GROUP);
    if groups == 0 {
        return;
    }
    let mut line = vec![W::Left::zeroed(); groups];
    let mut gathered = Vec::new();
    let tiles = out.chunks_exact_mut(height * groups);
    for (i, (out, rows)) in tiles.zip(rows.chunks_exact_mut(height)).enumerate() {
        let first = first + i * height;
        let count = height.min(a.rows.saturating_sub(first));
        for (r, quantized) in rows.iter_mut().enumerate().take(count) {
            let row = if a.col_stride == 1 {
                &a.data[(first + r) * a.row_stride..][..a.cols]
            } else {
                gathered.clear();
                gathered.extend(a.row(first + r));
                &gathered
            };
            *quantized = W::convert(s, row, &mut line);
            for (out, group) in out.chunks_exact_mut(height).zip(&line) {
                out[r] = *group;
            }
        }
    }
}

/// As [`pack_tiles`], in pairs, of a transposed matrix: what is packed side by side lies so already.
#[inline(always)]
pub(super) fn pack_columns(a: View, first: usize, height: usize, out: &mut [Pair]) {
    let groups = a.cols.div_ceil(2);
    for (tile, out) in out.chunks_exact_mut((height * groups).max(1)).enumerate() {
        let first = first + tile * height;
        let count = height.min(a.rows.saturating_sub(first));
        let column = |k: usize| &a.data[k * a.col_stride + first..][..count];
        for (group, out) in out.chunks_exact_mut(height).enumerate() {
            let k = 2 * group;
            if k + 1 == a.cols {
                for (out, &x) in out.iter_mut().zip(column(k)) {
                    *out = [round(x), bf16::ZERO];
                }
            } else {
                for ((out, &x), &y) in out.iter_mut().zip(column(k)).zip(column(k + 1)) {
                    *out = [round(x), round(y)];
                }
            }
        }
    }
}
