//! The formulas in burn's own operations, for any device. On the CPU they are what the kernels are compared with.
//!
//! Shape letters: `B` batch, `T` positions, `S` keys, `H` heads, `D` head size, `C = H * D` width.

use burn::tensor::activation::{gelu, log_softmax, relu, sigmoid, softmax};
use burn::tensor::{Device, FloatDType, Int, Tensor, module};

use super::{Activation, Masking};

/// See [`super::activate`].
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
    // float16 cannot hold sums of squares.
    let own: FloatDType = x.dtype().into();
    let [gamma, beta] = [gamma, beta].map(|values| values.cast(FloatDType::F32));
    let x = x.cast(FloatDType::F32);
    module::layer_norm(x, gamma, Some(beta), epsilon).cast(own)
}

/// See [`super::attention`].
///
/// Not burn's fused attention: it computes in float16 on tensor cores whatever the type, and tries its kernels out again for
/// each length.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    masking: Masking,
) -> Tensor<3> {
    let ([_, queries, _], [_, keys, _]) = (q.dims(), k.dims());
    // A single query is the last position and looks at all keys.
    let bias = (masking == Masking::Causal && queries > 1)
        .then(|| causal_bias(queries, keys, &q.device()));
    attention_with_bias(q, k, v, heads, bias)
}

/// `softmax(q k^T / sqrt(D) + bias) v` in each of `heads`, with `bias` in float32 and of a shape that `[B, H, T, S]` can be
/// added to; softmax is in float32.
pub fn attention_with_bias(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    bias: Option<Tensor<4>>,
) -> Tensor<3> {
    let own: FloatDType = q.dtype().into();
    let [q, k, v] = [q, k, v].map(|x| split_heads(x, heads));
    let [_, _, _, d] = q.dims();
    // The product is smaller so, and stays within float16.
    let q = q * (d as f64).powf(-0.5);
    let scores = q.matmul(k.swap_dims(2, 3)).cast(FloatDType::F32); // [B, H, T, S]
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    let weights = softmax(scores, 3).cast(own); // [B, H, T, S]
    merge_heads(weights.matmul(v)) // [B, T, C]
}

/// Added to the scores of positions that are not looked at: nothing is left of them after softmax.
pub const HIDDEN: f64 = -1e9;

/// [`HIDDEN`] where a key comes after the query, the last of both being the same position; `[1, 1, T, S]`.
pub(crate) fn causal_bias(queries: usize, keys: usize, device: &Device) -> Tensor<4> {
    let (t, s) = (queries as i64, keys as i64);
    let query = Tensor::<1, Int>::arange(s - t..s, device).reshape([1, 1, queries, 1]);
    let key = Tensor::<1, Int>::arange(0..s, device).reshape([1, 1, 1, keys]);
    let after = key
        .expand([1, 1, queries, keys])
        .greater(query.expand([1, 1, queries, keys]));
    after.float().cast(FloatDType::F32) * HIDDEN
}

/// See [`super::token_loss`].
pub fn token_loss(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    let [n] = targets.dims();
    // In float16 the logits would be too coarse to tell words apart.
    let logits = module::linear(hidden, head.transpose(), None).cast(FloatDType::F32); // [N, V]
    let log_probs = log_softmax(logits, 1); // [N, V]
    let right = log_probs.clone().gather(1, targets.reshape([n, 1])).mean(); // [1]
    match smoothing {
        0.0 => right.neg(),
        share => (right * (1.0 - share) + log_probs.mean() * share).neg(),
    }
}

/// `[B, T, C] -> [B, H, T, D]`
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, c] = x.dims();
    x.reshape([b, t, heads, c / heads]).swap_dims(1, 2)
}

/// `[B, H, T, D] -> [B, T, C]`
pub(crate) fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [b, h, t, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, t, h * d])
}
