//! Layer normalization: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, row by row, over all cores.

use rayon::prelude::*;

use super::simd::{Kernel, LANES, Simd, run};

/// Rows a task takes.
const ROWS: usize = 32;

/// What a layer normalization is made of.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Factor a column.
    pub gamma: &'a [f32],
    /// Term added to each column.
    pub beta: &'a [f32],
    pub epsilon: f32,
}

/// Gradients of gamma and beta.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGrads {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl Norm<'_> {
    fn width(&self) -> usize {
        self.gamma.len()
    }

    /// Normalizes rows of `gamma`'s width.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let task = ROWS * self.width();
        if x.len() <= task {
            return run(Forward { norm: *self, x, y });
        }
        x.par_chunks(task)
            .zip(y.par_chunks_mut(task))
            .for_each(|(x, y)| run(Forward { norm: *self, x, y }));
    }

    /// Turns the gradients of the output, `grad`, into those of `x`.
    pub fn backward(&self, x: &[f32], grad: &mut [f32]) -> NormGrads {
        let task = ROWS * self.width();
        let zero = || NormGrads {
            gamma: vec![0.0; self.width()],
            beta: vec![0.0; self.width()],
        };
        // Summed in the order of rows, so that a run does not depend on which core was faster.
        let parts: Vec<NormGrads> = x
            .par_chunks(task)
            .zip(grad.par_chunks_mut(task))
            .map(|(x, grad)| {
                let mut sums = zero();
                run(Backward {
                    norm: *self,
                    x,
                    grad,
                    sums: &mut sums,
                });
                sums
            })
            .collect();
        parts.into_iter().fold(zero(), |mut total, part| {
            add(&mut total.gamma, &part.gamma);
            add(&mut total.beta, &part.beta);
            total
        })
    }
}

fn add(total: &mut [f32], part: &[f32]) {
    total.iter_mut().zip(part).for_each(|(a, b)| *a += b);
}

struct Forward<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Norm {
            gamma,
            beta,
            epsilon,
        } = self.norm;
        let width = gamma.len();
        for (x, y) in self
            .x
            .chunks_exact(width)
            .zip(self.y.chunks_exact_mut(width))
        {
            let (mean, scale) = statistics(s, x, epsilon);
            let (mean, scale) = (s.splat(mean), s.splat(scale));
            for i in (0..width).step_by(LANES) {
                let end = width.min(i + LANES);
                let v = s.mul(s.sub(s.load_some(&x[i..end], 0.0), mean), scale);
                let g = s.load_some(&gamma[i..end], 0.0);
                let v = s.mul_add(v, g, s.load_some(&beta[i..end], 0.0));
                s.store_some(v, &mut y[i..end]);
            }
        }
    }
}

/// Mean and the factor that makes the variance 1.
#[inline(always)]
fn statistics<S: Simd>(s: S, x: &[f32], epsilon: f32) -> (f32, f32) {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for x in whole {
        sum = s.add(sum, s.load(x));
    }
    let mean = (s.sum(sum) + rest.iter().sum::<f32>()) / x.len() as f32;
    let (center, mut squares) = (s.splat(mean), s.splat(0.0));
    for x in whole {
        let d = s.sub(s.load(x), center);
        squares = s.mul_add(d, d, squares);
    }
    let mut square = s.sum(squares);
    for x in rest {
        square += (x - mean) * (x - mean);
    }
    (mean, 1.0 / (square / x.len() as f32 + epsilon).sqrt())
}

struct Backward<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    grad: &'a mut [f32],
    sums: &'a mut NormGrads,
}

