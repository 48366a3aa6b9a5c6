//! Dot products of a few neighboring values at a time, for sixteen columns: what low-precision products are made of.
//!
//! Values lie in groups of four bytes along the inner dimension: two bfloat16 or four bytes. A processor with the right
//! instruction multiplies two groups and adds the products to a sum at once.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::memory::prefetch;
use crate::simd::{LANES, Simd};

/// Two bfloat16 values of a row or column.
pub type Pair = [bf16; 2];

/// An instruction, or some of them, that multiplies groups and adds them up.
pub trait Dot: Copy {
    /// A group of the left factor.
    type Left: Pod;
    /// A group of the right factor.
    type Right: Pod;
    /// What is summed up in.
    type Sum: Pod;
    /// Sixteen sums in registers.
    type Sums: Copy;
    /// A left group for all columns, in registers.
    type A: Copy;
    /// Sixteen columns' right groups in registers.
    type B: Copy;

    fn load_sums(self, x: &[Self::Sum; LANES]) -> Self::Sums;
    fn store_sums(self, sums: Self::Sums, out: &mut [Self::Sum; LANES]);
    fn splat(self, x: &Self::Left) -> Self::A;
    fn load(self, x: &[Self::Right; LANES]) -> Self::B;
    /// `sums + a . b`
    fn dot(self, sums: Self::Sums, a: Self::A, b: Self::B) -> Self::Sums;
}

/// One tile of a product: `R` rows by `P` vectors of columns, with the steps of the inner dimension in order.
pub struct Tile<'a, L, W, T, const R: usize, const P: usize> {
    pub a: &'a [[L; R]],
    pub b: &'a [[[W; LANES]; P]],
    /// As much as `b`, which is needed soon, and the vector of its steps that is read ahead meanwhile.
    pub next: Option<(&'a [[[W; LANES]; P]], usize)>,
    /// Added to.
    pub sums: &'a mut [[[T; LANES]; P]; R],
}

/// A tile of bfloat16, summed up in float32.
pub type Bf16Tile<'a, const R: usize, const P: usize> = Tile<'a, Pair, Pair, f32, R, P>;
/// A tile of unsigned bytes times signed ones, summed up in int32.
pub type Int8Tile<'a, const R: usize, const P: usize> = Tile<'a, [u8; 4], [i8; 4], i32, R, P>;

impl<L: Pod, W: Pod, T: Pod, const R: usize, const P: usize> Tile<'_, L, W, T, R, P> {
    /// Multiplies by this instruction. Indices of constant ranges keep the sums in registers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    pub fn run<D: Dot<Left = L, Right = W, Sum = T>>(self, d: D) {
        let mut sums = [[d.load_sums(&self.sums[0][0]); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = d.load_sums(&self.sums[r][p]);
            }
        }
        match self.next {
            None => {
                for (a, b) in self.a.iter().zip(self.b) {
                    step(d, a, b, &mut sums);
                }
            }
            Some((next, ahead)) => {
                for ((a, b), next) in self.a.iter().zip(self.b).zip(next) {
                    prefetch(&next[ahead]);
                    step(d, a, b, &mut sums);
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                d.store_sums(sums[r][p], &mut self.sums[r][p]);
            }
        }
    }
}

/// One step of the inner dimension.
#[inline(always)]
fn step<D: Dot, const R: usize, const P: usize>(
    d: D,
    a: &[D::Left; R],
    b: &[[D::Right; LANES]; P],
    sums: &mut [[D::Sums; P]; R],
) {
    let mut columns = [d.load(&b[0]); P];
    for p in 1..P {
        columns[p] = d.load(&b[p]);
    }
    for r in 0..R {
        let x = d.splat(&a[r]);
        for p in 0..P {
            sums[r][p] = d.dot(sums[r][p], x, columns[p]);
        }
    }
}

/// float32: groups of one value.
#[derive(Clone, Copy)]
pub struct Float32<S>(pub S);

/// float16, widened as it is loaded.
#[derive(Clone, Copy)]
pub struct Float16<S>(pub S);

macro_rules! single {
    ($dot:ident, $right:ty, $load:ident) => {
        impl<S: Simd> Dot for $dot<S> {
            type Left = f32;
            type Right = $right;
            type Sum = f32;
            type Sums = S::V;
            type A = S::V;
            type B = S::V;

            #[inline(always)]
            fn load_sums(self, x: &[f32; LANES]) -> S::V {
                self.0.load(x)
            }
            #[inline(always)]
            fn store_sums(self, sums: S::V, out: &mut [f32; LANES]) {
                self.0.store(sums, out)
            }
            #[inline(always)]
            fn splat(self, x: &f32) -> S::V {
                self.0.splat(*x)
            }
            #[inline(always)]
            fn load(self, x: &[$right; LANES]) -> S::V {
                self.0.$load(x)
            }
            #[inline(always)]
            fn dot(self, sums: S::V, a: S::V, b: S::V) -> S::V {
                self.0.mul_add(a, b, sums)
            }
        }
    };
}

single!(Float32, f32, load);
single!(Float16, f16, load_f16);

/// bfloat16 on processors without an instruction for it.
#[derive(Clone, Copy)]
pub struct WidenedBf16<S>(pub S);

impl<S: Simd> Dot for WidenedBf16<S> {
    type Left = Pair;
    type Right = Pair;
    type Sum = f32;
    type Sums = S::V;
    type A = [S::V; 2];
    type B = [S::V; 2];

    #[inline(always)]
    fn load_sums(self, x: &[f32; LANES]) -> S::V {
        self.0.load(x)
    }
    #[inline(always)]
    fn store_sums(self, sums: S::V, out: &mut [f32; LANES]) {
        self.0.store(sums, out)
    }
    #[inline(always)]
    fn splat(self, x: &Pair) -> [S::V; 2] {
        self.0.splat_bf16(x)
    }
    #[inline(always)]
    fn load(self, x: &[Pair; LANES]) -> [S::V; 2] {
        self.0.load_bf16(x)
    }
    #[inline(always)]
    fn dot(self, sums: S::V, a: [S::V; 2], b: [S::V; 2]) -> S::V {
        let sums = self.0.mul_add(a[0], b[0], sums);
        self.0.mul_add(a[1], b[1], sums)
    }
}

/// Bytes in plain Rust.
#[derive(Clone, Copy)]
pub struct PlainInt8;

impl Dot for PlainInt8 {
    type Left = [u8; 4];
    type Right = [i8; 4];
    type Sum = i32;
    type Sums = [i32; LANES];
    type A = [i32; 4];
    type B = [[i32; LANES]; 4];

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        *x
    }
    #[inline(always)]
    fn store_sums(self, sums: Self::Sums, out: &mut [i32; LANES]) {
        *out = sums;
    }
    #[inline(always)]
    fn splat(self, x: &[u8; 4]) -> [i32; 4] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn load(self, x: &[[i8; 4]; LANES]) -> Self::B {
        let mut wide = [[0; LANES]; 4];
        for (lane, group) in x.iter().enumerate() {
            for (wide, &x) in wide.iter_mut().zip(group) {
                wide[lane] = i32::from(x);
            }
        }
        wide
    }
    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, a: [i32; 4], b: Self::B) -> Self::Sums {
        for (a, b) in a.into_iter().zip(b) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = sum.wrapping_add(a * b);
            }
        }
        sums
    }
}
