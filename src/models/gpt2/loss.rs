//! Cross-entropy over caption tokens.
//!
//! Shape letters: `B` batch, `T` tokens, `C` n_embd, `N` tokens of the batch without padding, `V` vocab_size.

use burn::tensor::{Int, Tensor};

use super::Gpt2;
use crate::nn;

/// Mean negative log-likelihood of the tokens that are not padding.
///
/// Padding is told by position and never by a token id: ClipCap pads with id 0 and ignores it in the loss, which drops
/// a real "!" too (`train.py` at 1ad805a). The logits, by far the largest tensor of a step, are
/// computed for the `N` caption positions only.
///
/// # Shapes
/// - `hidden`: `[B, T, C]`, from which each token is predicted
/// - `positions`: `[N]`, indices into the `B * T` positions; `targets`: `[N]`, the token at each; returns `[1]`
pub fn cross_entropy(
    gpt2: &Gpt2,
    hidden: Tensor<3>,
    positions: Tensor<1, Int>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    smoothed_cross_entropy(gpt2, hidden, positions, targets, 0.0)
}

/// [`cross_entropy`] against a target that gives the share `smoothing` to all tokens alike and the rest to the right
/// one, as PyTorch's `label_smoothing` does.
pub fn smoothed_cross_entropy(
    gpt2: &Gpt2,
    hidden: Tensor<3>,
    positions: Tensor<1, Int>,
    targets: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    let [b, t, c] = hidden.dims();
    let hidden = hidden.reshape([b * t, c]).select(0, positions); // [N, C]
    nn::token_loss(hidden, gpt2.head(), targets, smoothing)
}
