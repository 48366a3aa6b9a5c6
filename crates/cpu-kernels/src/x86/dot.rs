//! Instructions that multiply and add up pairs of bfloat16 and groups of four bytes, and what stands for them where the
//! processor lacks them. Values of these types are the proof that it has them.

use std::arch::x86_64::*;

use crate::dot::{Bf16Tile, Dot, Int8Tile, Pair};
use crate::simd::LANES;

/// A type that is made by `detect` alone, and runs tiles compiled for its instructions.
macro_rules! extension {
    ($(#[$doc:meta])* $name:ident, $tile:ident, [$($detected:tt),*], $features:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            pub fn detect() -> Option<Self> {
                ($(is_x86_feature_detected!($detected))&&*).then_some(Self(()))
            }

            #[inline(always)]
            pub fn tile<const R: usize, const P: usize>(self, tile: $tile<R, P>) {
                #[target_feature(enable = $features)]
                fn run<const R: usize, const P: usize>(dot: $name, tile: $tile<R, P>) {
                    tile.run(dot)
                }
                // SAFETY: `self` proves the instructions.
                unsafe { run(self, tile) }
            }
        }
    };
}

extension!(
    /// AVX-512 BF16.
    Avx512Bf16, Bf16Tile, ["avx512f", "avx512bf16"], "avx512f,avx512bf16"
);
extension!(
    /// AVX-512 VNNI.
    Avx512Vnni, Int8Tile, ["avx512f", "avx512vnni"], "avx512f,avx512vnni"
);
extension!(
    /// AVX-VNNI: the same on registers of half the size.
    AvxVnni, Int8Tile, ["avx2", "avxvnni"], "avx2,avxvnni"
);

/// Bytes by AVX-512 BW alone.
#[derive(Clone, Copy)]
pub struct Avx512Int8(());

/// Bytes by AVX2 alone.
#[derive(Clone, Copy)]
pub struct Avx2Int8(());

impl Avx512Int8 {
    /// # Safety
    /// The processor has AVX-512 F and BW.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

impl Avx2Int8 {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

impl Dot for Avx512Bf16 {
    type Left = Pair;
    type Right = Pair;
    type Sum = f32;
    type Sums = __m512;
    type A = __m512bh;
    type B = __m512bh;

