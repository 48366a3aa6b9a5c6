//! Types of weights, and the arithmetic that products with them are in.

use bytemuck::Pod;
use half::{bf16, f16};

use super::View;
use super::left::{Converts, pack_columns, pack_converted, pack_tiles};
use super::tile::Block;
use crate::dot::{Float16, Float32, Pair, Tile};
use crate::simd::{LANES, Simd};

/// A weight, as [`Packed`](super::Packed) keeps it.
///
/// | type | left factor | sums | bytes |
/// | --- | --- | --- | ---: |
/// | `f32` | float32 | float32 | 4 |
/// | `f16` | float32 | float32; weights are widened as they are loaded | 2 |
/// | `bf16` | rounded to bfloat16 | float32 | 2 |
/// | `i8` | quantized to 8 bits, each row with a scale and a zero point | int32; each column has a scale | 1 |
pub trait Weight: sealed::Weight {}

impl<W: sealed::Weight> Weight for W {}

pub(super) mod sealed {
    use super::*;

    /// What [`super::Weight`] is to this module.
    ///
    /// Weights lie in groups along the inner dimension, and both factors end with zeros where it is no multiple of a group.
    pub trait Weight: Pod + Send + Sync {
        /// Values of a group.
        const GROUP: usize;
        /// A group of weights.
        type Right: Pod + Send + Sync;
        /// A group of the left factor.
        type Left: Pod + Send + Sync;
        /// How a row of the left factor was quantized.
        type Row: Copy + Default + Send + Sync;
        /// How sixteen columns of weights were quantized.
        type Columns: Copy + Default + Send + Sync + std::fmt::Debug;
        /// Whether `observe` wants to see all rows of sixteen columns before the first is packed.
        const OBSERVES: bool = false;

        fn observe(_columns: &mut Self::Columns, _row: &[f32; LANES]) {}
        /// Packs a group of sixteen columns.
        fn store<S: Simd>(
            s: S,
            columns: &mut Self::Columns,
            rows: &[[f32; LANES]],
            out: &mut [Self::Right; LANES],
        );
        /// A packed weight: of a group of column `lane`.
        fn value(group: &Self::Right, index: usize, columns: &Self::Columns, lane: usize) -> f32;
        /// Rows `first..` of `a` as tiles of `height` rows, `[tile][group][height]`.
        fn pack_left<S: Simd>(
            s: S,
            a: View,
            first: usize,
            height: usize,
            out: &mut [Self::Left],
            rows: &mut [Self::Row],
        );
        /// The products of `R` rows and `P` vectors of columns.
        fn tile<S: Simd, const R: usize, const P: usize>(
            s: S,
            a: &[[Self::Left; R]],
            rows: &[Self::Row; R],
            b: Weights<Self::Right, P>,
            columns: &[Self::Columns; P],
            out: &mut [[[f32; LANES]; P]; R],
        );
        /// Some tiles times some panels.
        #[inline(always)]
        fn block<S: Simd>(s: S, block: Block<Self>) {
            block.multiply(s)
        }
    }
}

impl sealed::Weight for f32 {
    const GROUP: usize = 1;
    type Right = f32;
    type Left = f32;
    type Row = ();
    type Columns = ();

    #[inline(always)]
    fn store<S: Simd>(_: S, _: &mut (), rows: &[[f32; LANES]], out: &mut [f32; LANES]) {
        *out = rows[0];
    }
    #[inline(always)]
    fn value(group: &f32, _: usize, _: &(), _: usize) -> f32 {
        *group
    }
    #[inline(always)]
    fn pack_left<S: Simd>(
        s: S,
        a: View,
        first: usize,
        height: usize,
        out: &mut [f32],
        _: &mut [()],
    ) {
        pack_tiles(s, a, first, height, out);
    }
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        s: S,
        a: &[[f32; R]],
        _: &[(); R],
        b: Weights<f32, P>,
        _: &[(); P],
        out: &mut [[[f32; LANES]; P]; R],
    ) {
        *out = [[[0.0; LANES]; P]; R];
        b.tile(a, out).run(Float32(s));
    }
}

