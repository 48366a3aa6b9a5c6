//! Attention: `softmax(q k^T / sqrt(D)) v`, head by head, over all cores.
//!
//! Shape letters: `B` batch, `T` queries, `S` keys, `H` heads, `D` head size, `C = H * D`.

mod past;

use rayon::prelude::*;

use super::matrix::{Out, Scratch, View, small_product};
use super::simd::{Kernel, LANES, Simd, run};

pub use past::Past;

/// Which positions a query may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Every position.
    None,
    /// Itself and those before it. With more keys than queries the last query is aligned with the last key, so one
    /// call serves a whole sequence and a few new positions after a cache alike.
    Causal,
}

/// Heads that a thread takes at a time, at most: the last ones are shared evenly.
const HEADS: usize = 2;

/// `[B, T, C]` in someone else's memory: rows may be apart, batches too.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub batch: usize,
    pub rows: usize,
    pub batch_stride: usize,
    pub row_stride: usize,
}

/// Queries, keys and values, how many heads share them, and what a query may look at.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub q: Rows<'a>,
    pub k: Rows<'a>,
    pub v: Rows<'a>,
    pub width: usize,
    pub heads: usize,
    pub masking: Masking,
}

impl<'a> Rows<'a> {
    /// `[B, T, C]` without gaps.
    pub fn new(data: &'a [f32], batch: usize, rows: usize, width: usize) -> Self {
        assert_eq!(data.len(), batch * rows * width);
        Self {
            data,
            batch,
            rows,
            batch_stride: rows * width,
            row_stride: width,
        }
    }

    /// `[T, D]` of one head.
    fn head(&self, batch: usize, head: usize, size: usize) -> View<'a> {
        View {
            data: &self.data[batch * self.batch_stride + head * size..],
            rows: self.rows,
            cols: size,
            row_stride: self.row_stride,
            col_stride: 1,
        }
    }
}

impl Attention<'_> {
    fn size(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.size() as f32).sqrt()
    }

    /// Keys that query `t` looks at: the last query is aligned with the last key.
    fn seen(&self, t: usize) -> usize {
        match self.masking {
            Masking::None => self.k.rows,
            Masking::Causal => (t + 1 + self.k.rows).saturating_sub(self.q.rows),
        }
    }

    /// Writes `[B, T, C]` to `out` and returns the shares `[B, H, T, S]`, which [`Attention::backward`] asks for.
    pub fn forward(&self, out: &mut [f32]) -> Vec<f32> {
        let (t, s, heads) = (self.q.rows, self.k.rows, self.heads);
        let mut shares = vec![0.0; self.q.batch * heads * t * s];
        let out = Out::new(out, self.width);
        shares
            .par_chunks_mut((t * s).max(1))
            .with_max_len(HEADS)
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (i, shares)| {
                run(Forward {
                    attention: self,
                    batch: i / heads,
                    head: i % heads,
                    out,
                    shares,
                    scratch,
                });
            });
        shares
    }

    /// Gradients of queries, keys and values, `[B, T, C]` and twice `[B, S, C]`, from those of the output.
    pub fn backward(&self, shares: &[f32], grad: Rows) -> [Vec<f32>; 3] {
        let (b, t, s) = (self.q.batch, self.q.rows, self.k.rows);
        let mut grads = [t, s, s].map(|rows| vec![0.0; b * rows * self.width]);
        let outs = grads.each_mut().map(|grad| Out::new(grad, self.width));
        let heads = shares.par_chunks((t * s).max(1)).with_max_len(HEADS);
        heads
            .enumerate()
            .for_each_init(Default::default, |(scratch, rows), (i, shares)| {
                run(Backward {
                    attention: self,
                    batch: i / self.heads,
                    head: i % self.heads,
                    shares,
                    grad,
                    outs,
                    rows,
                    scratch,
                });
            });
        grads
    }
}

/// One head of one row of the batch.
struct Forward<'a> {
    attention: &'a Attention<'a>,
    batch: usize,
    head: usize,
    out: Out<'a>,
    /// `[T, S]`
    shares: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            attention: at,
            batch,
            head,
            shares,
            scratch,
            ..
        } = self;
        let (t, s, d) = (at.q.rows, at.k.rows, at.size());
        let [q, k, v] = [at.q, at.k, at.v].map(|rows| rows.head(batch, head, d));
        small_product(simd, q, k.transpose(), Out::new(shares, s), scratch);
        for (i, row) in shares.chunks_exact_mut(s).enumerate() {
            let seen = at.seen(i);
            softmax(simd, &mut row[..seen], at.scale());
            row[seen..].fill(0.0);
        }
        let out = self.out.part(batch * t * at.width + head * d, t);
        small_product(simd, View::new(shares, t, s), v, out, scratch);
    }
}

struct Backward<'a> {
    attention: &'a Attention<'a>,
    batch: usize,
    head: usize,
    shares: &'a [f32],
    grad: Rows<'a>,
    outs: [Out<'a>; 3],
    /// Memory for `[T, S]`.
    rows: &'a mut Vec<f32>,
    scratch: &'a mut Scratch,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            attention: at,
            batch,
            head,
            shares,
            scratch,
            rows,
            ..
        } = self;
        let (t, s, d) = (at.q.rows, at.k.rows, at.size());
        let [q, k, v] = [at.q, at.k, at.v].map(|rows| rows.head(batch, head, d));
        let grad = self.grad.head(batch, head, d);
        let share = View::new(shares, t, s);
        let [out_q, out_k, out_v] = self.outs;
        let offset = |rows: usize| batch * rows * at.width + head * d;
        small_product(
            simd,
            share.transpose(),
            grad,
            out_v.part(offset(s), s),
            scratch,
        );
        rows.clear();
        rows.resize(t * s, 0.0);
        small_product(simd, grad, v.transpose(), Out::new(rows, s), scratch);
        for (row, shares) in rows.chunks_exact_mut(s).zip(shares.chunks_exact(s)) {
            softmax_backward(simd, shares, row, at.scale());
        }
        let scores = View::new(rows, t, s);
        small_product(simd, scores, k, out_q.part(offset(t), t), scratch);
        small_product(
            simd,
            scores.transpose(),
            q,
            out_k.part(offset(s), s),
            scratch,
        );
    }
}

