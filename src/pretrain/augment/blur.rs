//! torchvision's `gaussian_blur`, on float32 values.

use super::Planes;

/// SimCLR's kernel is a tenth of the side; a kernel has a middle, so it is odd.
pub fn kernel_size(side: usize) -> usize {
    (side / 10) | 1
}

/// Weighs the `kernel` x `kernel` pixels around each one by a bell of deviation `sigma`. Beyond the edges the image is
/// mirrored, the edge itself not doubled; so a kernel reaches less far than the side.
pub fn gaussian_blur(view: &mut Planes, kernel: usize, sigma: f32) {
    let weights = weights(kernel, sigma);
    let side = view.side;
    let mut row = vec![0.0; side];
    for plane in view.values.chunks_exact_mut(side * side) {
        for y in 0..side {
            let line = &mut plane[y * side..][..side];
            blur_line(&weights, &mut row, |i| line[i]);
            line.copy_from_slice(&row);
        }
        for x in 0..side {
            blur_line(&weights, &mut row, |i| plane[i * side + x]);
            row.iter()
                .enumerate()
                .for_each(|(i, &value)| plane[i * side + x] = value);
        }
    }
}

fn weights(kernel: usize, sigma: f32) -> Vec<f32> {
    let half = (kernel - 1) as f32 / 2.0;
    let bell = |i: usize| (-0.5 * ((i as f32 - half) / sigma).powi(2)).exp();
    let sum: f32 = (0..kernel).map(bell).sum();
    (0..kernel).map(|i| bell(i) / sum).collect()
}

fn blur_line(weights: &[f32], out: &mut [f32], at: impl Fn(usize) -> f32) {
    let last = out.len() as isize - 1;
    let reach = (weights.len() / 2) as isize;
    for (i, value) in out.iter_mut().enumerate() {
        let terms = weights.iter().enumerate().map(|(k, weight)| {
            let place = (i as isize + k as isize - reach).abs();
            weight * at((last - (last - place).abs()) as usize)
        });
        *value = terms.sum();
    }
}
