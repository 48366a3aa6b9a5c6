//! Multinomial logistic regression on frozen embeddings, by L-BFGS in double precision: in single precision its line search
//! ends where losses are equal to the last bit, a thousandth away from the best weights.
//!
//! Shape letters: `n` embeddings, `d` their width, `K` classes.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::optim::{GradientsParams, LBFGSConfig, LineSearchFn};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Embedded;

/// Most steps of the optimizer.
const STEPS: usize = 300;
/// Most steps while a penalty is chosen: which is better shows long before the end.
const STEPS_TO_CHOOSE: usize = 40;

/// Strengths to choose from, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// scikit-learn's `C`, the inverse of the penalty.
    pub strengths: Vec<f64>,
    /// Parts of the training embeddings, each held out once.
    pub folds: usize,
}

impl Default for Grid {
    fn default() -> Self {
        Self {
            strengths: vec![1e-3, 1e-2, 1e-1, 1.0, 10.0],
            folds: 3,
        }
    }
}

/// The classifier, with the standardization of what it reads.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// `[1, d]`
    mean: Tensor<2>,
    /// `[1, d]`
    deviation: Tensor<2>,
    pub regression: Regression,
}

/// `x W + b`.
#[derive(Module, Debug)]
pub struct Regression {
    /// `[d, K]`
    pub weight: Param<Tensor<2>>,
    /// `[K]`
    pub bias: Param<Tensor<1>>,
}

impl Classifier {
    /// Standardizes and fits; see [`Regression::fit`].
    pub fn fit(train: &Embedded, classes: usize, strength: f64) -> Self {
        Self::fit_in(STEPS, train, classes, strength)
    }

    fn fit_in(steps: usize, train: &Embedded, classes: usize, strength: f64) -> Self {
        let mean = train.rows.clone().mean_dim(0); // [1, d]
        let centered = train.rows.clone() - mean.clone();
        let variance = (centered.clone() * centered).mean_dim(0);
        // A value that never changes stays nothing.
        let still = variance.clone().lower_elem(1e-12);
        let deviation = variance.sqrt().mask_fill(still, 1.0);
        let rows = (train.rows.clone() - mean.clone()) / deviation.clone();
        Self {
            mean,
            deviation,
            regression: Regression::fit_in(steps, &rows, &train.labels, classes, strength),
        }
    }

    /// The class of each row. `[m, d] -> [m]`
    pub fn predict(&self, rows: Tensor<2>) -> Vec<usize> {
        let rows = (rows - self.mean.clone()) / self.deviation.clone();
        let best = self.regression.logits(rows).argmax(1);
        best.into_data()
            .iter::<i64>()
            .map(|class| class as usize)
            .collect()
    }
}

impl Regression {
    /// Minimizes what scikit-learn's `LogisticRegression` does: the sum of cross-entropies times `strength`, and half the
    /// squared norm of the weights (not of the biases).
    pub fn fit(rows: &Tensor<2>, labels: &[usize], classes: usize, strength: f64) -> Self {
        Self::fit_in(STEPS, rows, labels, classes, strength)
    }

    fn fit_in(
        steps: usize,
        rows: &Tensor<2>,
        labels: &[usize],
        classes: usize,
        strength: f64,
    ) -> Self {
        let [n, d] = rows.dims();
        let device: Device = rows.device().autodiff();
        let rows = rows.clone().cast(FloatDType::F64);
        let rows = Tensor::<2>::from_data(rows.into_data(), (&device, DType::F64));
        let targets: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
        let targets = Tensor::<1, Int>::from_ints(targets.as_slice(), &device).reshape([n, 1]);
        let begin = Self {
            weight: Param::from_tensor(Tensor::zeros([d, classes], (&device, DType::F64))),
            bias: Param::from_tensor(Tensor::zeros([classes], (&device, DType::F64))),
        };
        let penalty = 0.5 / (strength * n as f64);
        let objective = |model: Self| {
            let weight = model.weight.val();
            let log_probs = log_softmax(model.logits(rows.clone()), 1); // [n, K]
            let found = log_probs.gather(1, targets.clone()); // [n, 1]
            let loss = (weight.clone() * weight).sum() * penalty - found.mean(); // [1]
            let value: f64 = loss.clone().into_scalar();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            (value, gradients)
        };
        let mut optimizer = LBFGSConfig::new()
            .with_max_iter(steps)
            .with_history_size(10)
            .with_tolerance_grad(1e-9)
            .with_tolerance_change(1e-14)
            .with_line_search_fn(LineSearchFn::StrongWolfe)
            .init();
        optimizer.step(1.0, begin, objective).0.valid()
    }