/// `softmax(scale x)` in place.
#[inline(always)]
pub fn softmax<S: Simd>(s: S, x: &mut [f32], scale: f32) {
    let mut highest = s.splat(f32::NEG_INFINITY);
    for i in (0..x.len()).step_by(LANES) {
        let end = x.len().min(i + LANES);
        highest = s.max(highest, s.load_some(&x[i..end], f32::NEG_INFINITY));
    }
    let (highest, factor) = (s.splat(s.highest(highest)), s.splat(scale));
    let mut sums = s.splat(0.0);
    for i in (0..x.len()).step_by(LANES) {
        let end = x.len().min(i + LANES);
        // Lanes that are missing add less than the last place of a sum that is at least 1.
        let v = s.load_some(&x[i..end], f32::MIN);
        let e = s.exp(s.mul(s.sub(v, highest), factor));
        sums = s.add(sums, e);
        s.store_some(e, &mut x[i..end]);
    }
    let share = s.splat(1.0 / s.sum(sums));
    for i in (0..x.len()).step_by(LANES) {
        let end = x.len().min(i + LANES);
        let v = s.mul(s.load_some(&x[i..end], 0.0), share);
        s.store_some(v, &mut x[i..end]);
    }
}

/// Gradients of scores from those of shares: `scale share (grad - sum(share grad))`, in place of `grad`.
#[inline(always)]
fn softmax_backward<S: Simd>(s: S, shares: &[f32], grad: &mut [f32], scale: f32) {
    let mut sum = s.splat(0.0);
    for i in (0..grad.len()).step_by(LANES) {
        let end = grad.len().min(i + LANES);
        let share = s.load_some(&shares[i..end], 0.0);
        sum = s.mul_add(share, s.load_some(&grad[i..end], 0.0), sum);
    }
    let (sum, scale) = (s.splat(s.sum(sum)), s.splat(scale));
    for i in (0..grad.len()).step_by(LANES) {
        let end = grad.len().min(i + LANES);
        let d = s.sub(s.load_some(&grad[i..end], 0.0), sum);
        let share = s.load_some(&shares[i..end], 0.0);
        s.store_some(s.mul(s.mul(d, share), scale), &mut grad[i..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Attention in double precision, as a function to be differentiated.
    fn exact([q, k, v]: [&[f64]; 3], [b, t, s, h, d]: [usize; 5], masking: Masking) -> Vec<f64> {
        let c = h * d;
        let mut out = vec![0.0; b * t * c];
        for (batch, head, i) in (0..b * h * t).map(|n| (n / (h * t), n / t % h, n % t)) {
            let seen = match masking {
                Masking::None => s,
                Masking::Causal => i + 1 + s - t,
            };
            let at = |x: &[f64], rows: usize, row: usize, j: usize| {
                x[(batch * rows + row) * c + head * d + j]
            };
            let scores: Vec<f64> = (0..seen)
                .map(|key| {
                    let dot: f64 = (0..d).map(|j| at(q, t, i, j) * at(k, s, key, j)).sum();
                    (dot / (d as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for j in 0..d {
                let sum: f64 = (0..seen).map(|key| scores[key] * at(v, s, key, j)).sum();
                out[(batch * t + i) * c + head * d + j] = sum / total;
            }
        }
        out
    }

    #[test]
    fn attention_and_its_gradients_are_those_of_the_formula() {
        for [b, t, s, h, d] in [
            [1, 1, 1, 1, 3],
            [2, 5, 5, 2, 24],
            [1, 17, 40, 3, 7],
            [2, 33, 33, 2, 16],
        ] {
            for masking in [Masking::None, Masking::Causal] {
                let c = h * d;
                let parts = [
                    wave(b * t * c, 0.7),
                    wave(b * s * c, 0.9),
                    wave(b * s * c, 1.3),
                ];
                let attention = Attention {
                    q: Rows::new(&parts[0], b, t, c),
                    k: Rows::new(&parts[1], b, s, c),
                    v: Rows::new(&parts[2], b, s, c),
                    width: c,
                    heads: h,
                    masking,
                };
                let mut out = vec![0.0; b * t * c];
                let shares = attention.forward(&mut out);
                let wide = parts
                    .each_ref()
                    .map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                let of = |wide: &[Vec<f64>; 3]| {
                    exact(wide.each_ref().map(Vec::as_slice), [b, t, s, h, d], masking)
                };
                for (out, expected) in out.iter().zip(of(&wide)) {
                    assert!((f64::from(*out) - expected).abs() < 1e-5);
                }
                let grad = wave(b * t * c, 0.37);
                let grads = attention.backward(&shares, Rows::new(&grad, b, t, c));
                for part in 0..3 {
                    for i in (0..wide[part].len()).step_by(11) {
                        let loss = |by: f64| -> f64 {
                            let mut moved = wide.clone();
                            moved[part][i] += by;
                            let out = of(&moved);
                            out.iter().zip(&grad).map(|(o, g)| o * f64::from(*g)).sum()
                        };
                        let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                        let found = f64::from(grads[part][i]);
                        assert!((found - slope).abs() < 2e-5, "{part} {i}: {found} {slope}");
                    }
                }
            }
        }
    }
}
