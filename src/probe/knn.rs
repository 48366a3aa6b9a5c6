//! The weighted vote of Wu et al. 2018 (<https://arxiv.org/abs/1805.01978>, section 3.4).

use burn::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Embedded;
use crate::nn::normalize;

/// Test embeddings compared together.
const BATCH: usize = 256;

/// How the vote is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnnConfig {
    /// Embeddings that vote, at most those there are.
    pub neighbors: usize,
    /// A vote weighs `exp(cosine / temperature)`.
    pub temperature: f64,
}

impl Default for KnnConfig {
    /// The paper's.
    fn default() -> Self {
        Self {
            neighbors: 200,
            temperature: 0.07,
        }
    }
}

impl KnnConfig {
    /// In words, for so many training embeddings.
    pub fn describe(&self, train: usize) -> String {
        format!(
            "{} neighbors by cosine, temperature {}",
            self.neighbors.min(train),
            self.temperature
        )
    }
}

/// The class of each row of `test`, `[m, d]`.
pub fn predict(
    train: &Embedded,
    test: &Tensor<2>,
    classes: usize,
    config: &KnnConfig,
) -> Vec<usize> {
    let bank = normalize(train.rows.clone()).transpose(); // [d, n]
    let [count, _] = test.dims();
    let mut predictions = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        let rows = test.clone().narrow(0, first, BATCH.min(count - first));
        let cosines = normalize(rows).matmul(bank.clone()); // [B, n]
        let cosines: Vec<f32> = cosines.into_data().iter::<f32>().collect();
        predictions.par_extend(
            cosines
                .par_chunks(train.labels.len())
                .map(|cosines| vote(cosines, &train.labels, classes, config)),
        );
    }
    predictions
}

/// The class with the heaviest votes.
fn vote(cosines: &[f32], labels: &[usize], classes: usize, config: &KnnConfig) -> usize {
    let k = config.neighbors.clamp(1, cosines.len());
    let mut order: Vec<usize> = (0..cosines.len()).collect();
    order.select_nth_unstable_by(k - 1, |&a, &b| {
        cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b))
    });
    let mut votes = vec![0.0_f64; classes];
    for &neighbor in &order[..k] {
        // Less one, the largest cosine, so that no weight is beyond what a number holds.
        let cosine = f64::from(cosines[neighbor]) - 1.0;
        votes[labels[neighbor]] += (cosine / config.temperature).exp();
    }
    let best = |a: &usize, b: &usize| votes[*a].total_cmp(&votes[*b]).then(b.cmp(a));
    (0..classes).max_by(best).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn nearer_neighbors_outvote_more_distant_ones() {
        let device = Device::flex();
        let train = Embedded {
            rows: Tensor::from_floats([[2.0, 0.1], [0.2, 1.0], [0.3, 1.0], [-1.0, 0.0]], &device),
            labels: vec![0, 1, 1, 2],
        };
        let test = Tensor::from_floats([[5.0, 0.0], [0.0, 3.0]], &device);
        let config = |neighbors, temperature| KnnConfig {
            neighbors,
            temperature,
        };
        assert_eq!(predict(&train, &test, 3, &config(3, 0.07)), [0, 1]);
        assert_eq!(predict(&train, &test, 3, &config(3, 100.0)), [1, 1]);
        assert_eq!(predict(&train, &test, 3, &config(1, 0.07)), [0, 1]);
    }
}
