//! Gradients of a convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::Convolution;
use super::correlation::{Correlation, channels_last};
use super::weights::{Order, Weights, vectors};
use crate::kernels::matrix::tiling;
use crate::kernels::simd::{Kernel, LANES, Level, Simd, run};

/// Floats of pictures that are laid out together for the gradient of the weight: a part of a last-level cache.
const GROUP: usize = 4 * 1024 * 1024;
/// Floats of pictures that a task goes through for one tile after another: a part of a second-level cache.
const BLOCK: usize = 64 * 1024;

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
            x: by_x.then(|| self.backward_by_x(x.len(), weight, grad)),
            weight: by_weight.then(|| self.backward_by_weight(x, grad)),
        }
    }

    /// The gradient of the input, whose size in floats is `size`.
    fn backward_by_x(&self, size: usize, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let [down, across] = self.axes();
        let order = Order {
            input: [self.channels, self.input[0] * self.taps()],
            output: [self.input[0], self.taps()],
        };
        let mut dx = vec![0.0; size];
        for (i, j) in (0..down.step).flat_map(|i| (0..across.step).map(move |j| (i, j))) {
            let columns = across.taps(j);
            let taps: Vec<usize> = (down.taps(i))
                .flat_map(|row| {
                    columns
                        .clone()
                        .map(move |column| row * across.window + column)
                })
                .collect();
            let correlation = Correlation {
                channels: self.channels,
                down: down.backward(i),
                across: across.backward(j),
            };
            correlation.run(grad, &Weights::pack(weight, order, &taps), &mut dx);
        }
        dx
    }

    /// The gradient of the weight.
    fn backward_by_weight(&self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let of = ByWeight::new(self);
        let mut dw = vec![0.0; of.panels * of.panel()];
        let group = (GROUP / (of.source() + of.grads()).max(1)).max(1); // pictures
        for (x, grad) in (x.chunks((group * self.input_size()).max(1)))
            .zip(grad.chunks((group * self.output_size()).max(1)))
        {
            of.add(x, grad, &mut dw);
        }
        of.unpack(&dw)
    }
}

/// What the gradient of the weight is made by: for each value of a window and each channel that comes out, the sum over
/// all places of the value times the channel's gradient. Tiles are of values in a run and of channels, `[tile][height][width]`
/// for each panel of channels.
struct ByWeight {
    convolution: Convolution,
    correlation: Correlation,
    /// Values of a tile.
    height: usize,
    /// Tiles that a run is.
    tiles: usize,
    /// Vectors of channels of a panel.
    vectors: usize,
    panels: usize,
}

impl ByWeight {
    fn new(convolution: &Convolution) -> Self {
        let correlation = convolution.correlation();
        let run = correlation.across.window * correlation.channels;
        let (height, tiles) = tiling(run, Level::best().rows());
        let vectors = vectors(convolution.channels);
        Self {
            convolution: *convolution,
            correlation,
            height,
            tiles,
            vectors,
            panels: convolution.channels.div_ceil(vectors * LANES),
        }
    }

    /// Floats of a tile.
    fn tile(&self) -> usize {
        self.height * self.vectors * LANES
    }

    /// Floats of a panel.
    fn panel(&self) -> usize {
        self.convolution.kernel[0] * self.tiles * self.tile()
    }

    /// Floats of a picture's input, laid out.
    fn source(&self) -> usize {
        let down = self.correlation.down;
        down.span(down.places) * self.correlation.line()
    }

    /// Floats of the gradients of a picture's output, laid out.
    fn grads(&self) -> usize {
        let [height, width] = self.convolution.output();
        height * width * self.panels * self.vectors * LANES
    }

    /// Adds what some pictures give.
    fn add(&self, x: &[f32], grad: &[f32], dw: &mut [f32]) {
        let of = &self.convolution;
        let pictures = x.len() / of.input_size();
        // The last tile of a run reads on.
        let mut lines = vec![0.0; pictures * self.source() + self.height];
        let mut grads = vec![0.0; pictures * self.grads()];
        (lines.par_chunks_exact_mut(self.source()))
            .zip(grads.par_chunks_exact_mut(self.grads()))
            .zip(x.par_chunks_exact(of.input_size()))
            .zip(grad.par_chunks_exact(of.output_size()))
            .for_each(|(((lines, grads), x), grad)| {
                run(LayOut {
                    of: self,
                    x,
                    grad,
                    lines,
                    grads,
                });
            });
        let all = of.kernel[0] * self.tiles;
        let parts = (8 * rayon::current_num_threads()).div_ceil(self.panels);
        let part = all.div_ceil(parts).max(1); // tiles
        dw.par_chunks_exact_mut(self.panel())
            .enumerate()
            .flat_map(|(panel, dw)| {
                let parts = dw.par_chunks_mut(part * self.tile()).enumerate();
                parts.map(move |(i, dw)| (panel, i * part, dw))
            })
            .for_each(|(panel, first, dw)| {
                run(Part {
                    of: self,
                    lines: &lines,
                    grads: &grads,
                    panel,
                    first,
                    dw,
                });
            });
    }

