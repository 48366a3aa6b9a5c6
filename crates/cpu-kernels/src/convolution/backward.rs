//! Gradients of a convolution.

use rayon::prelude::*;

use super::Convolution;
use super::correlation::{Correlation, channels_last};
use super::weights::{Order, Weights, vectors};
use crate::matrix::tiling;
use crate::simd::{Isa, Kernel, LANES, Simd, run};

/// float32 values of images that are laid out together for the gradient of the weight: a part of a last-level cache.
const GROUP: usize = 4 * 1024 * 1024;
/// Places that a task goes through for one tile after another, more or less: their values and gradients are in the first-level
/// cache.
const PLACES: usize = 256;

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

    /// The gradient of the input, whose size in float32 values is `size`.
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
        let mut dw = vec![0.0; of.kernel_tiles() * of.tile()];
        let images = x.len() / self.input_size().max(1);
        let groups = (images * (of.source() + of.grads())).div_ceil(GROUP);
        let group = images.div_ceil(groups.max(1)); // images
        for (x, grad) in (x.chunks((group * self.input_size()).max(1)))
            .zip(grad.chunks((group * self.output_size()).max(1)))
        {
            of.add(x, grad, &mut dw);
        }
        of.unpack(&dw)
    }
}

/// What the gradient of the weight is made by: for each value of a window and each channel that comes out, the sum over
/// all places of the value times the channel's gradient. Tiles are of values in a run and of a panel of channels:
/// `[tile][panel][height][vectors * LANES]`.
struct ByWeight {
    convolution: Convolution,
    correlation: Correlation,
    /// Where the window of each place begins in an image's lines.
    windows: Vec<usize>,
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
        let (height, tiles) = tiling(run, Isa::best().rows());
        let vectors = vectors(convolution.channels);
        let Correlation { down, across, .. } = correlation;
        let windows = (0..down.places).flat_map(|y| {
            let line = y * down.step * correlation.line();
            (0..across.places).map(move |x| line + x * across.step * correlation.channels)
        });
        Self {
            convolution: *convolution,
            correlation,
            windows: windows.collect(),
            height,
            tiles,
            vectors,
            panels: convolution.channels.div_ceil(vectors * LANES),
        }
    }

    /// Tiles of all runs.
    fn kernel_tiles(&self) -> usize {
        self.convolution.kernel[0] * self.tiles
    }

    /// float32 values of a tile, with all panels.
    fn tile(&self) -> usize {
        self.panels * self.height * self.vectors * LANES
    }

    /// float32 values of an image's input, laid out.
    fn source(&self) -> usize {
        let down = self.correlation.down;
        down.span(down.places) * self.correlation.line()
    }

    /// float32 values of the gradients of an image's output, laid out.
    fn grads(&self) -> usize {
        self.windows.len() * self.panels * self.vectors * LANES
    }

    /// Adds what some images give.
    fn add(&self, x: &[f32], grad: &[f32], dw: &mut [f32]) {
        let of = &self.convolution;
        let images = x.len() / of.input_size();
        // The last tile of a run reads on.
        let mut lines = vec![0.0; images * self.source() + self.height];
        let mut grads = vec![0.0; images * self.grads()];
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
        let part = self
            .kernel_tiles()
            .div_ceil(8 * rayon::current_num_threads()); // tiles
        dw.par_chunks_mut((part * self.tile()).max(1))
            .enumerate()
            .for_each(|(i, dw)| {
                run(Part {
                    of: self,
                    lines: &lines,
                    grads: &grads,
                    first: i * part,
                    dw,
                });
            });
    }

    /// The tiles as `[O, C, kh, kw]`.
    fn unpack(&self, dw: &[f32]) -> Vec<f32> {
        let of = &self.convolution;
        let (channels, taps, width) = (of.input[0], of.taps(), self.vectors * LANES);
        let (run, size) = (self.correlation.across.window * channels, channels * taps);
        let mut weight = vec![0.0; of.channels * size];
        (weight.par_chunks_mut((LANES * size).max(1)))
            .enumerate()
            .for_each(|(i, weight)| {
                let (panel, lane) = (i * LANES / width, i * LANES % width);
                for (tile, dw) in dw.chunks_exact(self.tile()).enumerate() {
                    let (line, first) = (tile / self.tiles, tile % self.tiles * self.height);
                    let rows = dw.chunks_exact(width).skip(panel * self.height);
                    for (value, sums) in (first..run.min(first + self.height)).zip(rows) {
                        let tap = line * of.kernel[1] + value / channels;
                        let first = value % channels * taps + tap;
                        let column = weight[first..].iter_mut().step_by(size);
                        column.zip(&sums[lane..]).for_each(|(to, from)| *to = *from);
                    }
                }
            });
        weight
    }
}

