//! What the places of a convolution's output see of its input ("im2col"), and the way back.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::Convolution;
use crate::kernels::simd::{LANES, Simd};

/// Lines that a task sorts at least.
const LINES: usize = 256;

impl Convolution {
    /// Goes through everything that some rows of the output see: `visit` gets its row and first column among the columns of
    /// what is seen, where it stands in the [`sorted`](Self::sorted) input, and how many values stand there.
    #[inline(always)]
    fn see(&self, rows: Range<usize>, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let [channels, height, width] = self.input;
        let [out_height, out_width] = self.output();
        let first = (rows.start / out_height, rows.start % out_height);
        let mut row = 0;
        for channel in 0..channels {
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let span = self.span(j);
                    let from = (span.start * self.stride[1] + j).wrapping_sub(self.padding[1]);
                    let from = self.sorted_column(from);
                    let ((mut picture, mut y), mut column) = (first, span.start);
                    for _ in rows.clone() {
                        let line = (y * self.stride[0] + i).wrapping_sub(self.padding[0]);
                        if line < height && !span.is_empty() {
                            let start = ((picture * channels + channel) * height + line) * width;
                            visit(row, column, start + from, span.len());
                        }
                        column += out_width;
                        y += 1;
                        if y == out_height {
                            (picture, y) = (picture + 1, 0);
                        }
                    }
                    row += 1;
                }
            }
        }
    }

    /// The input with the columns of each line sorted by their rest when divided by the stride, so that what places side by
    /// side see stands side by side.
    pub(super) fn sorted<'a>(&self, x: &'a [f32]) -> Cow<'a, [f32]> {
        let (width, stride) = (self.input[2], self.stride[1]);
        if stride == 1 {
            return Cow::Borrowed(x);
        }
        let mut sorted = vec![0.0; x.len()];
        (sorted.par_chunks_mut(width).zip(x.par_chunks(width)))
            .with_min_len(LINES)
            .for_each(|(sorted, line)| {
                let columns = (0..stride).flat_map(|rest| line.iter().skip(rest).step_by(stride));
                sorted
                    .iter_mut()
                    .zip(columns)
                    .for_each(|(to, from)| *to = *from);
            });
        Cow::Owned(sorted)
    }

    /// Undoes [`Self::sorted`].
    pub(super) fn unsorted(&self, sorted: Vec<f32>) -> Vec<f32> {
        let (width, stride) = (self.input[2], self.stride[1]);
        if stride == 1 {
            return sorted;
        }
        let mut x = vec![0.0; sorted.len()];
        (x.par_chunks_mut(width).zip(sorted.par_chunks(width)))
            .with_min_len(LINES)
            .for_each(|(line, sorted)| {
                let mut sorted = sorted.iter();
                for rest in 0..stride.min(width) {
                    let columns = line[rest..].iter_mut().step_by(stride);
                    columns.zip(&mut sorted).for_each(|(to, from)| *to = *from);
                }
            });
        x
    }

    /// Where a column is in a sorted line.
    fn sorted_column(&self, column: usize) -> usize {
        let (width, stride) = (self.input[2], self.stride[1]);
        let rest = column % stride;
        let before: usize = (0..rest)
            .map(|rest| width.saturating_sub(rest).div_ceil(stride))
            .sum();
        before + column / stride
    }

    /// The columns of the output in which place `j` of the kernel's row is not on the zeros.
    fn span(&self, j: usize) -> Range<usize> {
        let (stride, padding) = (self.stride[1], self.padding[1]);
        let start = padding.saturating_sub(j).div_ceil(stride);
        let end = (self.input[2] + padding)
            .saturating_sub(j)
            .div_ceil(stride)
            .min(self.output()[1]);
        start..end.max(start)
    }

    /// The columns for some rows of the output, in panels, from the sorted input.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(
        &self,
        _: S,
        x: &[f32],
        rows: Range<usize>,
        panels: &mut Vec<f32>,
    ) {
        let (panel, depth) = (S::PANELS * LANES, self.depth());
        let places = rows.len() * self.output()[1];
        panels.clear();
        panels.resize(places.div_ceil(panel) * panel * depth, 0.0);
        self.see(rows, |row, mut column, mut from, mut count| {
            while count > 0 {
                let lane = column % panel;
                let here = count.min(panel - lane);
                let to = (column / panel * depth + row) * panel + lane;
                panels[to..to + here].copy_from_slice(&x[from..from + here]);
                (column, from, count) = (column + here, from + here, count - here);
            }
        });
    }

    /// The same, transposed: a row a place of the output.
    #[inline(always)]
    pub(super) fn gather_rows<S: Simd>(
        &self,
        _: S,
        x: &[f32],
        rows: Range<usize>,
        panels: &mut Vec<f32>,
    ) {
        let (panel, depth) = (S::PANELS * LANES, self.depth());
        let places = rows.len() * self.output()[1];
        panels.clear();
        panels.resize(depth.div_ceil(panel) * panel * places, 0.0);
        self.see(rows, |row, column, from, count| {
            let first = (row / panel * places + column) * panel;
            let to = panels[first..first + count * panel].chunks_exact_mut(panel);
            for (to, from) in to.zip(&x[from..from + count]) {
                to[row % panel] = *from;
            }
        });
    }

    /// Adds columns, row-major, to what they were seen in, sorted.
    #[inline(always)]
    pub(super) fn scatter(&self, columns: &[f32], rows: Range<usize>, x: &mut [f32]) {
        let places = rows.len() * self.output()[1];
        self.see(rows, |row, column, to, count| {
            let from = &columns[row * places + column..][..count];
            for (to, from) in x[to..to + count].iter_mut().zip(from) {
                *to += from;
            }
        });
    }
}
