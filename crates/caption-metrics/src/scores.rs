//! What a metric found, in a form that can be summed over any choice of images.

use rayon::prelude::*;

/// One or more scores that come from the same statistics.
///
/// Every metric here is a function of a row of numbers: applied to an image's row it is the image's score, applied to
/// the sum of all rows it is the overall score. For a mean over images the row is the score itself.
#[derive(Clone)]
pub struct Scores {
    names: Vec<&'static str>,
    /// `[images, width]`
    rows: Vec<f64>,
    width: usize,
    /// Sums of rows and the number of rows in, one number a name out.
    finish: fn(&[f64], f64) -> Vec<f64>,
}

impl Scores {
    pub(super) fn new(
        names: &[&'static str],
        width: usize,
        rows: Vec<f64>,
        finish: fn(&[f64], f64) -> Vec<f64>,
    ) -> Self {
        Self {
            names: names.to_vec(),
            rows,
            width,
            finish,
        }
    }

    /// A metric whose overall score is the mean of the images' scores.
    pub fn mean(name: &'static str, per_image: Vec<f64>) -> Self {
        Self::new(&[name], 1, per_image, |sums, images| vec![sums[0] / images])
    }

    /// What the scores are called, as pycocoevalcap calls them.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.rows.len() / self.width
    }

    /// An image's scores, one a name.
    pub fn per_image(&self, image: usize) -> Vec<f64> {
        (self.finish)(&self.rows[image * self.width..][..self.width], 1.0)
    }

    /// The scores of all images together.
    pub fn overall(&self) -> Vec<f64> {
        let [overall] = self.weighted(|_| [1.0]);
        overall
    }

    /// The scores of `N` samples of the images, in each of which an image comes `counts[sample][image]` times.
    ///
    /// Several at once, for the rows are more to read than to add up.
    pub fn resampled<const N: usize>(&self, counts: &[Vec<u32>; N]) -> [Vec<f64>; N] {
        self.weighted(|image| counts.each_ref().map(|counts| f64::from(counts[image])))
    }

    fn weighted<const N: usize>(&self, weights: impl Fn(usize) -> [f64; N]) -> [Vec<f64>; N] {
        let mut sums = vec![[0.0; N]; self.width];
        let mut images = [0.0; N];
        for (image, row) in self.rows.chunks_exact(self.width).enumerate() {
            let weights = weights(image);
            for (images, weight) in images.iter_mut().zip(weights) {
                *images += weight;
            }
            for (sums, value) in sums.iter_mut().zip(row) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += weight * value;
                }
            }
        }
        std::array::from_fn(|sample| {
            let sums: Vec<f64> = sums.iter().map(|sums| sums[sample]).collect();
            (self.finish)(&sums, images[sample])
        })
    }
}

/// Rows of `N` numbers, one an image, made on all cores.
pub(super) fn rows<const N: usize, T: Sync>(
    images: &[T],
    row: impl Fn(&T) -> [f64; N] + Sync + Send,
) -> Vec<f64> {
    rows_with(images, || (), |(), image| row(image))
}

/// The same with something that is kept from image to image.
pub(super) fn rows_with<const N: usize, T: Sync, K>(
    images: &[T],
    kept: impl Fn() -> K + Sync + Send,
    row: impl Fn(&mut K, &T) -> [f64; N] + Sync + Send,
) -> Vec<f64> {
    (images.par_iter().with_min_len(256))
        .map_init(kept, row)
        .collect::<Vec<_>>()
        .into_flattened()
}
