//! Convolutions of planes with zeros around them, `[N, C, h, w] x [O, C, kh, kw] -> [N, O, h', w']`, and their gradients, over
//! all cores.
//!
//! Each is a product with the columns of what every output place sees, `[C kh kw, places]` ("im2col"). They are made for a few
//! rows of the output at a time, so that they stay in the cache, and as the product wants them packed.

mod seen;

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::{Epilogue, Out, Scratch, Tiles, View, panels_product, tiles_product};
use super::simd::{Kernel, Simd, run};

/// Output places that are worked on together, more or less.
const PLACES: usize = 256;
/// Into so many parts, or fewer, the pictures are split for gradients. It does not depend on the machine, since the sums of the
/// parts are added up.
const PARTS: usize = 16;

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

/// Gradients of a convolution's input and weight, where they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvolutionGrads {
    pub x: Option<Vec<f32>>,
    pub weight: Option<Vec<f32>>,
}

/// Memory of a task, to be used again.
#[derive(Default)]
struct Memory {
    /// What some places of the output see.
    seen: Vec<f32>,
    /// `[O, places]`
    places: Vec<f32>,
    tiles: Tiles,
    scratch: Scratch,
}

impl Convolution {
    /// Height and width of what comes out.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|i| {
            let reach = self.input[i + 1] + 2 * self.padding[i];
            assert!(
                reach >= self.kernel[i],
                "a kernel wider than what it is laid on"
            );
            (reach - self.kernel[i]) / self.stride[i] + 1
        })
    }

    /// Floats of a picture that goes in.
    fn input_size(&self) -> usize {
        self.input.iter().product()
    }

    /// Floats of a picture that comes out.
    fn output_size(&self) -> usize {
        self.channels * self.output().iter().product::<usize>()
    }

    /// Rows of the columns: `C kh kw`.
    fn depth(&self) -> usize {
        self.input[0] * self.kernel[0] * self.kernel[1]
    }

    /// Rows of the output that are worked on together.
    fn band(&self) -> usize {
        PLACES.div_ceil(self.output()[1].max(1))
    }

    /// # Shapes
    /// - `x`: `[N, C, h, w]`, `weight`: `[O, C, kh, kw]`; returns `[N, O, h', w']`
    pub fn forward(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let pictures = x.len() / self.input_size().max(1);
        let [height, width] = self.output();
        let x = &self.sorted(x);
        let mut y = vec![0.0; pictures * self.output_size()];
        let out = Out::new(&mut y, height * width);
        let weight = Tiles::new(View::new(weight, self.channels, self.depth()));
        let (rows, band) = (pictures * height, self.band());
        (0..rows.div_ceil(band))
            .into_par_iter()
            .for_each_init(Memory::default, |memory, i| {
                run(Forward {
                    of: *self,
                    x,
                    weight: &weight,
                    rows: i * band..rows.min((i + 1) * band),
                    out,
                    memory,
                });
            });
        y
    }

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

/// Some rows of the output.
struct Forward<'a> {
    of: Convolution,
    /// Sorted.
    x: &'a [f32],
    weight: &'a Tiles,
    /// Of all pictures' output.
    rows: Range<usize>,
    /// A row a channel of a picture.
    out: Out,
    memory: &'a mut Memory,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, rows, .. } = self;
        let Memory { seen, places, .. } = self.memory;
        of.gather(s, self.x, rows.clone(), seen);
        let [height, width] = of.output();
        let count = rows.len() * width;
        places.resize(of.channels * count, 0.0);
        let (shape, out) = ([of.depth(), count], Out::new(places, count));
        panels_product(s, self.weight, seen, shape, out, Epilogue::default());
        for (channel, places) in places.chunks_exact(count).enumerate() {
            for (row, places) in rows.clone().zip(places.chunks_exact(width)) {
                let (picture, y) = (row / height, row % height);
                let plane = picture * of.channels + channel;
                // SAFETY: tasks have rows of their own.
                let out = unsafe { self.out.slice(plane, y * width, width) };
                out.copy_from_slice(places);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Calls `visit` with places of the output, the input and the weight that meet.
    fn meet(of: &Convolution, pictures: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let ([c, h, w], [oh, ow], [kh, kw]) = (of.input, of.output(), of.kernel);
        for n in 0..pictures {
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

    /// Kernels of one place, odd sides, strides that leave a rest, a picture larger than a band, kernels as large as the picture.
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
        for (pictures, of) in SHAPES {
            let x = wave(pictures * of.input_size(), 0.37);
            let weight = wave(of.channels * of.depth(), 0.71);
            let grad = wave(pictures * of.output_size(), 0.13);
            let mut y = vec![0.0; grad.len()];
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            meet(&of, pictures, |out, seen, by| {
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
    fn no_picture_gives_none() {
        let of = shape([2, 4, 4], 3, 3, 1, 1);
        let weight = wave(3 * of.depth(), 0.2);
        assert!(of.forward(&[], &weight).is_empty());
        let found = of.backward(&[], &weight, &[], [true, true]);
        assert_eq!(found.weight.unwrap(), vec![0.0; weight.len()]);
    }
}
