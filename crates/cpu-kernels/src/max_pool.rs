//! The greatest value of each window of planes, `[N, C, h, w] -> [N, C, h', w']`, over all cores. Windows that reach beyond a
//! plane see what is in it.

use rayon::prelude::*;

/// Shapes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Height and width of a plane.
    pub input: [usize; 2],
    /// Height and width, as for the next two.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// How far windows reach beyond a plane, less than a kernel's side.
    pub padding: [usize; 2],
}

impl MaxPool {
    /// Height and width of what comes out.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|i| {
            let reach = self.input[i] + 2 * self.padding[i];
            assert!(self.padding[i] < self.kernel[i] && reach >= self.kernel[i]);
            (reach - self.kernel[i]) / self.stride[i] + 1
        })
    }

    /// The rows, or columns, of a plane that a window sees.
    fn seen(&self, axis: usize, place: usize) -> std::ops::Range<usize> {
        let start = place * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]);
        start.saturating_sub(self.padding[axis])..end.min(self.input[axis])
    }

    /// float32 values of a plane that goes in, and of one that comes out.
    fn sizes(&self) -> [usize; 2] {
        [self.input, self.output()].map(|[height, width]| (height * width).max(1))
    }

    /// `[planes, h, w] -> [planes, h', w']`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let [from, to] = self.sizes();
        let [width, out_width] = [self.input[1], self.output()[1]];
        let mut y = vec![0.0; x.len() / from * to];
        y.par_chunks_exact_mut(to)
            .zip(x.par_chunks_exact(from))
            .for_each_init(Vec::new, |greatest, (y, x)| {
                for (row, y) in y.chunks_exact_mut(out_width).enumerate() {
                    // Of each column in these rows first, which vectors do.
                    greatest.clear();
                    greatest.resize(width, f32::NEG_INFINITY);
                    for line in self.seen(0, row) {
                        let line = &x[line * width..][..width];
                        (greatest.iter_mut().zip(line)).for_each(|(most, x)| *most = most.max(*x));
                    }
                    for (column, y) in y.iter_mut().enumerate() {
                        let seen = &greatest[self.seen(1, column)];
                        *y = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    }
                }
            });
        y
    }

    /// The gradient of the input: that of each window goes to its greatest value, the first one if there are several.
    pub fn backward(&self, x: &[f32], y: &[f32], grad: &[f32]) -> Vec<f32> {
        let [from, to] = self.sizes();
        let [width, out_width] = [self.input[1], self.output()[1]];
        let mut dx = vec![0.0; x.len()];
        dx.par_chunks_exact_mut(from)
            .zip(x.par_chunks_exact(from))
            .zip(y.par_chunks_exact(to).zip(grad.par_chunks_exact(to)))
            .for_each(|((dx, x), (y, grad))| {
                for (place, (y, grad)) in y.iter().zip(grad).enumerate() {
                    let lines = self.seen(0, place / out_width);
                    let columns = self.seen(1, place % out_width);
                    let mut seen = lines.flat_map(|line| {
                        let start = line * width;
                        start + columns.start..start + columns.end
                    });
                    if let Some(first) = seen.find(|&i| x[i] == *y) {
                        dx[first] += grad;
                    }
                }
            });
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [MaxPool; 4] = [
        shape([24, 24], 3, 2, 1),
        shape([5, 7], 2, 2, 0),
        shape([4, 3], 3, 1, 2),
        shape([1, 1], 1, 3, 0),
    ];

    const fn shape(input: [usize; 2], kernel: usize, stride: usize, padding: usize) -> MaxPool {
        MaxPool {
            input,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
        }
    }

    #[test]
    fn pools_and_gradients_equal_plain_loops() {
        for of in SHAPES {
            let ([h, w], [oh, ow]) = (of.input, of.output());
            // Halves of whole numbers, so that some are equal.
            let x: Vec<f32> = (0..6 * h * w)
                .map(|i| (i as f32 * 0.7).sin())
                .map(|x| (x * 4.0).round() / 2.0)
                .collect();
            let grad: Vec<f32> = (0..6 * oh * ow).map(|i| i as f32 + 1.0).collect();
            let (mut y, mut dx) = (Vec::new(), vec![0.0; x.len()]);
            for (place, grad) in grad.iter().enumerate() {
                let (plane, row, column) = (place / (oh * ow), place / ow % oh, place % ow);
                let mut most: Option<usize> = None;
                for (i, j) in
                    (0..of.kernel[0] * of.kernel[1]).map(|k| (k / of.kernel[1], k % of.kernel[1]))
                {
                    let line = (row * of.stride[0] + i).wrapping_sub(of.padding[0]);
                    let column = (column * of.stride[1] + j).wrapping_sub(of.padding[1]);
                    if line < h && column < w {
                        let seen = (plane * h + line) * w + column;
                        if most.is_none_or(|most| x[seen] > x[most]) {
                            most = Some(seen);
                        }
                    }
                }
                let most = most.expect("a window that sees something");
                y.push(x[most]);
                dx[most] += grad;
            }
            assert_eq!(of.forward(&x), y);
            assert_eq!(of.backward(&x, &y, &grad), dx);
        }
    }
}