    /// In double precision, `[m, d] -> [m, K]`
    pub fn logits(&self, rows: Tensor<2>) -> Tensor<2> {
        let rows = rows.cast(FloatDType::F64);
        rows.matmul(self.weight.val()) + self.bias.val().unsqueeze::<2>()
    }
}

/// The strength with the best accuracy on held-out folds; of equals the smallest.
///
/// # Errors
/// When there are fewer embeddings than folds.
pub fn choose(train: &Embedded, classes: usize, grid: &Grid, seed: u64) -> Result<f64> {
    ensure!(
        !grid.strengths.is_empty() && grid.folds > 1,
        "a penalty is chosen from at least one, on two folds or more"
    );
    let n = train.labels.len();
    ensure!(
        n >= grid.folds,
        "{n} training images are too few for {} folds: give more",
        grid.folds
    );
    let fold_of = folds(&train.labels, grid.folds, seed);
    let mut best = (0, grid.strengths[0]);
    for &strength in &grid.strengths {
        let right: usize = (0..grid.folds)
            .map(|fold| {
                let (held, kept): (Vec<usize>, Vec<usize>) =
                    (0..n).partition(|&index| fold_of[index] == fold);
                let held = train.choose(&held);
                let kept = train.choose(&kept);
                let classifier = Classifier::fit_in(STEPS_TO_CHOOSE, &kept, classes, strength);
                let found = classifier.predict(held.rows);
                found
                    .iter()
                    .zip(&held.labels)
                    .filter(|(a, b)| a == b)
                    .count()
            })
            .sum();
        if right > best.0 {
            best = (right, strength);
        }
    }
    Ok(best.1)
}

/// A fold for each embedding, in which classes have the shares that they have in all.
fn folds(labels: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.sort_by_key(|&index| labels[index]);
    let mut fold_of = vec![0; labels.len()];
    for (place, index) in order.into_iter().enumerate() {
        fold_of[index] = place % folds;
    }
    fold_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_of_every_class() {
        let labels: Vec<usize> = (0..60).map(|i| usize::from(i % 6 == 0)).collect();
        let fold_of = folds(&labels, 5, 3);
        for fold in 0..5 {
            let of = |class| {
                (0..60)
                    .filter(|&i| fold_of[i] == fold && labels[i] == class)
                    .count()
            };
            assert_eq!((of(0), of(1)), (10, 2));
        }
    }

    #[test]
    fn what_a_line_parts_is_told_apart() {
        let device = Device::flex();
        let points: Vec<[f32; 2]> = (0..40)
            .map(|i| [i as f32 * 100.0, (i * 7 % 11) as f32])
            .collect();
        let flat: Vec<f32> = points.concat();
        let train = Embedded {
            rows: Tensor::from_data(burn::tensor::TensorData::new(flat, [40, 2]), &device),
            labels: (0..40).map(|i| usize::from(i >= 20)).collect(),
        };
        let strength = choose(&train, 2, &Grid::default(), 1).unwrap();
        let classifier = Classifier::fit(&train, 2, strength);
        assert_eq!(classifier.predict(train.rows.clone()), train.labels);
    }
}