impl Kernel for Backward<'_> {
    type Output = ();
    /// With `n` the normalized row and `d = gamma grad`: `dx = scale (d - mean(d) - n mean(d n))`.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Norm { gamma, epsilon, .. } = self.norm;
        let width = gamma.len();
        for (x, grad) in self
            .x
            .chunks_exact(width)
            .zip(self.grad.chunks_exact_mut(width))
        {
            let (mean, scale) = statistics(s, x, epsilon);
            let (center, factor) = (s.splat(mean), s.splat(scale));
            let (mut sum, mut product) = (s.splat(0.0), s.splat(0.0));
            for i in (0..width).step_by(LANES) {
                let end = width.min(i + LANES);
                let g = s.load_some(&grad[i..end], 0.0);
                let n = s.mul(s.sub(s.load_some(&x[i..end], mean), center), factor);
                let d = s.mul(g, s.load_some(&gamma[i..end], 0.0));
                sum = s.add(sum, d);
                product = s.mul_add(d, n, product);
                let total = s.load_some(&self.sums.gamma[i..end], 0.0);
                s.store_some(s.mul_add(g, n, total), &mut self.sums.gamma[i..end]);
                let total = s.load_some(&self.sums.beta[i..end], 0.0);
                s.store_some(s.add(g, total), &mut self.sums.beta[i..end]);
            }
            let sum = s.splat(s.sum(sum) / width as f32);
            let product = s.splat(s.sum(product) / width as f32);
            for i in (0..width).step_by(LANES) {
                let end = width.min(i + LANES);
                let n = s.mul(s.sub(s.load_some(&x[i..end], mean), center), factor);
                let d = s.mul(
                    s.load_some(&grad[i..end], 0.0),
                    s.load_some(&gamma[i..end], 0.0),
                );
                let d = s.sub(s.sub(d, sum), s.mul(n, product));
                s.store_some(s.mul(d, factor), &mut grad[i..end]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length)
            .map(|i| (i as f32 * step).sin() * 2.0 + 0.3)
            .collect()
    }

    /// Layer normalization in double precision, as a function to be differentiated.
    fn exact(x: &[f64], gamma: &[f32], beta: &[f32], epsilon: f64) -> Vec<f64> {
        let width = gamma.len();
        x.chunks(width)
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / width as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                (0..width)
                    .map(|i| {
                        let n = (row[i] - mean) / (variance + epsilon).sqrt();
                        n * f64::from(gamma[i]) + f64::from(beta[i])
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn rows_of_any_width_are_normalized_and_differentiated() {
        for (rows, width) in [(1, 1), (3, 5), (70, 24), (2, 16), (1, 33)] {
            let x = wave(rows * width, 0.37);
            let (gamma, beta) = (wave(width, 1.1), wave(width, 0.9));
            let norm = Norm {
                gamma: &gamma,
                beta: &beta,
                epsilon: 1e-3,
            };
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let expected = exact(&wide, &gamma, &beta, 1e-3);
            let mut y = vec![0.0; x.len()];
            norm.forward(&x, &mut y);
            for (y, expected) in y.iter().zip(&expected) {
                assert!((f64::from(*y) - expected).abs() < 1e-5);
            }

            let upstream = wave(x.len(), 0.53);
            let mut grad = upstream.clone();
            let sums = norm.backward(&x, &mut grad);
            let loss = |x: &[f64]| -> f64 {
                let y = exact(x, &gamma, &beta, 1e-3);
                y.iter()
                    .zip(&upstream)
                    .map(|(y, g)| y * f64::from(*g))
                    .sum()
            };
            for i in (0..x.len()).step_by(7) {
                let moved = |by: f64| {
                    let mut x = wide.clone();
                    x[i] += by;
                    loss(&x)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(grad[i]) - slope).abs() < 2e-4, "{rows} {width}");
            }
            for column in 0..width {
                let (mut by_gamma, mut by_beta) = (0.0, 0.0);
                for row in 0..rows {
                    let i = row * width + column;
                    let n = (expected[i] - f64::from(beta[column])) / f64::from(gamma[column]);
                    by_gamma += n * f64::from(upstream[i]);
                    by_beta += f64::from(upstream[i]);
                }
                assert!((f64::from(sums.gamma[column]) - by_gamma).abs() < 2e-3);
                assert!((f64::from(sums.beta[column]) - by_beta).abs() < 1e-3);
            }
        }
    }
}
