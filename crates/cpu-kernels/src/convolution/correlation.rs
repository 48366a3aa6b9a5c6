//! Windows of planes times a weight. Each task lays some lines of an image out with channels last and zeros around, where all
//! that a place sees in a line of its window stands in a row.

use std::ops::Range;

use rayon::prelude::*;

use super::axis::Axis;
use super::weights::Weights;
use crate::matrix::{Out, tiling};
use crate::simd::{Kernel, LANES, Simd, run};

/// float32 values of an image that a task lays out at a time, more or less: a part of a second-level cache.
const LINES: usize = 64 * 1024;

/// Places of an output that see windows of an input, `[N, C, h, w]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correlation {
    pub channels: usize,
    pub down: Axis,
    pub across: Axis,
}

/// Memory of a task, to be used again.
#[derive(Default)]
struct Memory {
    lines: Vec<f32>,
    places: Vec<Place>,
}

/// A place of the output.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Where its window begins in the lines.
    window: usize,
    /// Where it is written in a plane.
    target: usize,
}

impl Correlation {
    fn source_size(&self) -> usize {
        self.channels * self.down.source * self.across.source
    }

    /// Writes the places of every image to `y`, `[N, O, h', w']`.
    pub fn run(&self, x: &[f32], weights: &Weights, y: &mut [f32]) {
        let images = x.len() / self.source_size().max(1);
        let places = self.down.places;
        if images * places * self.across.places * weights.rows == 0 {
            return;
        }
        let out = Out::new(y, self.down.target * self.across.target);
        let bands = self.bands(images);
        let band = places.div_ceil(bands);
        (0..images * bands)
            .into_par_iter()
            .for_each_init(Memory::default, |memory, i| {
                let (image, first) = (i / bands, i % bands * band);
                run(Band {
                    of: *self,
                    x: &x[image * self.source_size()..][..self.source_size()],
                    weights,
                    rows: first.min(places)..places.min(first + band),
                    first_plane: image * weights.channels,
                    out,
                    memory,
                });
            });
    }

    /// Into how many bands of rows an image is split: each fits the cache, and there is work for every thread.
    fn bands(&self, images: usize) -> usize {
        let size = self.down.span(self.down.places) * self.line();
        let tasks = 4 * rayon::current_num_threads();
        size.div_ceil(LINES)
            .max(tasks / images)
            .clamp(1, self.down.places)
    }

    /// float32 values of a line that is laid out.
    pub fn line(&self) -> usize {
        self.across.span(self.across.places) * self.channels
    }

    /// Lays out what some rows of places see of an image, `[C, h, w]`, as lines of zeros so far: `[lines][columns][C]`.
    #[inline(always)]
    pub fn lay_out(&self, x: &[f32], rows: Range<usize>, lines: &mut [f32]) {
        let [height, width] = [self.down.source, self.across.source];
        let inside = self.across.inside();
        let Some(from) = self.across.position(inside.start) else {
            return;
        };
        for (i, line) in lines.chunks_exact_mut(self.line()).enumerate() {
            let Some(row) = self.down.position(rows.start * self.down.step + i) else {
                continue;
            };
            let line = &mut line[inside.start * self.channels..];
            let source = &x[row * width + from..];
            channels_last(
                source,
                [height * width, inside.len()],
                self.channels,
                self.channels,
                line,
            );
        }
    }
}

/// Writes `count` values of each of the channels, which are `stride` apart, to the first columns of `[count][width]`.
#[inline(always)]
pub(super) fn channels_last(
    x: &[f32],
    [stride, count]: [usize; 2],
    channels: usize,
    width: usize,
    out: &mut [f32],
) {
    let mut channel = 0;
    while channel + 4 <= channels {
        let a = &x[channel * stride..][..count];
        let b = &x[(channel + 1) * stride..][..count];
        let c = &x[(channel + 2) * stride..][..count];
        let d = &x[(channel + 3) * stride..][..count];
        for (i, out) in out.chunks_exact_mut(width).take(count).enumerate() {
            out[channel..channel + 4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
        }
        channel += 4;
    }
    for channel in channel..channels {
        let x = &x[channel * stride..][..count];
        for (x, out) in x.iter().zip(out.chunks_exact_mut(width)) {
            out[channel] = *x;
        }
    }
}

/// Some rows of places of an image.
struct Band<'a> {
    of: Correlation,
    /// `[C, h, w]`
    x: &'a [f32],
    weights: &'a Weights,
    rows: Range<usize>,
    /// That of the image's first channel.
    first_plane: usize,
    /// A row a plane.
    out: Out<'a>,
    memory: &'a mut Memory,
}

