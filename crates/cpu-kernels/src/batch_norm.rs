//! Batch normalization of `[N, C, h, w]` by the mean and the variance that each channel has in the batch:
//! `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, over all cores.

use rayon::prelude::*;

use super::simd::{Kernel, Simd, run};

/// A batch normalization of planes.
#[derive(Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Factor a channel.
    pub gamma: &'a [f32],
    /// float32 values of a channel of an image.
    pub plane: usize,
    pub epsilon: f32,
    /// Of each channel.
    pub statistics: &'a Statistics,
}

/// Means and variances of channels, the variances those of the values at hand (divided by their number).
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// Gradients of gamma and beta.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormGrads {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl Statistics {
    /// Of the channels of `x`, `[N, channels, plane]`.
    pub fn of(x: &[f32], channels: usize, plane: usize) -> Self {
        let count = (x.len() / channels.max(1)).max(1) as f64;
        let (mean, variance) = (0..channels)
            .into_par_iter()
            .map(|channel| {
                let planes = Planes {
                    channel,
                    channels,
                    plane,
                };
                let mean = run(Sum { planes, x }) / count;
                let squares = run(Squares {
                    planes,
                    x,
                    mean: mean as f32,
                });
                (mean as f32, (squares / count) as f32)
            })
            .unzip();
        Self { mean, variance }
    }
}

impl BatchNorm<'_> {
    /// `beta`: summand a channel.
    pub fn forward(&self, x: &[f32], beta: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let image = (self.gamma.len() * self.plane).max(1);
        let lines: Vec<_> = (0..self.gamma.len())
            .map(|c| {
                let factor = self.gamma[c] * self.scale(c);
                (factor, beta[c] - self.statistics.mean[c] * factor)
            })
            .collect();
        x.par_chunks(image)
            .zip(y.par_chunks_mut(image))
            .for_each(|(x, y)| {
                run(Straight {
                    lines: &lines,
                    plane: self.plane,
                    x,
                    y,
                });
            });
        y
    }

    /// Turns the gradients of the output, `grad`, into those of `x`, through its statistics too.
    pub fn backward(&self, x: &[f32], grad: &mut [f32]) -> BatchNormGrads {
        let channels = self.gamma.len();
        let image = (channels * self.plane).max(1);
        let count = (x.len() / channels.max(1)).max(1) as f64;
        // With `n` the normalized value: the sums of `grad n` and of `grad`.
        let given = &*grad;
        let (gamma, beta): (Vec<f32>, Vec<f32>) = (0..channels)
            .into_par_iter()
            .map(|channel| {
                let planes = Planes {
                    channel,
                    channels,
                    plane: self.plane,
                };
                let mean = self.statistics.mean[channel];
                let moment = run(Moment {
                    planes,
                    x,
                    grad: given,
                    mean,
                });
                let sum = run(Sum { planes, x: given });
                (moment as f32 * self.scale(channel), sum as f32)
            })
            .unzip();
        // `scale gamma (grad - mean(grad) - n mean(grad n))`, as a factor of `grad`, one of `x` and a summand.
        let lines: Vec<[f32; 3]> = (0..channels)
            .map(|c| {
                let scale = self.scale(c);
                let factor = self.gamma[c] * scale;
                let [by_moment, by_sum] =
                    [gamma[c], beta[c]].map(|sum| (f64::from(sum) / count) as f32);
                let of_x = -factor * scale * by_moment;
                [
                    factor,
                    of_x,
                    -factor * by_sum - of_x * self.statistics.mean[c],
                ]
            })
            .collect();
        x.par_chunks(image)
            .zip(grad.par_chunks_mut(image))
            .for_each(|(x, grad)| {
                run(Backward {
                    lines: &lines,
                    plane: self.plane,
                    x,
                    grad,
                });
            });
        BatchNormGrads { gamma, beta }
    }

    /// What makes a channel's variance 1.
    fn scale(&self, channel: usize) -> f32 {
        1.0 / (self.statistics.variance[channel] + self.epsilon).sqrt()
    }
}

/// The planes of a channel.
#[derive(Clone, Copy)]
struct Planes {
    channel: usize,
    channels: usize,
    plane: usize,
}

impl Planes {
    /// Those of `[N, channels, plane]`.
    #[inline(always)]
    fn of(self, x: &[f32]) -> impl Iterator<Item = &[f32]> {
        let image = (self.channels * self.plane).max(1);
        let start = self.channel * self.plane;
        x.chunks_exact(image)
            .map(move |image| &image[start..start + self.plane])
    }
}

/// Partial sums side by side, which the compiler makes a vector of.
const SIDE_BY_SIDE: usize = 16;

/// The sum of `value(i)` over a plane.
#[inline(always)]
fn plane_sum(length: usize, value: impl Fn(usize) -> f32) -> f64 {
    let mut sums = [0.0; SIDE_BY_SIDE];
    let whole = length - length % SIDE_BY_SIDE;
    for start in (0..whole).step_by(SIDE_BY_SIDE) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += value(start + i);
        }
    }
    let rest: f32 = (whole..length).map(value).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
}

