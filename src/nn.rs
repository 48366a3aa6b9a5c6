//! Functions shared by CLIP, the mapper and GPT-2. Each of the three keeps its own small `Attention` whose fields
//! mirror its checkpoint; the formulas they have in common stand here once.
//!
//! Shape letters: `B` batch, `T` positions, `H` heads, `D` head size, `C = H * D` width.

use burn::tensor::activation::sigmoid;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, module};
use serde::{Deserialize, Serialize};

/// Which positions a query may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Every position.
    None,
    /// Itself and those before it. With more keys than queries the last query is aligned with the last key, so one
    /// call serves a whole sequence and a few new positions after a cache alike.
    Causal,
}

/// Activation between the two layers of a transformer's MLP, under the names that Hugging Face configs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x * Phi(x)` with the error function: open_clip's models.
    Gelu,
    /// The tanh form of GELU: GPT-2.
    GeluNew,
    /// `max(x, 0)`: ClipCap's mapper.
    Relu,
}

impl Activation {
    /// Applies the activation elementwise.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::QuickGelu => quick_gelu(x),
            Self::Gelu => burn::tensor::activation::gelu(x),
            Self::GeluNew => gelu_new(x),
            Self::Relu => burn::tensor::activation::relu(x),
        }
    }
}

fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() * sigmoid(x * 1.702)
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

/// `[B, T, C] -> [B, H, T, D]`
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, c] = x.dims();
    x.reshape([b, t, heads, c / heads]).swap_dims(1, 2)
}

/// `[B, H, T, D] -> [B, T, C]`
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [b, h, t, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, t, h * d])
}

/// `softmax(q k^T / sqrt(D)) v`, with `q` `[B, H, T, D]`, `k` and `v` `[B, H, S, D]`; returns `[B, H, T, D]`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, masking: Masking) -> Tensor<4> {
    let options = AttentionModuleOptions {
        is_causal: masking == Masking::Causal,
        ..Default::default()
    };
    module::attention(q, k, v, None, None, options)
}

/// Divides each row of `[B, C]` by its Euclidean norm.
pub fn normalize(x: Tensor<2>) -> Tensor<2> {
    let norm = (x.clone() * x.clone()).sum_dim(1).sqrt(); // [B, 1]
    x / norm.clamp_min(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tolerance};

    fn close(actual: Tensor<1>, expected: &[f32]) {
        let expected = burn::tensor::TensorData::from(expected);
        actual
            .into_data()
            .assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-6));
    }

    // Values of torch.nn.functional.gelu (both forms) and x * sigmoid(1.702 x).
    #[test]
    fn activations_equal_pytorch() {
        let device = Device::flex();
        let x = || Tensor::<1>::from_floats([-3.0, -0.5, 0.0, 0.7, 2.0], &device);
        close(
            Activation::GeluNew.forward(x()),
            &[-0.003_637_433, -0.154_286, 0.0, 0.530_570_3, 1.954_597_7],
        );
        close(
            Activation::Gelu.forward(x()),
            &[
                -0.004_050_225,
                -0.154_268_77,
                0.0,
                0.530_625_76,
                1.954_499_7,
            ],
        );
        close(
            Activation::QuickGelu.forward(x()),
            &[-0.018_071_31, -0.149_611_56, 0.0, 0.536_894_4, 1.935_661_5],
        );
    }

    #[test]
    fn causal_attention_aligns_the_last_query_with_the_last_key() {
        let device = Device::flex();
        let ramp = |t: i64| {
            Tensor::<1, burn::tensor::Int>::arange(0..t * 8, &device)
                .float()
                .sin()
                .reshape([1, 2, t as usize, 4])
        };
        let (q, k, v) = (ramp(5), ramp(5) * 0.7, ramp(5) * 1.3);
        let whole = attention(q.clone(), k.clone(), v.clone(), Masking::Causal);
        let last = attention(q.slice([0..1, 0..2, 3..5]), k, v, Masking::Causal);
        last.into_data().assert_approx_eq::<f32>(
            &whole.slice([0..1, 0..2, 3..5]).into_data(),
            Tolerance::rel_abs(1e-5, 1e-6),
        );
    }

    #[test]
    fn normalized_rows_have_norm_one_and_zero_stays_zero() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
        close(normalize(x).flatten(0, 1), &[0.6, 0.8, 0.0, 0.0]);
    }
}
