//! The weight of a convolution as its kernels want it: a row for each value of a window, channels last, and a column for each
//! channel that comes out, in panels.

use rayon::prelude::*;

use crate::simd::{Isa, LANES};

/// Vectors of a row of a panel for so many channels.
pub(super) fn vectors(channels: usize) -> usize {
    match channels {
        0..=LANES => 1,
        _ => Isa::best().panel() / LANES,
    }
}

/// `[panel][tap][channel in][vectors * LANES]`, zeros behind the last channel that comes out.
#[derive(Debug)]
pub(super) struct Weights {
    pub data: Vec<f32>,
    pub vectors: usize,
    /// Of a panel.
    pub rows: usize,
    /// That come out.
    pub channels: usize,
}

/// Which values of `[O, C, kh kw]` are what of [`Weights`].
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// Channels in, and from one to the next in the weight.
    pub input: [usize; 2],
    /// The same of those that come out.
    pub output: [usize; 2],
}

impl Weights {
    /// `taps`: places of the kernel in the order of the window.
    pub fn pack(weight: &[f32], order: Order, taps: &[usize]) -> Self {
        let Order {
            input: [inputs, input_stride],
            output: [channels, output_stride],
        } = order;
        let vectors = vectors(channels);
        let (width, rows) = (vectors * LANES, taps.len() * inputs);
        let mut data = vec![0.0; channels.div_ceil(width) * rows * width];
        data.par_chunks_mut((rows * width).max(1))
            .enumerate()
            .for_each(|(panel, data)| {
                for first in (0..width).step_by(LANES) {
                    let from = panel * width + first;
                    let count = LANES.min(channels.saturating_sub(from));
                    for c in 0..inputs {
                        for (tap, &place) in taps.iter().enumerate() {
                            let to = &mut data[(tap * inputs + c) * width + first..][..count];
                            let from = from * output_stride + c * input_stride + place;
                            let column = weight[from.min(weight.len())..].iter();
                            let column = column.step_by(output_stride);
                            to.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                        }
                    }
                }
            });
        Self {
            data,
            vectors,
            rows,
            channels,
        }
    }
}
