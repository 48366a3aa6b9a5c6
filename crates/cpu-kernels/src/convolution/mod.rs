//! Convolutions of planes with zeros around them, `[N, C, h, w] x [O, C, kh, kw] -> [N, O, h', w']`, and their gradients, over
//! all cores.
//!
//! A window of the input times the weight, without copies of what overlapping windows share: the input is laid out with
//! channels last, where what a place sees is a few runs of float32 values, and vectors are of output channels, so that neither strides
//! nor narrow planes leave lanes unused.

mod axis;
mod backward;
mod correlation;
mod weights;

use axis::Axis;
use correlation::Correlation;
use weights::{Order, Weights};

pub use backward::ConvolutionGrads;

/// Shapes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Channels, height and width of what goes in.
    pub input: [usize; 3],
    /// Channels that come out.
    pub channels: usize,
    /// Height and width, as for the next two.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
}

impl Convolution {
    /// Height and width of what comes out.
    pub fn output(&self) -> [usize; 2] {
        self.axes().map(|axis| axis.places)
    }

    /// Down and across.
    fn axes(&self) -> [Axis; 2] {
        [0, 1].map(|i| {
            Axis::forward(
                self.input[i + 1],
                self.kernel[i],
                self.stride[i],
                self.padding[i],
            )
        })
    }

    fn correlation(&self) -> Correlation {
        let [down, across] = self.axes();
        Correlation {
            channels: self.input[0],
            down,
            across,
        }
    }

    /// float32 values of an image that goes in.
    fn input_size(&self) -> usize {
        self.input.iter().product()
    }

    /// float32 values of an image that comes out.
    fn output_size(&self) -> usize {
        self.channels * self.output().iter().product::<usize>()
    }

    /// Places of the kernel.
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// # Shapes
    /// - `x`: `[N, C, h, w]`, `weight`: `[O, C, kh, kw]`; returns `[N, O, h', w']`
    pub fn forward(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let images = x.len() / self.input_size().max(1);
        let taps: Vec<usize> = (0..self.taps()).collect();
        let order = Order {
            input: [self.input[0], taps.len()],
            output: [self.channels, self.input[0] * taps.len()],
        };
        let mut y = vec![0.0; images * self.output_size()];
        (self.correlation()).run(x, &Weights::pack(weight, order, &taps), &mut y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Calls `visit` with places of the output, the input and the weight that meet.
    fn meet(of: &Convolution, images: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let ([c, h, w], [oh, ow], [kh, kw]) = (of.input, of.output(), of.kernel);
        for n in 0..images {
            for o in 0..of.channels {
                for (y, x) in (0..oh * ow).map(|place| (place / ow, place % ow)) {
                    for (i, j) in (0..kh * kw).map(|place| (place / kw, place % kw)) {
                        let row = (y * of.stride[0] + i).checked_sub(of.padding[0]);
                        let column = (x * of.stride[1] + j).checked_sub(of.padding[1]);
                        let (Some(row), Some(column)) = (row, column) else {
                            continue;
                        };
                        if row < h && column < w {
                            for channel in 0..c {
                                visit(
                                    ((n * of.channels + o) * oh + y) * ow + x,
                                    ((n * c + channel) * h + row) * w + column,
                                    ((o * c + channel) * kh + i) * kw + j,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5 * largest,
                "{found} {expected}"
            );
        }
    }

    /// Kernels of one place, odd sides, strides that leave a rest, an image larger than a band, kernels as large as the image.
    const SHAPES: [(usize, Convolution); 10] = [
        (1, shape([1, 1, 1], 1, 1, 1, 0)),
        (2, shape([3, 9, 7], 5, 7, 2, 3)),
        (19, shape([4, 6, 6], 8, 3, 1, 1)),
        (3, shape([5, 7, 6], 13, 3, 2, 1)),
        (2, shape([6, 5, 5], 4, 1, 2, 0)),
        (2, shape([2, 40, 33], 3, 3, 1, 1)),
        (40, shape([7, 2, 2], 9, 4, 2, 1)),
        (3, shape([2, 5, 4], 3, 2, 1, 2)),
        (3, shape([2, 7, 8], 3, 5, 3, 2)),
        (2, shape([2, 4, 1], 3, 1, 3, 0)),
    ];

    const fn shape(
        input: [usize; 3],
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Convolution {
        Convolution {
            input,
            channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
        }
    }

    #[test]
    fn convolutions_and_gradients_of_odd_shapes_equal_plain_loops() {
        for (images, of) in SHAPES {
            let x = wave(images * of.input_size(), 0.37);
            let weight = wave(of.channels * (of.input[0] * of.taps()), 0.71);
            let grad = wave(images * of.output_size(), 0.13);
            let mut y = vec![0.0; grad.len()];
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            meet(&of, images, |out, seen, by| {
                let [x, w, dy] = [x[seen], weight[by], grad[out]].map(f64::from);
                y[out] += x * w;
                dx[seen] += dy * w;
                dw[by] += dy * x;
            });
            close(&of.forward(&x, &weight), &y);
            let found = of.backward(&x, &weight, &grad, [true, true]);
            close(found.x.as_ref().unwrap(), &dx);
            close(found.weight.as_ref().unwrap(), &dw);
            let only_weight = of.backward(&x, &weight, &grad, [false, true]);
            assert_eq!((only_weight.x, only_weight.weight), (None, found.weight));
            let only_x = of.backward(&x, &weight, &grad, [true, false]);
            assert_eq!((only_x.x, only_x.weight), (found.x, None));
        }
    }

    #[test]
    fn no_image_gives_none() {
        let of = shape([2, 4, 4], 3, 3, 1, 1);
        let weight = wave(3 * (of.input[0] * of.taps()), 0.2);
        assert!(of.forward(&[], &weight).is_empty());
        let found = of.backward(&[], &weight, &[], [true, true]);
        assert_eq!(found.weight.unwrap(), vec![0.0; weight.len()]);
    }
}
