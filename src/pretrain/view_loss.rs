//! Losses between two views of each image, as SimCLR compares them (Chen et al. 2020,
//! <https://arxiv.org/abs/2002.05709>, equation 1 and table 2). Each view's counterpart is its positive, all other views of
//! the batch are its negatives.
//!
//! Shape letters: `N` images, `D` width of what the projection head gives.

use burn::tensor::activation::{log_sigmoid, log_softmax, relu};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::normalize;

/// Stands for minus infinity: nothing is left of it after a softmax.
const NEVER: f32 = -1e9;

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ViewLoss {
    /// Cross-entropy of finding the positive among all other views, on cosines divided by the temperature.
    NtXent { temperature: f64 },
    /// `-log s(u v+ / t) - log s(-u v- / t)` with the logistic function `s`, the second term a mean over the negatives.
    NtLogistic { temperature: f64 },
    /// `max(0, u v- - u v+ + margin)`, a mean over the negatives.
    Triplet { margin: f64 },
}

impl ViewLoss {
    /// The temperature, where the loss has one.
    pub fn temperature(self) -> Option<f64> {
        match self {
            Self::NtXent { temperature } | Self::NtLogistic { temperature } => Some(temperature),
            Self::Triplet { .. } => None,
        }
    }

    /// # Errors
    /// When the number makes no sense.
    pub fn validate(self) -> anyhow::Result<()> {
        let (name, value) = match self {
            Self::NtXent { temperature } | Self::NtLogistic { temperature } => {
                ("temperature", temperature)
            }
            Self::Triplet { margin } => ("margin", margin),
        };
        anyhow::ensure!(
            value > 0.0 && value.is_finite(),
            "a {name} of {value} makes no sense: give a number above 0"
        );
        Ok(())
    }

    /// The mean over all views.
    ///
    /// # Shapes
    /// - `first`, `second`: `[N, D]`, not normalized; row `i` of both is of image `i`; returns `[1]`
    ///
    /// # Panics
    /// With fewer than two images, which have no negatives.
    pub fn loss(self, first: Tensor<2>, second: Tensor<2>) -> Tensor<1> {
        let [n, _] = first.dims();
        assert!(n > 1, "a contrastive loss needs two images, and has {n}");
        let views = normalize(Tensor::cat(vec![first, second], 0)); // [2N, D]
        let cosines = views.clone().matmul(views.transpose()); // [2N, 2N]
        let device = cosines.device();
        let positives = cosines.clone().gather(1, counterparts(n, &device)); // [2N, 1]
        match self {
            Self::NtXent { temperature } => {
                let own = Tensor::eye(2 * n, &device) * NEVER; // [2N, 2N]
                let logits = cosines / temperature + own;
                let found = log_softmax(logits, 1).gather(1, counterparts(n, &device)); // [2N, 1]
                found.mean().neg()
            }
            Self::NtLogistic { temperature } => {
                let others = log_sigmoid(cosines.neg() / temperature); // [2N, 2N]
                let pulled = log_sigmoid(positives / temperature); // [2N, 1]
                (pulled.mean() + over_negatives(others)).neg()
            }
            Self::Triplet { margin } => {
                let others = relu(cosines - positives + margin); // [2N, 2N]
                over_negatives(others)
            }
        }
    }
}

/// Where each view's counterpart is, `[2N, 1]`.
fn counterparts(n: usize, device: &Device) -> Tensor<2, Int> {
    let half = |first: usize| Tensor::<1, Int>::arange(first as i64..(first + n) as i64, device);
    Tensor::cat(vec![half(n), half(0)], 0).reshape([2 * n, 1])
}

/// The mean over what is neither a view with itself nor with its counterpart. `[2N, 2N] -> [1]`
fn over_negatives(values: Tensor<2>) -> Tensor<1> {
    let [views, _] = values.dims();
    let n = views / 2;
    let device = values.device();
    let column = Tensor::<1, Int>::arange(0..views as i64, &device).unsqueeze::<2>(); // [1, 2N]
    let positives = column.equal(counterparts(n, &device)).float(); // [2N, 2N]
    let keep = (positives + Tensor::eye(views, &device)).neg() + 1.0;
    (values * keep).sum() / (views * (views - 2)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(loss: ViewLoss, first: [[f32; 2]; 2], second: [[f32; 2]; 2]) -> f32 {
        let device = Device::flex();
        let tensor = |rows| Tensor::from_floats(rows, &device);
        loss.loss(tensor(first), tensor(second)).into_scalar()
    }

    const APART: [[f32; 2]; 2] = [[1.0, 0.0], [-2.0, 0.0]];
    const SWAPPED: [[f32; 2]; 2] = [[-1.0, 0.0], [3.0, 0.0]];

    #[test]
    fn views_that_are_all_alike_cost_the_logarithm_of_the_others() {
        let same = [[1.0, 2.0], [2.0, 4.0]];
        let found = loss(ViewLoss::NtXent { temperature: 0.5 }, same, same);
        assert!((found - 3.0_f32.ln()).abs() < 1e-6, "{found}");
    }

    #[test]
    fn every_loss_is_smaller_when_the_views_of_an_image_agree() {
        for kind in [
            ViewLoss::NtXent { temperature: 0.5 },
            ViewLoss::NtLogistic { temperature: 0.5 },
            ViewLoss::Triplet { margin: 0.8 },
        ] {
            assert!(
                loss(kind, APART, APART) < loss(kind, APART, SWAPPED) - 1.0,
                "{kind:?}"
            );
        }
        assert_eq!(loss(ViewLoss::Triplet { margin: 0.8 }, APART, APART), 0.0);
    }

    #[test]
    #[should_panic(expected = "needs two images")]
    fn one_image_has_no_negatives() {
        let one = Tensor::<2>::zeros([1, 2], &Device::flex());
        ViewLoss::NtXent { temperature: 0.5 }.loss(one.clone(), one);
    }
}
