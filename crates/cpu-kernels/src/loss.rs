//! Cross-entropy over a vocabulary, with its gradients, a share of the rows at a time: the scores are the largest thing
//! a training step makes, and are needed for both at once.
//!
//! Shape letters: `N` tokens, `C` width, `V` vocabulary.

use half::bf16;
use rayon::prelude::*;

use super::matrix::{Compute, Epilogue, Packed, View, Weight};
use super::simd::{Kernel, LANES, Simd, run};

/// Rows whose scores are in memory together.
const ROWS: usize = 1024;

/// What a loss is taken of, and in what its products are computed.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// `[N, C]`
    pub hidden: View<'a>,
    /// `[V, C]`
    pub head: View<'a>,
    /// `[N]`
    pub targets: &'a [u32],
    /// The share of the target distribution that all tokens have alike; the rest is the right one's.
    pub smoothing: f32,
    pub compute: Compute,
}

/// A mean cross-entropy and its gradients.
#[derive(Clone, Debug)]
pub struct Loss {
    pub mean: f32,
    /// `[N, C]`
    pub grad_hidden: Option<Vec<f32>>,
    /// `[V, C]`
    pub grad_head: Option<Vec<f32>>,
}

impl CrossEntropy<'_> {
    /// The loss, with the gradients that are asked for.
    pub fn compute(&self, grad_hidden: bool, grad_head: bool) -> Loss {
        match self.compute {
            Compute::Float32 => self.with::<f32>(grad_hidden, grad_head),
            Compute::Bfloat16 => self.with::<bf16>(grad_hidden, grad_head),
        }
    }

    fn with<W: Weight>(&self, grad_hidden: bool, grad_head: bool) -> Loss {
        let Self {
            hidden,
            head,
            targets,
            smoothing,
            compute,
        } = *self;
        let (n, vocabulary, width) = (hidden.rows, head.rows, head.cols);
        assert_eq!(targets.len(), n, "a target for each row");
        let packed = Packed::<W>::new(head.transpose());
        let mut loss = Loss {
            mean: 0.0,
            grad_hidden: grad_hidden.then(|| vec![0.0; n * width]),
            grad_head: grad_head.then(|| vec![0.0; vocabulary * width]),
        };
        let mut scores = vec![0.0; n.min(ROWS) * vocabulary];
        for first in (0..n).step_by(ROWS) {
            let rows = first..n.min(first + ROWS);
            let hidden = hidden.some_rows(rows.clone());
            let scores = &mut scores[..rows.len() * vocabulary];
            packed.product(hidden, scores, Epilogue::default());
            let losses: Vec<f32> = scores
                .par_chunks_exact_mut(vocabulary)
                .zip(&targets[rows.clone()])
                .map(|(scores, &target)| {
                    run(Row {
                        scores,
                        target: target as usize,
                        smoothing,
                        share: 1.0 / n as f32,
                    })
                })
                .collect();
            loss.mean += losses.iter().sum::<f32>() / n as f32;
            let grads = View::new(scores, rows.len(), vocabulary);
            if let Some(out) = &mut loss.grad_hidden {
                let out = &mut out[rows.start * width..rows.end * width];
                compute.product(grads, head, out, Epilogue::default());
            }
            if let Some(out) = &mut loss.grad_head {
                let added = Epilogue {
                    accumulate: true,
                    ..Default::default()
                };
                compute.product(grads.transpose(), hidden, out, added);
            }
        }
        loss
    }
}

/// One token: its loss, and in place of its scores their gradients.
struct Row<'a> {
    scores: &'a mut [f32],
    target: usize,
    smoothing: f32,
    /// Of this token in the mean.
    share: f32,
}

