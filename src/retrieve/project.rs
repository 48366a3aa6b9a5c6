//! Memory projection (DeCap, Li et al. 2023, <https://arxiv.org/abs/2303.03032>): an image's embedding becomes one of a
//! sentence, so that a model that learned from sentences alone can read it.

use anyhow::{Result, ensure};
use cpu_kernels::matrix::{Epilogue, View, product};

use super::{Datastore, Kind};
use crate::vector::normalize;

/// What cosines are divided by: `inference_decap.ipynb` multiplies them by 100 (dhg-wei/DeCap).
pub const TEMPERATURE: f32 = 0.01;

/// Queries projected at once.
const TOGETHER: usize = 64;

impl Datastore {
    /// Each embedding's mean of all captions' embeddings, weighed by the softmax of `cosine / temperature`, of length 1:
    /// `normalize(softmax(normalize(x) M^T / temperature) M)`, with the rows of `M` of length 1.
    ///
    /// # Errors
    /// When the entries are no captions, the temperature is not above 0, or an embedding has another width or no direction.
    pub fn project(&self, embeddings: &[Vec<f32>], temperature: f32) -> Result<Vec<Vec<f32>>> {
        self.check_kind(Kind::Captions, "memory projection")?;
        ensure!(
            temperature > 0.0 && temperature.is_finite(),
            "a temperature of {temperature} makes no sense: give a number above 0, such as {TEMPERATURE}"
        );
        let queries = self.checked(embeddings)?;
        let projected = |queries: &[Vec<f32>]| self.project_some(queries, temperature);
        Ok(queries.chunks(TOGETHER).flat_map(projected).collect())
    }

    /// The sums are kept in terms of the highest cosine so far, so that the rows are read once.
    fn project_some(&self, queries: &[Vec<f32>], temperature: f32) -> Vec<Vec<f32>> {
        let (q, width) = (queries.len(), self.encoder().width);
        let mut highest = vec![f32::NEG_INFINITY; q];
        let mut sums = vec![0.0; q * width]; // [q, width]
        self.each_stretch(queries, |start, rows, cosines| {
            let mut weights = cosines.to_vec(); // [rows, q]
            for query in 0..q {
                let column = || cosines[query..].iter().step_by(q);
                let before = highest[query];
                let now = column().copied().fold(before, f32::max);
                highest[query] = now;
                let shrink = ((before - now) / temperature).exp();
                sums[query * width..][..width]
                    .iter_mut()
                    .for_each(|sum| *sum *= shrink);
                for (row, cosine) in column().enumerate() {
                    weights[row * q + query] = ((cosine - now) / temperature).exp();
                }
            }
            let stretch = self.rows().stretch(start, rows, width);
            let weights = View::new(&weights, rows, q).transpose(); // [q, rows]
            let epilogue = Epilogue {
                accumulate: true,
                ..Epilogue::default()
            };
            product(
                weights,
                View::new(stretch, rows, width),
                &mut sums,
                epilogue,
            );
        });
        sums.chunks_exact_mut(width)
            .map(|sum| {
                // The weights' own sum goes with the length.
                normalize(sum);
                sum.to_vec()
            })
            .collect()
    }
}
