//! Attention in the open, and the relevance that runs through it.
//!
//! Shape letters: `B` rows, `H` heads, `T` positions, `D` head size, `C = H * D` width.

use anyhow::{Context, Result};
use burn::tensor::activation::softmax;
use burn::tensor::{Gradients, Tensor};

use crate::nn::{Masking, reference};

/// The attention of a transformer's layers, first to last, kept while it computes.
#[derive(Debug, Default)]
pub(super) struct Trace {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// `[B, H, T, T]`, each row summing to 1.
    probabilities: Tensor<4>,
    /// Zeros added to them: what arrives here of a gradient is the probabilities' own.
    probe: Tensor<4>,
}

impl Trace {
    /// `softmax(q k^T / sqrt(D)) v` in each of `heads`, as [`crate::nn::attention`] has it: three times `[B, T, C]`, and back.
    pub fn attend(
        &mut self,
        [q, k, v]: [Tensor<3>; 3],
        heads: usize,
        masking: Masking,
    ) -> Tensor<3> {
        let [q, k, v] = [q, k, v].map(|x| reference::split_heads(x, heads)); // [B, H, T, D]
        let [_, _, t, d] = q.dims();
        let scores = (q * (d as f64).powf(-0.5)).matmul(k.swap_dims(2, 3)); // [B, H, T, T]
        let scores = match masking {
            Masking::Causal => {
                let bias = reference::causal_bias(t, t, &scores.device());
                scores + bias
            }
            Masking::None => scores,
        };
        let probabilities = softmax(scores, 3);
        let probe = Tensor::zeros(probabilities.dims(), &probabilities.device()).require_grad();
        self.layers.push(Layer {
            probabilities: probabilities.clone().inner(),
            probe: probe.clone(),
        });
        reference::merge_heads((probabilities + probe).matmul(v)) // [B, T, C]
    }

    /// Relevance by Chefer, Gur and Wolf 2021 (<https://arxiv.org/abs/2103.15679>, equations 5 and 6): it begins as `R = I`, and
    /// each layer adds `A R`, where `A` is the mean over heads of `gradient * probabilities` without what is negative.
    ///
    /// Of `R` only weighted sums of rows are computed, from the last layer to the first. `rows`: the weights, `[B, T]`; returns
    /// `rows R`, `[B, T]`.
    ///
    /// # Errors
    /// When the gradients are not of this trace.
    pub fn relevance(&self, rows: Tensor<2>, gradients: &Gradients) -> Result<Tensor<2>> {
        let mut rows = rows.unsqueeze_dim::<3>(1); // [B, 1, T]
        for layer in self.layers.iter().rev() {
            let gradient = (layer.probe.grad(gradients)).context("a layer has no gradient")?;
            let weighted = (gradient * layer.probabilities.clone()).clamp_min(0.0); // [B, H, T, T]
            let attention = weighted.mean_dim(1).squeeze_dim::<3>(1); // [B, T, T]
            rows = rows.clone() + rows.matmul(attention);
        }
        Ok(rows.squeeze_dim(1))
    }
}