/// A panel of weights for one tile.
#[derive(Clone, Copy)]
pub struct Weights<'a, G, const P: usize> {
    pub(super) panel: &'a [[[G; LANES]; P]],
    /// The panel that is needed next, and which of its vectors are read ahead.
    pub(super) next: Option<(&'a [[[G; LANES]; P]], usize)>,
}

impl<'a, G, const P: usize> Weights<'a, G, P> {
    #[inline(always)]
    pub(super) fn tile<L, T, const R: usize>(
        self,
        a: &'a [[L; R]],
        sums: &'a mut [[[T; LANES]; P]; R],
    ) -> Tile<'a, L, G, T, R, P> {
        Tile {
            a,
            b: self.panel,
            next: self.next,
            sums,
        }
    }
}

/// Tiles from which on a panel of float16 is widened once for all of them.
const WIDEN: usize = 4;

impl sealed::Weight for f16 {
    const GROUP: usize = 1;
    type Right = f16;
    type Left = f32;
    type Row = ();
    type Columns = ();

    #[inline(always)]
    fn store<S: Simd>(s: S, _: &mut (), rows: &[[f32; LANES]], out: &mut [f16; LANES]) {
        s.store_f16(s.load(&rows[0]), out);
    }
    #[inline(always)]
    fn value(group: &f16, _: usize, _: &(), _: usize) -> f32 {
        group.to_f32()
    }
    #[inline(always)]
    fn pack_left<S: Simd>(
        s: S,
        a: View,
        first: usize,
        height: usize,
        out: &mut [f32],
        _: &mut [()],
    ) {
        pack_tiles(s, a, first, height, out);
    }
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        s: S,
        a: &[[f32; R]],
        _: &[(); R],
        b: Weights<f16, P>,
        _: &[(); P],
        out: &mut [[[f32; LANES]; P]; R],
    ) {
        *out = [[[0.0; LANES]; P]; R];
        b.tile(a, out).run(Float16(s));
    }
    #[inline(always)]
    fn block<S: Simd>(s: S, block: Block<f16>) {
        match block.tiles() < WIDEN {
            true => block.multiply(s),
            false => block.widened(s),
        }
    }
}

impl sealed::Weight for bf16 {
    const GROUP: usize = 2;
    type Right = Pair;
    type Left = Pair;
    type Row = ();
    type Columns = ();

    #[inline(always)]
    fn store<S: Simd>(_: S, _: &mut (), rows: &[[f32; LANES]], out: &mut [Pair; LANES]) {
        for lane in 0..LANES {
            out[lane] = [round(rows[0][lane]), round(rows[1][lane])];
        }
    }
    #[inline(always)]
    fn value(group: &Pair, index: usize, _: &(), _: usize) -> f32 {
        group[index].to_f32()
    }
    #[inline(always)]
    fn pack_left<S: Simd>(
        s: S,
        a: View,
        first: usize,
        height: usize,
        out: &mut [Pair],
        rows: &mut [()],
    ) {
        match a.row_stride {
            1 => pack_columns(a, first, height, out),
            _ => pack_converted::<S, Self>(s, a, first, height, out, rows),
        }
    }
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        s: S,
        a: &[[Pair; R]],
        _: &[(); R],
        b: Weights<Pair, P>,
        _: &[(); P],
        out: &mut [[[f32; LANES]; P]; R],
    ) {
        *out = [[[0.0; LANES]; P]; R];
        s.tile_bf16(b.tile(a, out));
    }
}

impl Converts for bf16 {
    #[inline(always)]
    fn convert<S: Simd>(_: S, x: &[f32], out: &mut [Pair]) {
        for (out, &x) in out.as_flattened_mut().iter_mut().zip(x) {
            *out = round(x);
        }
    }
}

/// The nearest bfloat16, to even where two are as near: [`bf16::from_f32`] without a branch.
#[inline(always)]
pub(super) fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    bf16::from_bits(if x.is_nan() { quiet } else { nearest } as u16)
}
