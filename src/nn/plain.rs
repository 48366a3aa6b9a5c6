//! The formulas in burn's own operations, for any device. On the CPU they are what the kernels are compared with.
//!
//! Shape letters: `B` batch, `T` positions, `S` keys, `H` heads, `D` head size, `C = H * D` width.

use burn::tensor::activation::{gelu, log_softmax, relu, sigmoid};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{FloatDType, Int, Tensor, module};

use super::{Activation, Masking};

/// See [`Activation::forward`].
pub fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    match activation {
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
        Activation::Gelu => gelu(x),
        Activation::GeluNew => gelu_new(x),
        Activation::Relu => relu(x),
    }
}

/// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, written as `x sigmoid(2 u)` because `0.5 (1 + tanh u)` is
/// `sigmoid(2 u)`: fewer passes over memory, and no power function.
fn gelu_new<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const LINEAR: f64 = 1.595_769_121_605_731; // 2 sqrt(2/pi)
    const CUBIC: f64 = LINEAR * 0.044_715;
    let square = x.clone() * x.clone();
    let slope = square * CUBIC + LINEAR;
    x.clone() * sigmoid(x * slope)
}

/// See [`super::LayerNorm`].
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    // Halves cannot hold sums of squares.
    let own: FloatDType = x.dtype().into();
    let [gamma, beta] = [gamma, beta].map(|values| values.cast(FloatDType::F32));
    let x = x.cast(FloatDType::F32);
    module::layer_norm(x, gamma, Some(beta), epsilon).cast(own)
}

/// See [`super::attention`].
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    masking: Masking,
) -> Tensor<3> {
    let options = AttentionModuleOptions {
        is_causal: masking == Masking::Causal,
        ..Default::default()
    };
    let [q, k, v] = [q, k, v].map(|x| split_heads(x, heads));
    merge_heads(module::attention(q, k, v, None, None, options))
}

/// See [`super::token_loss`].
pub fn token_loss(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    let [n] = targets.dims();
    // In halves the scores would be too coarse to tell words apart.
    let logits = module::linear(hidden, head.transpose(), None).cast(FloatDType::F32); // [N, V]
    let log_probs = log_softmax(logits, 1); // [N, V]
    let right = log_probs.clone().gather(1, targets.reshape([n, 1])).mean(); // [1]
    match smoothing {
        0.0 => right.neg(),
        share => (right * (1.0 - share) + log_probs.mean() * share).neg(),
    }
}

/// `[B, T, C] -> [B, H, T, D]`
fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, c] = x.dims();
    x.reshape([b, t, heads, c / heads]).swap_dims(1, 2)
}

/// `[B, H, T, D] -> [B, T, C]`
fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [b, h, t, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, t, h * d])
}
