//! Weights of 8 bits: products in integers.
//!
//! A weight is `scale q` with `q` from -127 to 127 and a scale for each column; a value of the left factor
//! `scale (q - zero)` with `q` from 0 to 255, and scale and zero point for each row, from its least and greatest values. So
//! `sum x w = scale_row scale_column (sum q_x q_w - zero sum q_w)`, where all in brackets are integers.

use super::View;
use super::left::{Converts, pack_converted};
use super::weight::{Weights, sealed::Weight};
use crate::simd::{LANES, Simd};

/// Of a row of the left factor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    scale: f32,
    zero: i32,
}

/// Of sixteen columns of weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    scales: [f32; LANES],
    /// Of the packed values.
    sums: [i32; LANES],
}

/// Added to a number below 2^22, it leaves the nearest integer in the last bits.
const TO_INTEGER: f32 = 12_582_912.0; // 1.5 * 2^23

impl Weight for i8 {
    const GROUP: usize = 4;
    type Right = [i8; 4];
    type Left = [u8; 4];
    type Row = Row;
    type Columns = Columns;
    const OBSERVES: bool = true;

    /// Raises the scales to what the row needs.
    #[inline(always)]
    fn observe(columns: &mut Columns, row: &[f32; LANES]) {
        for (scale, x) in columns.scales.iter_mut().zip(row) {
            *scale = scale.max(x.abs() / 127.0);
        }
    }
    #[inline(always)]
    fn store<S: Simd>(
        _: S,
        columns: &mut Columns,
        rows: &[[f32; LANES]],
        out: &mut [[i8; 4]; LANES],
    ) {
        for (i, row) in rows.iter().enumerate() {
            for lane in 0..LANES {
                let q = row[lane] * inverse(columns.scales[lane]) + TO_INTEGER;
                let q = q.to_bits() as i8;
                columns.sums[lane] += i32::from(q);
                out[lane][i] = q;
            }
        }
    }
    #[inline(always)]
    fn value(group: &[i8; 4], index: usize, columns: &Columns, lane: usize) -> f32 {
        f32::from(group[index]) * columns.scales[lane]
    }
    #[inline(always)]
    fn pack_left<S: Simd>(
        s: S,
        a: View,
        first: usize,
        height: usize,
        out: &mut [[u8; 4]],
        rows: &mut [Row],
    ) {
        pack_converted::<S, Self>(s, a, first, height, out, rows);
    }
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        s: S,
        a: &[[[u8; 4]; R]],
        rows: &[Row; R],
        b: Weights<[i8; 4], P>,
        columns: &[Columns; P],
        out: &mut [[[f32; LANES]; P]; R],
    ) {
        let sums = bytemuck::cast_slice_mut(out.as_flattened_mut().as_flattened_mut());
        let sums = sums.as_chunks_mut::<LANES>().0.as_chunks_mut::<P>().0;
        let [sums] = sums.as_chunks_mut::<R>().0 else {
            unreachable!("{R} rows")
        };
        for r in 0..R {
            let zero = rows[r].zero.wrapping_neg();
            for p in 0..P {
                for (sum, column) in sums[r][p].iter_mut().zip(columns[p].sums) {
                    *sum = column.wrapping_mul(zero);
                }
            }
        }
        s.tile_int8(b.tile(a, sums));
        let scales: [S::V; P] = std::array::from_fn(|p| s.load(&columns[p].scales));
        for r in 0..R {
            let scale = s.splat(rows[r].scale);
            for p in 0..P {
                let sum: &mut [i32; LANES] = &mut sums[r][p];
                let v = s.mul(s.mul(s.load_i32(sum), scale), scales[p]);
                s.store(v, bytemuck::cast_mut(sum));
            }
        }
    }
}

/// `1 / scale`, or 0 for the scale of nothing but zeros.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// What turns the values of a row into bytes.
#[derive(Clone, Copy)]
struct ToByte<V> {
    factor: V,
    /// The least and the greatest integer, before the zero point is added.
    low: V,
    high: V,
    /// With what leaves integers in the last bits.
    zero: V,
}

impl<V: Copy> ToByte<V> {
    /// The byte of each value, in its last bits.
    #[inline(always)]
    fn convert<S: Simd<V = V>>(&self, s: S, x: V) -> V {
        let v = s.mul(x, self.factor);
        s.add(s.min(s.max(v, self.low), self.high), self.zero)
    }
}

impl Converts for i8 {
    #[inline(always)]
    fn convert<S: Simd>(s: S, x: &[f32], out: &mut [[u8; 4]]) -> Row {
        let (whole, rest) = x.as_chunks();
        let last = s.load_some(rest, 0.0);
        let (mut least, mut most) = (s.min(last, s.splat(0.0)), s.max(last, s.splat(0.0)));
        for x in whole {
            let x = s.load(x);
            (least, most) = (s.min(x, least), s.max(x, most));
        }
        let least = -s.highest(s.sub(s.splat(0.0), least));
        let scale = (s.highest(most) - least) / 255.0;
        let factor = inverse(scale);
        let zero = ((-least * factor + TO_INTEGER) - TO_INTEGER).min(255.0);
        let to_byte = ToByte {
            factor: s.splat(factor),
            low: s.splat(-zero),
            high: s.splat(255.0 - zero),
            zero: s.splat(TO_INTEGER + zero),
        };
        let (bytes, tail) = out.as_flattened_mut().as_chunks_mut();
        for (x, out) in whole.iter().zip(&mut *bytes) {
            s.store_last_bytes(to_byte.convert(s, s.load(x)), out);
        }
        if !rest.is_empty() {
            let mut last_bytes = [0; LANES];
            s.store_last_bytes(to_byte.convert(s, last), &mut last_bytes);
            let out = match bytes.get_mut(whole.len()) {
                Some(out) => out.as_mut_slice(),
                None => tail,
            };
            out.copy_from_slice(&last_bytes[..out.len()]);
        }
        Row {
            scale,
            zero: zero as i32,
        }
    }
}
