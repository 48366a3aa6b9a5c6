//! Attention of one query to keys and values that are still where decoding put them.

use super::softmax;
use crate::simd::{Kernel, LANES, Simd, run};

/// Keys and values of one row's positions, which are in different memory: `[R, 2 C]` for each, keys before values.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    pub positions: &'a [Vec<f32>],
    /// For each position, which of its `R` rows is meant.
    pub rows: &'a [u32],
    pub width: usize,
    pub heads: usize,
}

impl Past<'_> {
    /// Attention of one query, `[C]`, to all positions; writes `[C]`.
    pub fn attend(self, q: &[f32], out: &mut [f32]) {
        run(OneQuery { past: self, q, out });
    }
}

struct OneQuery<'a> {
    past: Past<'a>,
    q: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for OneQuery<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Past {
            positions,
            rows,
            width,
            heads,
        } = self.past;
        let (count, size) = (rows.len(), width / heads);
        let mut shares = vec![0.0; heads * count];
        for (i, (position, &row)) in positions.iter().zip(rows).enumerate() {
            let keys = &position[row as usize * 2 * width..][..width];
            for head in 0..heads {
                let part = head * size..(head + 1) * size;
                shares[head * count + i] = dot(s, &self.q[part.clone()], &keys[part]);
            }
        }
        let scale = 1.0 / (size as f32).sqrt();
        for shares in shares.chunks_exact_mut(count) {
            softmax(s, shares, scale);
        }
        self.out.fill(0.0);
        for (i, (position, &row)) in positions.iter().zip(rows).enumerate() {
            let values = &position[row as usize * 2 * width + width..][..width];
            for head in 0..heads {
                let share = s.splat(shares[head * count + i]);
                for j in (head * size..(head + 1) * size).step_by(LANES) {
                    let end = (j + LANES).min((head + 1) * size);
                    let sum = s.load_some(&self.out[j..end], 0.0);
                    let v = s.mul_add(share, s.load_some(&values[j..end], 0.0), sum);
                    s.store_some(v, &mut self.out[j..end]);
                }
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for i in (0..a.len()).step_by(LANES) {
        let end = a.len().min(i + LANES);
        sum = s.mul_add(
            s.load_some(&a[i..end], 0.0),
            s.load_some(&b[i..end], 0.0),
            sum,
        );
    }
    s.sum(sum)
}

#[cfg(test)]
mod tests {
    use super::super::tests::wave;
    use super::super::{Attention, Rows};
    use super::*;
    use crate::Masking;

    #[test]
    fn one_query_sees_the_positions_of_its_own_row() {
        let (heads, size, count) = (3, 7, 19);
        let width = heads * size;
        let positions: Vec<Vec<f32>> = (0..count)
            .map(|i| wave(2 * 2 * width, 0.3 + i as f32))
            .collect();
        let rows: Vec<u32> = (0..count).map(|i| (i % 3 == 0).into()).collect();
        let q = wave(width, 0.7);
        let past = Past {
            positions: &positions,
            rows: &rows,
            width,
            heads,
        };
        let mut out = vec![1.0; width];
        past.attend(&q, &mut out);
        let part = |offset: usize| -> Vec<f32> {
            let row = |(position, row): (&Vec<f32>, &u32)| {
                let first = (2 * *row as usize + offset) * width;
                position[first..first + width].to_vec()
            };
            positions.iter().zip(&rows).flat_map(row).collect()
        };
        let (k, v) = (part(0), part(1));
        let mut expected = vec![0.0; width];
        let attention = Attention {
            q: Rows::new(&q, 1, 1, width),
            k: Rows::new(&k, 1, count, width),
            v: Rows::new(&v, 1, count, width),
            width,
            heads,
            masking: Masking::Causal,
        };
        attention.forward(&mut expected);
        for (out, expected) in out.iter().zip(expected) {
            assert!((out - expected).abs() < 1e-6);
        }
    }
}