    /// The panels as `[O, C, kh, kw]`.
    fn unpack(&self, dw: &[f32]) -> Vec<f32> {
        let of = &self.convolution;
        let (channels, taps, width) = (of.input[0], of.taps(), self.vectors * LANES);
        let (run, size) = (self.correlation.across.window * channels, channels * taps);
        let mut weight = vec![0.0; of.channels * size];
        (weight.par_chunks_mut((LANES * size).max(1)))
            .enumerate()
            .for_each(|(i, weight)| {
                let (panel, lane) = (i * LANES / width, i * LANES % width);
                let rows = dw[panel * self.panel()..][..self.panel()].chunks_exact(width);
                for (row, sums) in rows.enumerate() {
                    let (line, value) = (
                        row / (self.tiles * self.height),
                        row % (self.tiles * self.height),
                    );
                    if value >= run {
                        continue;
                    }
                    let tap = line * of.kernel[1] + value / channels;
                    let first = value % channels * taps + tap;
                    let column = weight[first..].iter_mut().step_by(size);
                    column.zip(&sums[lane..]).for_each(|(to, from)| *to = *from);
                }
            });
        weight
    }
}

/// Lays out a picture's input and the gradients of its output.
struct LayOut<'a> {
    of: &'a ByWeight,
    x: &'a [f32],
    grad: &'a [f32],
    /// Zeros, as are the next ones.
    lines: &'a mut [f32],
    /// `[places][panels][vectors * LANES]`
    grads: &'a mut [f32],
}

impl Kernel for LayOut<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { of, grads, .. } = self;
        let places = 0..of.correlation.down.places;
        of.correlation.lay_out(self.x, places, self.lines);
        let [height, width] = of.convolution.output();
        let channels = of.convolution.channels;
        let row = of.panels * of.vectors * LANES;
        channels_last(self.grad, [height * width; 2], channels, row, grads);
    }
}

/// Adds to some tiles of a panel what all pictures give.
struct Part<'a> {
    of: &'a ByWeight,
    /// Of all pictures, one after the other.
    lines: &'a [f32],
    grads: &'a [f32],
    panel: usize,
    /// The first tile's index.
    first: usize,
    dw: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        macro_rules! heights {
            ($($r:literal)*) => {
                match self.of.height {
                    $($r if self.of.vectors == 2 => self.tiles::<S, $r, 2>(s),
                    $r => self.tiles::<S, $r, 1>(s),)*
                    _ => unreachable!("a tile of {} values", self.of.height),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12)
    }
}

impl Part<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const P: usize>(self, s: S) {
        // What is not used on this instruction set is not compiled.
        if R > S::ROWS || P > S::PANELS {
            return;
        }
        let of = self.of;
        let block = (BLOCK / (of.source() + of.grads()).max(1)).max(1); // pictures
        let pictures = self.grads.len() / of.grads();
        for first in (0..pictures).step_by(block) {
            let block = first..pictures.min(first + block);
            let tiles = self.dw.as_chunks_mut::<LANES>().0.as_chunks_mut::<P>().0;
            for (i, dw) in tiles.as_chunks_mut::<R>().0.iter_mut().enumerate() {
                let (line, tile) = ((self.first + i) / of.tiles, (self.first + i) % of.tiles);
                let offset = line * of.correlation.line() + tile * R;
                let pictures = Pictures {
                    of,
                    lines: self.lines,
                    grads: self.grads,
                    range: block.clone(),
                    offset,
                    column: self.panel * P * LANES,
                };
                pictures.add(s, dw);
            }
        }
    }
}

/// Some pictures, as one tile sees them.
struct Pictures<'a> {
    of: &'a ByWeight,
    lines: &'a [f32],
    grads: &'a [f32],
    range: Range<usize>,
    /// From where a window begins to the tile's values.
    offset: usize,
    /// The panel's first, among those of the gradients.
    column: usize,
}

impl Pictures<'_> {
    #[inline(always)]
    fn add<S: Simd, const R: usize, const P: usize>(self, s: S, dw: &mut [[[f32; LANES]; P]; R]) {
        let Correlation {
            channels,
            down,
            across,
        } = self.of.correlation;
        let width = self.of.panels * P * LANES;
        let [line, step] = [
            down.step * self.of.correlation.line(),
            across.step * channels,
        ];
        let mut sums = [[s.splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = s.load(&dw[r][p]);
            }
        }
        for picture in self.range {
            let seen = &self.lines[picture * self.of.source() + self.offset..];
            let grads = &self.grads[picture * self.of.grads()..][..self.of.grads()];
            for (y, grads) in grads.chunks_exact(across.places * width).enumerate() {
                let seen = &seen[y * line..];
                for (x, grads) in grads.chunks_exact(width).enumerate() {
                    let grads = &grads[self.column..][..P * LANES];
                    let grads = grads.as_chunks::<LANES>().0;
                    let seen = &seen[x * step..][..R];
                    let mut columns = [s.splat(0.0); P];
                    for p in 0..P {
                        columns[p] = s.load(&grads[p]);
                    }
                    for r in 0..R {
                        let value = s.splat(seen[r]);
                        for p in 0..P {
                            sums[r][p] = s.mul_add(value, columns[p], sums[r][p]);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                s.store(sums[r][p], &mut dw[r][p]);
            }
        }
    }
}
