//! The left factor of a product in tiles of a few rows: `[tile][k][height]`.

use half::bf16;

use super::View;
use super::weight::{round, sealed::Weight};
use crate::dot::Pair;
use crate::simd::{LANES, Simd};

/// Rows a tile, at most `most` and as even as can be, and the number of tiles.
pub(crate) fn tiling(rows: usize, most: usize) -> (usize, usize) {
    let height = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    (height, rows.div_ceil(height))
}

/// Rows `first..` of `a` as tiles of `height` rows, `[tile][k][height]`; what is behind the last row is left as it is.
#[inline(always)]
pub(super) fn pack_tiles<S: Simd>(s: S, a: View, first: usize, height: usize, out: &mut [f32]) {
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
                s.store_some(s.load_some(from, 0.0), &mut out[..count]);
            }
        } else if a.col_stride == 1 {
            let rows = &a.data[(first * a.row_stride).min(a.data.len())..];
            interleave(s, rows, [count, a.row_stride, k], height, out);
        } else {
            for r in 0..count {
                for (out, &x) in out[r..].iter_mut().step_by(height).zip(a.row(first + r)) {
                    *out = x;
                }
            }
        }
    }
}

/// `count` rows of `length` values, `stride` apart, as `[length][height]`; `height` is at most [`LANES`].
#[inline(always)]
fn interleave<S: Simd>(
    s: S,
    rows: &[f32],
    [count, stride, length]: [usize; 3],
    height: usize,
    out: &mut [f32],
) {
    for first in (0..length).step_by(LANES) {
        let some = LANES.min(length - first);
        let mut block = [s.splat(0.0); LANES];
        for (r, v) in block.iter_mut().enumerate().take(count) {
            *v = s.load_some(&rows[r * stride + first..][..some], 0.0);
        }
        let columns = s.transpose(block);
        let out = &mut out[first * height..];
        for (i, &column) in columns.iter().enumerate().take(some) {
            // What is written too far is written again by the next one.
            let to = &mut out[i * height..];
            let width = match to.len() {
                LANES.. => LANES,
                _ => height,
            };
            s.store_some(column, &mut to[..width]);
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
    const { assert!(size_of::<W::Left>() == size_of::<f32>()) };
    // As bits of float32 values, which is what can be transposed.
    let mut lines = vec![0.0_f32; height * groups];
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
            let line = &mut lines[r * groups..(r + 1) * groups];
            *quantized = W::convert(s, row, bytemuck::cast_slice_mut(line));
        }
        let out = bytemuck::cast_slice_mut(out);
        interleave(s, &lines, [count, groups, groups], height, out);
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