/// The sum of a channel.
struct Sum<'a> {
    planes: Planes,
    x: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let planes = self.planes.of(self.x);
        planes.map(|x| plane_sum(x.len(), |i| x[i])).sum()
    }
}

/// The sum of a channel's squared distances from its mean.
struct Squares<'a> {
    planes: Planes,
    x: &'a [f32],
    mean: f32,
}

impl Kernel for Squares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let square = |x: f32| (x - self.mean) * (x - self.mean);
        let planes = self.planes.of(self.x);
        planes.map(|x| plane_sum(x.len(), |i| square(x[i]))).sum()
    }
}

/// The sum of a channel's distances from its mean, each times its gradient.
struct Moment<'a> {
    planes: Planes,
    x: &'a [f32],
    grad: &'a [f32],
    mean: f32,
}

impl Kernel for Moment<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let planes = self.planes.of(self.x).zip(self.planes.of(self.grad));
        planes
            .map(|(x, grad)| plane_sum(x.len(), |i| (x[i] - self.mean) * grad[i]))
            .sum()
    }
}

/// `y = x factor + summand` with those of each channel, on one image.
struct Straight<'a> {
    lines: &'a [(f32, f32)],
    plane: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Straight<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let planes = (self.x.chunks_exact(self.plane)).zip(self.y.chunks_exact_mut(self.plane));
        for ((x, y), &(factor, summand)) in planes.zip(self.lines) {
            for (x, y) in x.iter().zip(y) {
                *y = x * factor + summand;
            }
        }
    }
}

/// `grad = grad a + x b + c` with those of each channel, on one image.
struct Backward<'a> {
    lines: &'a [[f32; 3]],
    plane: usize,
    x: &'a [f32],
    grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let planes = (self.x.chunks_exact(self.plane)).zip(self.grad.chunks_exact_mut(self.plane));
        for ((x, grad), &[a, b, c]) in planes.zip(self.lines) {
            for (x, grad) in x.iter().zip(grad) {
                *grad = *grad * a + (x * b + c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPSILON: f32 = 1e-5;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin() + 0.3).collect()
    }

    fn close(found: &[f32], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < tolerance,
                "{found} {expected}"
            );
        }
    }

    /// The normalized values without `gamma` and `beta`, in f64.
    fn normalized(x: &[f64], channels: usize, plane: usize) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        for channel in 0..channels {
            let own = |i: &usize| i / plane % channels == channel;
            let count = (0..x.len()).filter(own).count() as f64;
            let mean = (0..x.len()).filter(own).map(|i| x[i]).sum::<f64>() / count;
            let squares = (0..x.len()).filter(own).map(|i| (x[i] - mean).powi(2));
            let variance = squares.sum::<f64>() / count;
            for i in (0..x.len()).filter(own) {
                out[i] = (x[i] - mean) / (variance + f64::from(EPSILON)).sqrt();
            }
        }
        out
    }

    #[test]
    fn values_and_gradients_are_those_of_the_formula() {
        for [images, channels, plane] in [[1, 1, 5], [3, 2, 37], [9, 5, 4], [20, 3, 144]] {
            let x = wave(images * channels * plane, 0.37);
            let (gamma, beta) = (wave(channels, 0.9), wave(channels, 0.4));
            let channel = |i: usize| i / plane % channels;
            let statistics = Statistics::of(&x, channels, plane);
            let norm = BatchNorm {
                gamma: &gamma,
                plane,
                epsilon: EPSILON,
                statistics: &statistics,
            };
            let exact: Vec<f64> = x.iter().copied().map(f64::from).collect();
            let n = normalized(&exact, channels, plane);
            let y: Vec<f64> = (0..x.len())
                .map(|i| n[i] * f64::from(gamma[channel(i)]) + f64::from(beta[channel(i)]))
                .collect();
            close(&norm.forward(&x, &beta), &y, 1e-5);

            let weights = wave(x.len(), 0.13);
            let mut grad = weights.clone();
            let found = norm.backward(&x, &mut grad);
            let (mut by_gamma, mut by_beta) = (vec![0.0; channels], vec![0.0; channels]);
            for i in 0..x.len() {
                by_gamma[channel(i)] += f64::from(weights[i]) * n[i];
                by_beta[channel(i)] += f64::from(weights[i]);
            }
            close(&found.gamma, &by_gamma, 1e-3);
            close(&found.beta, &by_beta, 1e-3);
            // By differences, of the sum of the output weighted as the gradient.
            let total = |x: &[f64]| -> f64 {
                let n = normalized(x, channels, plane);
                let parts = (0..x.len())
                    .map(|i| n[i] * f64::from(gamma[channel(i)]) * f64::from(weights[i]));
                parts.sum()
            };
            for i in (0..x.len()).step_by(x.len() / 7 + 1) {
                let moved = |by: f64| {
                    let mut x = exact.clone();
                    x[i] += by;
                    total(&x)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                close(&grad[i..=i], &[slope], 1e-4);
            }
        }
    }
}
