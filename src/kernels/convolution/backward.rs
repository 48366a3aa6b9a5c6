//! Gradients of a convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::{Convolution, Memory};
use crate::kernels::matrix::{Epilogue, Out, Tiles, View, panels_product, tiles_product};
use crate::kernels::simd::{Kernel, Simd, run};

/// Into so many parts, or fewer, the pictures are split for gradients. It does not depend on the machine, since the sums of the
/// parts are added up.
const PARTS: usize = 16;

/// Gradients of a convolution's input and weight, where they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvolutionGrads {
    pub x: Option<Vec<f32>>,
    pub weight: Option<Vec<f32>>,
}

impl Convolution {
    /// From the gradient of the output, `[N, O, h', w']`, those of the input and of the weight.
    pub fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        [by_x, by_weight]: [bool; 2],
    ) -> ConvolutionGrads {
        ConvolutionGrads {
            x: by_x.then(|| match self.reversed() {
                Some(reversed) => reversed.forward(grad, &self.turned(weight)),
                None => self.backward_by_scattering(x.len(), weight, grad),
            }),
            weight: by_weight.then(|| self.backward_by_weight(x, grad)),
        }
    }

    /// The convolution that takes the output's gradient to the input's, if there is one: without strides and with no more
    /// zeros than a kernel reaches over.
    fn reversed(&self) -> Option<Self> {
        let reach = self.kernel.map(|side| side - 1);
        let within = (0..2).all(|i| self.padding[i] <= reach[i]);
        let [height, width] = self.output();
        (self.stride == [1, 1] && within).then(|| Self {
            input: [self.channels, height, width],
            channels: self.input[0],
            padding: [0, 1].map(|i| reach[i] - self.padding[i]),
            ..*self
        })
    }

    /// The weight of [`Self::reversed`]: `[O, C, kh, kw] -> [C, O, kh, kw]`, kernels turned by half.
    fn turned(&self, weight: &[f32]) -> Vec<f32> {
        let (inputs, size) = (self.input[0], self.kernel[0] * self.kernel[1]);
        let mut turned = Vec::with_capacity(weight.len());
        for c in 0..inputs {
            for o in 0..self.channels {
                turned.extend(weight[(o * inputs + c) * size..][..size].iter().rev());
            }
        }
        turned
    }

    /// The gradient of the input, whose size in floats is `size`.
    fn backward_by_scattering(&self, size: usize, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let part = self.part(grad); // pictures
        let weight = View::new(weight, self.channels, self.depth());
        let weight = Tiles::new(weight.transpose());
        let mut dx = vec![0.0; size];
        dx.par_chunks_mut((part * self.input_size()).max(1))
            .zip(grad.par_chunks((part * self.output_size()).max(1)))
            .for_each_init(Memory::default, |memory, (dx, grad)| {
                run(Scatter {
                    of: *self,
                    grad,
                    weight: &weight,
                    dx,
                    memory,
                });
            });
        self.unsorted(dx)
    }

    /// The gradient of the weight.
    fn backward_by_weight(&self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let part = self.part(grad); // pictures
        let size = self.channels * self.depth();
        let x = self.sorted(x);
        let sums: Vec<Vec<f32>> = x
            .par_chunks((part * self.input_size()).max(1))
            .zip(grad.par_chunks((part * self.output_size()).max(1)))
            .map_init(Memory::default, |memory, (x, grad)| {
                let mut dw = vec![0.0; size];
                run(ByWeight {
                    of: *self,
                    x,
                    grad,
                    dw: &mut dw,
                    memory,
                });
                dw
            })
            .collect();
        sums.into_iter().fold(vec![0.0; size], |mut total, part| {
            total.iter_mut().zip(part).for_each(|(a, b)| *a += b);
            total
        })
    }

    /// Pictures that a task takes of those whose outputs `grad` is of.
    fn part(&self, grad: &[f32]) -> usize {
        let pictures = grad.len() / self.output_size().max(1);
        pictures.div_ceil(PARTS).max(1)
    }

    /// The places in some rows of the output, `[O, places]`.
    #[inline(always)]
    fn places(&self, y: &[f32], rows: Range<usize>, places: &mut Vec<f32>) {
        let [height, width] = self.output();
        places.clear();
        for channel in 0..self.channels {
            for row in rows.clone() {
                let (picture, row) = (row / height, row % height);
                let plane = (picture * self.channels + channel) * height;
                places.extend_from_slice(&y[(plane + row) * width..][..width]);
            }
        }
    }

    /// All rows of the output of some pictures, as many at a time as are worked on together.
    fn bands(&self, outputs: &[f32]) -> impl Iterator<Item = Range<usize>> + use<> {
        let pictures = outputs.len() / self.output_size().max(1);
        let (rows, band) = (pictures * self.output()[0], self.band());
        (0..rows)
            .step_by(band)
            .map(move |first| first..rows.min(first + band))
    }
}

/// The gradient of the weight from some pictures.
struct ByWeight<'a> {
    of: Convolution,
    /// Sorted.
    x: &'a [f32],
    grad: &'a [f32],
    dw: &'a mut [f32],
    memory: &'a mut Memory,
}

impl Kernel for ByWeight<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, x, grad, .. } = self;
        let Memory {
            seen,
            places,
            tiles,
            ..
        } = self.memory;
        let epilogue = Epilogue {
            accumulate: true,
            ..Epilogue::default()
        };
        for rows in of.bands(grad) {
            let count = rows.len() * of.output()[1];
            of.places(grad, rows.clone(), places);
            tiles.fill(s, View::new(places, of.channels, count));
            of.gather_rows(s, x, rows, seen);
            let out = Out::new(self.dw, of.depth());
            panels_product(s, tiles, seen, [count, of.depth()], out, epilogue);
        }
    }
}

/// The gradient of some pictures, by what saw them.
struct Scatter<'a> {
    of: Convolution,
    grad: &'a [f32],
    /// `[C kh kw, O]`
    weight: &'a Tiles,
    /// Sorted.
    dx: &'a mut [f32],
    memory: &'a mut Memory,
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, grad, .. } = self;
        let Memory {
            seen,
            places,
            scratch,
            ..
        } = self.memory;
        for rows in of.bands(grad) {
            let count = rows.len() * of.output()[1];
            of.places(grad, rows.clone(), places);
            seen.resize(of.depth() * count, 0.0);
            let (dy, out) = (View::new(places, of.channels, count), Out::new(seen, count));
            tiles_product(s, self.weight, dy, out, scratch);
            of.scatter(seen, rows, self.dx);
        }
    }
}