impl Kernel for Band<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (of, rows) = (self.of, self.rows.clone());
        let Memory { lines, places } = &mut *self.memory;
        lines.clear();
        lines.resize(of.down.span(rows.len()) * of.line(), 0.0);
        of.lay_out(self.x, rows.clone(), lines);
        places.clear();
        for (i, row) in rows.clone().enumerate() {
            let (line, target) = (i * of.down.step * of.line(), of.down.target(row));
            for column in 0..of.across.places {
                places.push(Place {
                    window: line + column * of.across.step * of.channels,
                    target: target * of.across.target + of.across.target(column),
                });
            }
        }
        let (height, _) = tiling(places.len(), S::ROWS);
        macro_rules! heights {
            ($($r:literal)*) => {
                match height {
                    $($r if self.weights.vectors == 2 => self.tiles::<S, $r, 2>(s),
                    $r => self.tiles::<S, $r, 1>(s),)*
                    _ => unreachable!("a tile of {height} places"),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12)
    }
}

impl Band<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const P: usize>(self, s: S) {
        // What is not used on this instruction set is not compiled.
        if R > S::ROWS || P > S::PANELS {
            return;
        }
        let Self { of, weights, .. } = &self;
        let Memory { lines, places } = &*self.memory;
        let run = of.across.window * of.channels;
        let panels = (weights.data.as_chunks::<LANES>().0.as_chunks::<P>().0)
            .chunks_exact(weights.rows)
            .enumerate();
        let mut sums = [[[0.0; LANES]; P]; R];
        for (panel, weights) in panels {
            let first = panel * P * LANES;
            let count = (P * LANES).min(self.weights.channels - first);
            for places in places.chunks(R) {
                let mut windows = [0; R];
                for r in 0..R {
                    windows[r] = places[r.min(places.len() - 1)].window;
                }
                tile(s, lines, windows, [run, of.line()], weights, &mut sums);
                let sums = sums.as_flattened().as_flattened();
                let plane = self.first_plane + first;
                write(sums, P * LANES, places, count, plane, self.out);
            }
        }
    }
}

/// Writes the sums of some places, `[place][width]`, of which the first `count` are channels.
#[inline(always)]
fn write(sums: &[f32], width: usize, places: &[Place], count: usize, plane: usize, out: Out) {
    let (first, last) = (places[0].target, places[places.len() - 1].target);
    if last + 1 == first + places.len() {
        for lane in 0..count {
            // SAFETY: tasks have places of their own.
            let out = unsafe { out.slice(plane + lane, first, places.len()) };
            for (out, sums) in out.iter_mut().zip(sums.chunks_exact(width)) {
                *out = sums[lane];
            }
        }
    } else {
        for (place, sums) in places.iter().zip(sums.chunks_exact(width)) {
            for (lane, &sum) in sums[..count].iter().enumerate() {
                // SAFETY: tasks have places of their own.
                unsafe { out.slice(plane + lane, place.target, 1)[0] = sum };
            }
        }
    }
}

/// The sums of `R` places by `P` vectors of channels. A window is runs of `run` float32 values, each `line` behind the one before.
#[inline(always)]
fn tile<S: Simd, const R: usize, const P: usize>(
    s: S,
    lines: &[f32],
    windows: [usize; R],
    [run, line]: [usize; 2],
    weights: &[[[f32; LANES]; P]],
    out: &mut [[[f32; LANES]; P]; R],
) {
    let mut sums = [[s.splat(0.0); P]; R];
    for (i, weights) in weights.chunks_exact(run).enumerate() {
        let mut seen: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            seen[r] = &lines[windows[r] + i * line..][..run];
        }
        for t in 0..run {
            let mut columns = [s.splat(0.0); P];
            for p in 0..P {
                columns[p] = s.load(&weights[t][p]);
            }
            for r in 0..R {
                let x = s.splat(seen[r][t]);
                for p in 0..P {
                    sums[r][p] = s.mul_add(x, columns[p], sums[r][p]);
                }
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            s.store(sums[r][p], &mut out[r][p]);
        }
    }
}