impl Kernel for Row<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self {
            scores,
            target,
            smoothing,
            share,
        } = self;
        let right = scores[target];
        let count = scores.len() as f32;
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        let (mut highest, mut total) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
        for x in whole.iter() {
            let v = s.load(x);
            highest = s.max(highest, v);
            total = s.add(total, v);
        }
        let (mut top, mut total) = (s.highest(highest), s.sum(total));
        for &x in rest.iter() {
            top = top.max(x);
            total += x;
        }
        let shift = s.splat(top);
        let mut sums = s.splat(0.0);
        for x in whole.iter_mut() {
            let e = s.exp(s.sub(s.load(x), shift));
            sums = s.add(sums, e);
            s.store(e, x);
        }
        let mut sum = s.sum(sums);
        for x in rest.iter_mut() {
            *x = (*x - top).exp();
            sum += *x;
        }
        // d/dx_i: share (p_i - smoothing / V), and share (1 - smoothing) less for the target.
        let factor = s.splat(share / sum);
        let all = share * smoothing / count;
        for x in whole.iter_mut() {
            let v = s.sub(s.mul(s.load(x), factor), s.splat(all));
            s.store(v, x);
        }
        for x in rest.iter_mut() {
            *x = *x * share / sum - all;
        }
        scores[target] -= share * (1.0 - smoothing);
        top + sum.ln() - (1.0 - smoothing) * right - smoothing * total / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn loss_and_gradients_are_those_of_the_formula() {
        for [n, c, v] in [[1, 1, 2], [3, 5, 37], [17, 8, 50]] {
            for smoothing in [0.0, 0.1] {
                let parts = [wave(n * c, 0.7), wave(v * c, 0.31)];
                let targets: Vec<u32> = (0..n).map(|i| (i * 7 % v) as u32).collect();
                let exact = |parts: &[Vec<f64>; 2]| -> f64 {
                    let mut sum = 0.0;
                    for (i, &target) in targets.iter().enumerate() {
                        let scores: Vec<f64> = (0..v)
                            .map(|j| {
                                (0..c)
                                    .map(|k| parts[0][i * c + k] * parts[1][j * c + k])
                                    .sum()
                            })
                            .collect();
                        let normal = scores.iter().map(|x| x.exp()).sum::<f64>().ln();
                        let mean = scores.iter().sum::<f64>() / v as f64;
                        let s = f64::from(smoothing);
                        sum += normal - (1.0 - s) * scores[target as usize] - s * mean;
                    }
                    sum / n as f64
                };
                let of = CrossEntropy {
                    hidden: View::new(&parts[0], n, c),
                    head: View::new(&parts[1], v, c),
                    targets: &targets,
                    smoothing,
                    compute: Compute::Float32,
                };
                let loss = of.compute(true, true);
                let rounded = CrossEntropy {
                    compute: Compute::Bfloat16,
                    ..of
                };
                let rounded = rounded.compute(true, true);
                assert!((rounded.mean - loss.mean).abs() < 1e-2);
                for (exact, rounded) in [
                    (&loss.grad_hidden, &rounded.grad_hidden),
                    (&loss.grad_head, &rounded.grad_head),
                ] {
                    let (exact, rounded) = (exact.as_ref().unwrap(), rounded.as_ref().unwrap());
                    assert!(n == 1 || exact != rounded, "{n} {c} {v}: not rounded");
                    for (exact, rounded) in exact.iter().zip(rounded) {
                        assert!((exact - rounded).abs() < 1e-2, "{exact} {rounded}");
                    }
                }
                let wide = parts
                    .each_ref()
                    .map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                assert!((f64::from(loss.mean) - exact(&wide)).abs() < 1e-5);
                let grads = [loss.grad_hidden.unwrap(), loss.grad_head.unwrap()];
                for part in 0..2 {
                    for i in (0..wide[part].len()).step_by(3) {
                        let moved = |by: f64| {
                            let mut wide = wide.clone();
                            wide[part][i] += by;
                            exact(&wide)
                        };
                        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                        assert!((f64::from(grads[part][i]) - slope).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
