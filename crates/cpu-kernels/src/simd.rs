//! Sixteen float32 values at a time, on whatever the processor has.
//!
//! A [`Kernel`] is written once, over any [`Simd`], and [`run`] compiles it in for the instruction sets below and picks
//! the best one when the program runs. A value of an instruction set's type is the proof that the processor has it.
//!
//! The trait, its portable form and the choice between instruction sets stand in one file: whoever adds an operation needs all three.

use std::sync::OnceLock;

use half::{bf16, f16};

use crate::dot::{Bf16Tile, Int8Tile, Pair, PlainInt8, WidenedBf16};

/// float32 values in a vector.
pub const LANES: usize = 16;

/// An instruction set, with the operations on vectors of [`LANES`] float32 values that the kernels need.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen float32 values.
    type V: Copy;
    /// Most rows of a tile of a matrix product whose sums stay in registers.
    const ROWS: usize;
    /// Vectors a row of such a tile has: 1 or 2.
    const PANELS: usize;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn load_f16(self, x: &[f16; LANES]) -> Self::V;
    /// The first and the second values of sixteen pairs.
    fn load_bf16(self, x: &[Pair; LANES]) -> [Self::V; 2];
    /// Both values of a pair, in all lanes.
    fn splat_bf16(self, x: &Pair) -> [Self::V; 2];
    /// The nearest float32 values to integers.
    fn load_i32(self, x: &[i32; LANES]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32; LANES]);
    /// The nearest float16 values.
    fn store_f16(self, v: Self::V, out: &mut [f16; LANES]);
    /// The last byte of each float's bits.
    fn store_last_bytes(self, v: Self::V, out: &mut [u8; LANES]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, v: Self::V) -> Self::V;
    /// `a b + c`
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The nearest whole numbers.
    fn round(self, v: Self::V) -> Self::V;
    /// `2^v` for whole `v` from -126 to 127.
    fn pow2(self, v: Self::V) -> Self::V;
    /// Sixteen vectors as rows, made columns.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut from = [[0.0; LANES]; LANES];
        for (v, from) in rows.into_iter().zip(&mut from) {
            self.store(v, from);
        }
        let mut to = [[0.0; LANES]; LANES];
        for (i, from) in from.iter().enumerate() {
            for (j, &x) in from.iter().enumerate() {
                to[j][i] = x;
            }
        }
        to.map(|row| self.load(&row))
    }
    /// Runs a kernel compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// Multiplies bfloat16 and adds up in float32. Instructions for it may flush the least numbers (below 1.2e-38) to 0.
    #[inline(always)]
    fn tile_bf16<const R: usize, const P: usize>(self, tile: Bf16Tile<R, P>) {
        tile.run(WidenedBf16(self))
    }

    /// Multiplies bytes and adds up in int32, exactly (modulo 2^32).
    fn tile_int8<const R: usize, const P: usize>(self, tile: Int8Tile<R, P>);

    /// The sum of the lanes.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes.iter().sum()
    }

    /// The greatest lane.
    #[inline(always)]
    fn highest(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Up to [`LANES`] float32 values, the missing ones as `fill`.
    #[inline(always)]
    fn load_some(self, x: &[f32], fill: f32) -> Self::V {
        if let Some(x) = x.first_chunk() {
            return self.load(x);
        }
        let mut lanes = [fill; LANES];
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = *x;
        }
        self.load(&lanes)
    }

    /// The first lanes, as many as `out` takes.
    #[inline(always)]
    fn store_some(self, v: Self::V, out: &mut [f32]) {
        if let Some(out) = out.first_chunk_mut() {
            return self.store(v, out);
        }
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        for (out, lane) in out.iter_mut().zip(lanes) {
            *out = lane;
        }
    }

    /// `e^v`, within 2 units in the last place; what would overflow or vanish is held at the ends of the range.
    /// The polynomial is Cephes' `expf`.
    #[inline(always)]
    fn exp(self, v: Self::V) -> Self::V {
        let s = self;
        let v = s.min(s.max(v, s.splat(-87.0)), s.splat(88.0));
        let n = s.round(s.mul(v, s.splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, so that the remainder keeps its last bits.
        let r = s.mul_add(n, s.splat(-0.693_359_4), v);
        let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
        let mut p = s.splat(1.987_569_1e-4);
        for c in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ] {
            p = s.mul_add(p, r, s.splat(c));
        }
        let p = s.add(s.mul_add(p, s.mul(r, r), r), s.splat(1.0));
        s.mul(p, s.pow2(n))
    }

    /// `1 / (1 + e^-v)`
    #[inline(always)]
    fn sigmoid(self, v: Self::V) -> Self::V {
        let one = self.splat(1.0);
        let e = self.exp(self.sub(self.splat(0.0), v));
        self.div(one, self.add(one, e))
    }
}

/// Work that is compiled for each instruction set. `run` must be `#[inline(always)]`, as all it calls, and free of
/// closures in its loops: only what is inlined gets the instruction set.
pub trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(super::x86::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2),
    Portable(Portable),
}

/// `CLIPCAP_SIMD` names no instruction set of this processor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "CLIPCAP_SIMD is {0:?}, which is not an instruction set of this processor: it has {list}",
    list = Isa::all().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
)]
pub struct UnknownIsa(String);

