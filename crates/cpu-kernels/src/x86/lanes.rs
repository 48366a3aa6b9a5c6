//! Some lanes of a vector, and vectors as rows of a square, by AVX-512.

use std::arch::x86_64::*;

use crate::simd::LANES;

/// A mask of so many lanes, at most all.
#[inline(always)]
pub fn first_lanes(count: usize) -> __mmask16 {
    match count {
        LANES.. => !0,
        count => (1 << count) - 1,
    }
}

/// Rows made columns, in four steps: pairs of rows are interleaved by one value and then by two, which transposes every four by
/// four, and then these are put where they belong.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
pub unsafe fn transpose_512(r: [__m512; LANES]) -> [__m512; LANES] {
    /// The first and the second half of what `$low` and `$high` make of neighbors `$distance` apart.
    macro_rules! step {
        ($r:ident, $low:expr, $high:expr, [$($a:literal $b:literal),*]) => {
            [$($low($r[$a], $r[$b]), $high($r[$a], $r[$b])),*]
        };
    }
    // SAFETY: as the caller vouches.
    unsafe {
        let low = |a, b| _mm512_unpacklo_ps(a, b);
        let high = |a, b| _mm512_unpackhi_ps(a, b);
        let r = step!(r, low, high, [0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15]);
        let low =
            |a, b| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
        let high =
            |a, b| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
        // Of four rows each: columns 0, 1, 2, 3 of every four.
        let r = step!(r, low, high, [0 2, 1 3, 4 6, 5 7, 8 10, 9 11, 12 14, 13 15]);
        let low = |a, b| _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        let high = |a, b| _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        // Of eight rows each: the even fours and the odd ones.
        let r = step!(r, low, high, [0 4, 1 5, 2 6, 3 7, 8 12, 9 13, 10 14, 11 15]);
        let [
            a0,
            b0,
            a1,
            b1,
            a2,
            b2,
            a3,
            b3,
            c0,
            d0,
            c1,
            d1,
            c2,
            d2,
            c3,
            d3,
        ] = r;
        [
            low(a0, c0),
            low(a1, c1),
            low(a2, c2),
            low(a3, c3),
            low(b0, d0),
            low(b1, d1),
            low(b2, d2),
            low(b3, d3),
            high(a0, c0),
            high(a1, c1),
            high(a2, c2),
            high(a3, c3),
            high(b0, d0),
            high(b1, d1),
            high(b2, d2),
            high(b3, d3),
        ]
    }
}
