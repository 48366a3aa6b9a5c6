//! AVX2 and AVX-512. The only folder with instructions in it: every `unsafe` here rests on the value `self`, which is made
//! by `detect` alone, and loads and stores go through references to whole arrays. Both instruction sets stand in one file, so
//! that their operations can be read side by side.

use std::arch::x86_64::*;

use half::f16;

mod dot;
mod lanes;

use crate::dot::{Bf16Tile, Int8Tile, Pair, WidenedBf16};
use crate::simd::{Kernel, LANES, Simd};
use lanes::{first_lanes, transpose_512};

/// AVX2, FMA and F16C: two registers a vector. Perhaps with AVX-VNNI, for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2 {
    vnni: Option<dot::AvxVnni>,
}

/// AVX-512 with 16-bit integers (BW), which all processors with AVX-512 have but Xeon Phi, beside what [`Avx2`] needs: one
/// register a vector. Perhaps with VNNI for bytes and BF16 for bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512 {
    vnni: Option<dot::Avx512Vnni>,
    bf16: Option<dot::Avx512Bf16>,
}

impl Avx2 {
    /// With all that the processor has, then with less.
    pub fn detect() -> Vec<Self> {
        if !(is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        {
            return Vec::new();
        }
        let best = dot::AvxVnni::detect();
        let all = best.map(|vnni| Self { vnni: Some(vnni) });
        all.into_iter().chain([Self { vnni: None }]).collect()
    }

    pub fn name(self) -> &'static str {
        match self.vnni {
            Some(_) => "avx2-vnni",
            None => "avx2",
        }
    }
}

impl Avx512 {
    /// With all that the processor has, then with less.
    pub fn detect() -> Vec<Self> {
        if !(is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && !Avx2::detect().is_empty())
        {
            return Vec::new();
        }
        let (vnni, bf16) = (dot::Avx512Vnni::detect(), dot::Avx512Bf16::detect());
        let mut all = vec![Self { vnni, bf16 }, Self { vnni, bf16: None }];
        all.push(Self {
            vnni: None,
            bf16: None,
        });
        all.dedup();
        all
    }

    pub fn name(self) -> &'static str {
        match (self.bf16, self.vnni) {
            (Some(_), _) => "avx512-bf16",
            (None, Some(_)) => "avx512-vnni",
            (None, None) => "avx512",
        }
    }
}

/// Has the second-level cache read the line that a value begins in, while other work goes on.
#[inline(always)]
pub fn prefetch<T>(x: &T) {
    // SAFETY: every x86-64 has it, and it reads nothing that is seen.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
fn with_avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Applies a binary intrinsic to both halves.
macro_rules! halves {
    ($f:ident, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { [$f(a[0], b[0]), $f(a[1], b[1])] }
    }};
}

/// The first and the second values of pairs of bfloat16.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn widen_256(pairs: __m256i) -> [__m256; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        [
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)),
            _mm256_castsi256_ps(second),
        ]
    }
}