impl Isa {
    /// The best one, or the one that `CLIPCAP_SIMD` names, if the processor has it.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::chosen().unwrap_or_else(|_| Self::all()[0]))
    }

    /// The one that the environment variable `CLIPCAP_SIMD` names, or the best one where it is not set.
    ///
    /// # Errors
    /// When it names none that the processor has. [`best`](Self::best) then is what it would be without.
    pub fn chosen() -> Result<Self, UnknownIsa> {
        let all = Self::all();
        match std::env::var_os("CLIPCAP_SIMD") {
            None => Ok(all[0]),
            Some(name) if name.is_empty() => Ok(all[0]),
            Some(name) => (all.iter().copied())
                .find(|isa| name == isa.name())
                .ok_or(UnknownIsa(name.to_string_lossy().into_owned())),
        }
    }

    /// All of this processor, the best first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(super::x86::Avx512::detect().into_iter().map(Self::Avx512));
            all.extend(super::x86::Avx2::detect().into_iter().map(Self::Avx2));
        }
        all.push(Self::Portable(Portable));
        all
    }

    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.name(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.name(),
            Self::Portable(_) => "portable",
        }
    }

    /// Runs a kernel with this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.vectorize(kernel),
            Self::Portable(simd) => simd.vectorize(kernel),
        }
    }

    /// Columns of a panel of packed weights.
    pub fn panel(self) -> usize {
        self.run(Tile)[1]
    }

    /// Most rows of a tile.
    pub fn rows(self) -> usize {
        self.run(Tile)[0]
    }
}

/// Runs a kernel with the best instruction set.
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    Isa::best().run(kernel)
}

struct Tile;

impl Kernel for Tile {
    type Output = [usize; 2];
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [usize; 2] {
        [S::ROWS, S::PANELS * LANES]
    }
}

/// Plain Rust, which the compiler turns into what every processor of the target has: SSE2 on x86-64, NEON on AArch64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable;

#[inline(always)]
fn each(mut a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
    a
}

#[inline(always)]
fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

impl Simd for Portable {
    type V = [f32; LANES];
    const ROWS: usize = 4;
    const PANELS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::V {
        let mut v = [0.0; LANES];
        for (v, x) in v.iter_mut().zip(x) {
            *v = x.to_f32_const();
        }
        v
    }
    #[inline(always)]
    fn load_bf16(self, x: &[Pair; LANES]) -> [Self::V; 2] {
        let mut v = [[0.0; LANES]; 2];
        for (lane, x) in x.iter().enumerate() {
            v[0][lane] = widen(x[0]);
            v[1][lane] = widen(x[1]);
        }
        v
    }
    #[inline(always)]
    fn splat_bf16(self, x: &Pair) -> [Self::V; 2] {
        [[widen(x[0]); LANES], [widen(x[1]); LANES]]
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> Self::V {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, out: &mut [f16; LANES]) {
        for (out, v) in out.iter_mut().zip(v) {
            *out = f16::from_f32_const(v);
        }
    }
    #[inline(always)]
    fn store_last_bytes(self, v: Self::V, out: &mut [u8; LANES]) {
        *out = v.map(|v| v.to_bits() as u8);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, mut v: Self::V) -> Self::V {
        for v in &mut v {
            *v = v.sqrt();
        }
        v
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn round(self, mut v: Self::V) -> Self::V {
        // Adding and taking away 1.5 * 2^23 leaves no room for a fraction.
        const SHIFT: f32 = 12_582_912.0;
        for v in &mut v {
            *v = (*v + SHIFT) - SHIFT;
        }
        v
    }
    #[inline(always)]
    fn pow2(self, mut v: Self::V) -> Self::V {
        for v in &mut v {
            *v = f32::from_bits(((*v as i32 + 127) as u32) << 23);
        }
        v
    }
    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn tile_int8<const R: usize, const P: usize>(self, tile: Int8Tile<R, P>) {
        tile.run(PlainInt8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp(Vec<f32>);

    impl Kernel for Exp {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(mut self, s: S) -> Vec<f32> {
            for chunk in self.0.chunks_mut(LANES) {
                let v = s.exp(s.load_some(chunk, 0.0));
                s.store_some(v, chunk);
            }
            self.0
        }
    }

    #[test]
    fn the_exponential_is_right_to_the_last_places_on_every_instruction_set() {
        let x: Vec<f32> = (-8700..8800).map(|i| i as f32 / 100.0).collect();
        for isa in Isa::all() {
            for (x, y) in x.iter().zip(isa.run(Exp(x.clone()))) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2.5e-7, "{}: exp({x}) = {y}", isa.name());
            }
        }
    }

    struct Converted;

    impl Kernel for Converted {
        type Output = (
            [f32; LANES],
            [[f32; LANES]; 4],
            [f32; LANES],
            [f16; LANES],
            [u8; LANES],
        );
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let halves = std::array::from_fn(|i| f16::from_f32(i as f32 * 0.37 - 2.0));
            let pairs: [Pair; LANES] =
                std::array::from_fn(|i| [0.71, -0.33].map(|x| bf16::from_f32(x * i as f32 - 2.0)));
            let integers = std::array::from_fn(|i| i as i32 * 0x0765_4321 - 0x1234_5678);
            let between = std::array::from_fn(|i| i as f32 * 0.123_456 - 1.0);
            let mut out = (
                [0.0; LANES],
                [[0.0; LANES]; 4],
                [0.0; LANES],
                [f16::ZERO; LANES],
                [0; LANES],
            );
            s.store(s.load_f16(&halves), &mut out.0);
            let (loaded, splat) = (s.load_bf16(&pairs), s.splat_bf16(&pairs[7]));
            for (v, out) in loaded.into_iter().chain(splat).zip(&mut out.1) {
                s.store(v, out);
            }
            s.store(s.load_i32(&integers), &mut out.2);
            s.store_f16(s.load(&between), &mut out.3);
            s.store_last_bytes(s.load(&between), &mut out.4);
            out
        }
    }

    #[test]
    fn narrow_values_are_converted_alike_everywhere() {
        let expected = Isa::Portable(Portable).run(Converted);
        for isa in Isa::all() {
            assert_eq!(isa.run(Converted), expected, "{}", isa.name());
        }
    }
}