    // SAFETY of all below: `self` proves the instructions; loads and stores are as long as the arrays they go to, and
    // sixteen pairs are a register of bfloat16.
    #[inline(always)]
    fn load_sums(self, x: &[f32; LANES]) -> __m512 {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store_sums(self, sums: __m512, out: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) }
    }
    #[inline(always)]
    fn splat(self, x: &Pair) -> __m512bh {
        unsafe { std::mem::transmute(_mm512_set1_epi32(bytemuck::cast(*x))) }
    }
    #[inline(always)]
    fn load(self, x: &[Pair; LANES]) -> __m512bh {
        unsafe { std::mem::transmute(_mm512_loadu_si512(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn dot(self, sums: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        unsafe { _mm512_dpbf16_ps(sums, a, b) }
    }
}

/// What is alike for bytes in registers of 512 bits.
macro_rules! bytes_512 {
    () => {
        type Left = [u8; 4];
        type Right = [i8; 4];
        type Sum = i32;
        type Sums = __m512i;

        // SAFETY of all below: `self` proves the instructions; loads and stores are as long as the arrays they go to.
        #[inline(always)]
        fn load_sums(self, x: &[i32; LANES]) -> __m512i {
            unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
        }
        #[inline(always)]
        fn store_sums(self, sums: __m512i, out: &mut [i32; LANES]) {
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
        }
    };
}

impl Dot for Avx512Vnni {
    bytes_512!();
    type A = __m512i;
    type B = __m512i;

    #[inline(always)]
    fn splat(self, x: &[u8; 4]) -> __m512i {
        unsafe { _mm512_set1_epi32(bytemuck::cast(*x)) }
    }
    #[inline(always)]
    fn load(self, x: &[[i8; 4]; LANES]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, a, b) }
    }
}

/// The bytes of groups go to 16 bits, even and odd ones apart, where products of two add up without saturation.
impl Dot for Avx512Int8 {
    bytes_512!();
    type A = [__m512i; 2];
    type B = [__m512i; 2];

    #[inline(always)]
    fn splat(self, x: &[u8; 4]) -> Self::A {
        unsafe {
            let x = _mm512_set1_epi32(bytemuck::cast(*x));
            let even = _mm512_and_si512(x, _mm512_set1_epi16(0xff));
            [even, _mm512_srli_epi16::<8>(x)]
        }
    }
    #[inline(always)]
    fn load(self, x: &[[i8; 4]; LANES]) -> Self::B {
        unsafe {
            let x = _mm512_loadu_si512(x.as_ptr().cast());
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x));
            [even, _mm512_srai_epi16::<8>(x)]
        }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, a: Self::A, b: Self::B) -> __m512i {
        unsafe {
            let sums = _mm512_add_epi32(sums, _mm512_madd_epi16(a[0], b[0]));
            _mm512_add_epi32(sums, _mm512_madd_epi16(a[1], b[1]))
        }
    }
}

/// What is alike for bytes in registers of 256 bits.
macro_rules! bytes_256 {
    () => {
        type Left = [u8; 4];
        type Right = [i8; 4];
        type Sum = i32;
        type Sums = [__m256i; 2];

        // SAFETY of all below: `self` proves the instructions; loads and stores are as long as the arrays they go to.
        #[inline(always)]
        fn load_sums(self, x: &[i32; LANES]) -> [__m256i; 2] {
            let x = x.as_ptr().cast::<__m256i>();
            unsafe { [_mm256_loadu_si256(x), _mm256_loadu_si256(x.add(1))] }
        }
        #[inline(always)]
        fn store_sums(self, sums: [__m256i; 2], out: &mut [i32; LANES]) {
            let out = out.as_mut_ptr().cast::<__m256i>();
            unsafe {
                _mm256_storeu_si256(out, sums[0]);
                _mm256_storeu_si256(out.add(1), sums[1]);
            }
        }
    };
}

impl Dot for AvxVnni {
    bytes_256!();
    type A = __m256i;
    type B = [__m256i; 2];

    #[inline(always)]
    fn splat(self, x: &[u8; 4]) -> __m256i {
        unsafe { _mm256_set1_epi32(bytemuck::cast(*x)) }
    }
    #[inline(always)]
    fn load(self, x: &[[i8; 4]; LANES]) -> [__m256i; 2] {
        let x = x.as_ptr().cast::<__m256i>();
        unsafe { [_mm256_loadu_si256(x), _mm256_loadu_si256(x.add(1))] }
    }
    #[inline(always)]
    fn dot(self, sums: [__m256i; 2], a: __m256i, b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_dpbusd_avx_epi32(sums[0], a, b[0]),
                _mm256_dpbusd_avx_epi32(sums[1], a, b[1]),
            ]
        }
    }
}

/// As [`Avx512Int8`].
impl Dot for Avx2Int8 {
    bytes_256!();
    type A = [__m256i; 2];
    type B = [[__m256i; 2]; 2];

    #[inline(always)]
    fn splat(self, x: &[u8; 4]) -> Self::A {
        unsafe {
            let x = _mm256_set1_epi32(bytemuck::cast(*x));
            let even = _mm256_and_si256(x, _mm256_set1_epi16(0xff));
            [even, _mm256_srli_epi16::<8>(x)]
        }
    }
    #[inline(always)]
    fn load(self, x: &[[i8; 4]; LANES]) -> Self::B {
        let x = x.as_ptr().cast::<__m256i>();
        unsafe {
            let (low, high) = (_mm256_loadu_si256(x), _mm256_loadu_si256(x.add(1)));
            [
                [
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(low)),
                    _mm256_srai_epi16::<8>(low),
                ],
                [
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(high)),
                    _mm256_srai_epi16::<8>(high),
                ],
            ]
        }
    }
    #[inline(always)]
    fn dot(self, sums: [__m256i; 2], a: Self::A, b: Self::B) -> [__m256i; 2] {
        let [mut low, mut high] = sums;
        unsafe {
            for i in 0..2 {
                low = _mm256_add_epi32(low, _mm256_madd_epi16(a[i], b[0][i]));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(a[i], b[1][i]));
            }
        }
        [low, high]
    }
}