/// The first and the second values of pairs of bfloat16.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn widen_512(pairs: __m512i) -> [__m512; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let second = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        [
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)),
            _mm512_castsi512_ps(second),
        ]
    }
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    const ROWS: usize = 6;
    const PANELS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: `self` proves AVX2; sixteen float32 values are read from an array of sixteen.
        unsafe {
            [
                _mm256_loadu_ps(x.as_ptr()),
                _mm256_loadu_ps(x.as_ptr().add(8)),
            ]
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::V {
        let x = x.as_ptr().cast::<__m128i>();
        // SAFETY: `self` proves F16C; 32 bytes are read from an array of sixteen halves.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(x)),
                _mm256_cvtph_ps(_mm_loadu_si128(x.add(1))),
            ]
        }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[Pair; LANES]) -> [Self::V; 2] {
        let x = x.as_ptr().cast::<__m256i>();
        // SAFETY: `self` proves AVX2; 64 bytes are read from an array of sixteen pairs.
        unsafe {
            let (low, high) = (_mm256_loadu_si256(x), _mm256_loadu_si256(x.add(1)));
            let ([a, b], [c, d]) = (widen_256(low), widen_256(high));
            [[a, c], [b, d]]
        }
    }
    #[inline(always)]
    fn splat_bf16(self, x: &Pair) -> [Self::V; 2] {
        // SAFETY: `self` proves AVX2.
        let [a, b] = unsafe { widen_256(_mm256_set1_epi32(bytemuck::cast(*x))) };
        [[a; 2], [b; 2]]
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> Self::V {
        let x = x.as_ptr().cast::<__m256i>();
        // SAFETY: `self` proves AVX2; 64 bytes are read from an array of sixteen integers.
        unsafe {
            [
                _mm256_cvtepi32_ps(_mm256_loadu_si256(x)),
                _mm256_cvtepi32_ps(_mm256_loadu_si256(x.add(1))),
            ]
        }
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f32; LANES]) {
        let out = out.as_mut_ptr();
        // SAFETY: `self` proves AVX2; sixteen float32 values are written to an array of sixteen.
        unsafe {
            _mm256_storeu_ps(out, v[0]);
            _mm256_storeu_ps(out.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, out: &mut [f16; LANES]) {
        let out = out.as_mut_ptr().cast::<__m128i>();
        // SAFETY: `self` proves F16C; 32 bytes are written to an array of sixteen halves.
        unsafe {
            _mm_storeu_si128(out, _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(v[0]));
            let high = _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(v[1]);
            _mm_storeu_si128(out.add(1), high);
        }
    }
    #[inline(always)]
    fn store_last_bytes(self, v: Self::V, out: &mut [u8; LANES]) {
        // SAFETY: `self` proves AVX2; sixteen bytes are written to an array of sixteen.
        unsafe {
            let last = _mm256_set1_epi32(0xff);
            let low = _mm256_and_si256(_mm256_castps_si256(v[0]), last);
            let high = _mm256_and_si256(_mm256_castps_si256(v[1]), last);
            // Packing goes by halves of registers: quarters 0 and 2 are of `low`.
            let pairs = _mm256_packus_epi32(low, high);
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            let (low, high) = (
                _mm256_castsi256_si128(pairs),
                _mm256_extracti128_si256::<1>(pairs),
            );
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn sqrt(self, v: Self::V) -> Self::V {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_sqrt_ps(v[0]), _mm256_sqrt_ps(v[1])] }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: `self` proves FMA.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: `self` proves AVX2.
        unsafe {
            [
                _mm256_round_ps::<NEAREST>(v[0]),
                _mm256_round_ps::<NEAREST>(v[1]),
            ]
        }
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvtps_epi32(v[0]), bias);
            let high = _mm256_add_epi32(_mm256_cvtps_epi32(v[1]), bias);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high)),
            ]
        }
    }
    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves AVX2, FMA and F16C.
        unsafe { with_avx2(self, kernel) }
    }
    #[inline(always)]
    fn tile_int8<const R: usize, const P: usize>(self, tile: Int8Tile<R, P>) {
        match self.vnni {
            Some(vnni) => vnni.tile(tile),
            // SAFETY: `self` proves AVX2.
            None => tile.run(unsafe { dot::Avx2Int8::new() }),
        }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const ROWS: usize = 12;
    const PANELS: usize = 2;

    // SAFETY of all below: `self` proves AVX-512F; loads and stores are as long as the arrays they go to.
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> Self::V {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[Pair; LANES]) -> [Self::V; 2] {
        unsafe { widen_512(_mm512_loadu_si512(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn splat_bf16(self, x: &Pair) -> [Self::V; 2] {
        unsafe { widen_512(_mm512_set1_epi32(bytemuck::cast(*x))) }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> Self::V {
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, out: &mut [f16; LANES]) {
        unsafe {
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(v);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
    }
    #[inline(always)]
    fn store_last_bytes(self, v: Self::V, out: &mut [u8; LANES]) {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(v));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, v: Self::V) -> Self::V {
        unsafe { _mm512_sqrt_ps(v) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(v) }
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    fn highest(self, v: Self::V) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
    #[inline(always)]
    fn load_some(self, x: &[f32], fill: f32) -> Self::V {
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(x.len()), x.as_ptr()) }
    }
    #[inline(always)]
    fn store_some(self, v: Self::V, out: &mut [f32]) {
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), first_lanes(out.len()), v) }
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        unsafe { transpose_512(rows) }
    }
    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { with_avx512(self, kernel) }
    }
    #[inline(always)]
    fn tile_bf16<const R: usize, const P: usize>(self, tile: Bf16Tile<R, P>) {
        match self.bf16 {
            Some(bf16) => bf16.tile(tile),
            None => tile.run(WidenedBf16(self)),
        }
    }
    #[inline(always)]
    fn tile_int8<const R: usize, const P: usize>(self, tile: Int8Tile<R, P>) {
        match self.vnni {
            Some(vnni) => vnni.tile(tile),
            None => tile.run(unsafe { dot::Avx512Int8::new() }),
        }
    }
}