/// Lays out an image's input and the gradients of its output.
struct LayOut<'a> {
    of: &'a ByWeight,
    x: &'a [f32],
    grad: &'a [f32],
    /// Zeros, as are the next ones.
    lines: &'a mut [f32],
    /// `[panels][places][vectors * LANES]`
    grads: &'a mut [f32],
}

impl Kernel for LayOut<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { of, grads, .. } = self;
        let places = 0..of.correlation.down.places;
        of.correlation.lay_out(self.x, places, self.lines);
        let (places, width) = (of.windows.len(), of.vectors * LANES);
        let panels = grads.chunks_exact_mut(places * width);
        for (grad, out) in self.grad.chunks(places * width).zip(panels) {
            channels_last(grad, [places; 2], grad.len() / places, width, out);
        }
    }
}

/// Adds to some tiles what all images give.
struct Part<'a> {
    of: &'a ByWeight,
    /// Of all images, one after the other.
    lines: &'a [f32],
    grads: &'a [f32],
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
        let (places, size) = (of.windows.len(), of.grads());
        let block = (PLACES / places).max(1); // images
        let mut packed = Vec::new();
        for (i, grads) in self.grads.chunks(block * size).enumerate() {
            let lines = &self.lines[i * block * of.source()..];
            let images = grads.len() / size;
            for (i, windows) in of.windows.chunks(PLACES).enumerate() {
                let some = i * PLACES..i * PLACES + windows.len();
                let tiles = self.dw.as_chunks_mut::<LANES>().0.as_chunks_mut::<P>().0;
                let tiles = tiles.as_chunks_mut::<R>().0.chunks_exact_mut(of.panels);
                for (tile, dw) in (self.first..).zip(tiles) {
                    let offset = tile / of.tiles * of.correlation.line() + tile % of.tiles * R;
                    let values = Values {
                        lines: &lines[offset..],
                        image: of.source(),
                        windows,
                        next: 0,
                    };
                    let grads = grads.as_chunks::<LANES>().0.as_chunks::<P>().0;
                    let grads = grads.chunks_exact(places).map(|panel| &panel[some.clone()]);
                    if let [dw] = dw {
                        add(s, values, grads, dw);
                        continue;
                    }
                    packed.resize(images * windows.len(), [0.0; R]);
                    for (to, from) in packed.iter_mut().zip(values) {
                        *to = *from;
                    }
                    for (panel, dw) in dw.iter_mut().enumerate() {
                        let grads = grads.clone().skip(panel).step_by(of.panels);
                        add(s, packed.iter(), grads, dw);
                    }
                }
            }
        }
    }
}

/// What a tile takes of each place: `R` values of its window, image by image.
struct Values<'a, const R: usize> {
    /// From the tile's first value on.
    lines: &'a [f32],
    /// float32 values of an image's lines.
    image: usize,
    windows: &'a [usize],
    next: usize,
}

impl<'a, const R: usize> Iterator for Values<'a, R> {
    type Item = &'a [f32; R];

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.windows.len() {
            self.lines = self.lines.get(self.image..)?;
            self.next = 0;
        }
        let window = self.windows[self.next];
        self.next += 1;
        self.lines[window..].first_chunk()
    }
}

/// Adds to a tile the products of the `values` of each place and its gradients, which come by the image.
#[inline(always)]
fn add<'a, S: Simd, const R: usize, const P: usize>(
    s: S,
    mut values: impl Iterator<Item = &'a [f32; R]>,
    grads: impl Iterator<Item = &'a [[[f32; LANES]; P]]>,
    dw: &mut [[[f32; LANES]; P]; R],
) {
    let mut sums = [[s.splat(0.0); P]; R];
    for r in 0..R {
        for p in 0..P {
            sums[r][p] = s.load(&dw[r][p]);
        }
    }
    for grads in grads {
        for (grads, values) in grads.iter().zip(&mut values) {
            let mut columns = [s.splat(0.0); P];
            for p in 0..P {
                columns[p] = s.load(&grads[p]);
            }
            for r in 0..R {
                let value = s.splat(values[r]);
                for p in 0..P {
                    sums[r][p] = s.mul_add(value, columns[p], sums[r][p]);
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
