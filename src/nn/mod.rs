//! Functions shared by CLIP, the mapper and GPT-2. Each of the three keeps its own small `Attention` whose fields
//! mirror its checkpoint; the formulas they have in common stand here once. Each is written out in burn's own operations,
//! in [`mod@reference`], which is what GPUs run; on the CPU `cpu` and `conv_ops` do the same with the crate `cpu-kernels`.
//!
//! Shape letters: `B` batch, `T` positions, `H` heads, `D` head size, `C = H * D` width.

mod autocast;
mod cast;
mod conv;
mod conv_ops;
pub(crate) mod cpu;
mod flex_tensor;
pub mod reference;

use burn::backend::Dispatch;
use burn::module::{Initializer, Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, TensorData};

pub use self::autocast::{Compute, autocast};
pub use self::cast::cast;
pub use self::conv::{BatchNormalized, batch_norm, convolve, max_pool};
use self::cpu::CpuOps;

pub use cpu_kernels::{Activation, Masking};

/// Applies an activation elementwise.
pub fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    if cpu::handles(&x) {
        return Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), activation));
    }
    reference::activate(activation, x)
}

/// Rows of equal length as one tensor, `[B, C]`.
pub fn rows_to_tensor(rows: &[&[f32]], device: &Device) -> Tensor<2> {
    let width = rows.first().map_or(0, |row| row.len());
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), width]), device)
}

/// Layer normalization over the last dimension. It is burn's but for who computes it, and has its name, which checkpoint
/// adapters go by.
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub gamma: Param<Tensor<1>>,
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Of vectors of `width`, with gamma = 1 and beta = 0.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([width], device),
            beta: Initializer::Zeros.init([width], device),
            epsilon,
        }
    }

    /// What is added to the variance.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// `[.., C] -> [.., C]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over the last dimension.
fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    if cpu::handles(&x) {
        return Tensor::from_dispatch(Dispatch::normalize(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            epsilon,
        ));
    }
    reference::layer_norm(x, gamma, beta, epsilon)
}

/// `x weight + bias`: `[.., K] x [K, N] + [N] -> [.., N]`
pub fn affine<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    if cpu::handles(&x) {
        let [_, width] = weight.dims();
        let bias = bias.unwrap_or_else(|| Tensor::zeros([width], &weight.device()));
        return Tensor::from_dispatch(Dispatch::affine(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            autocast::current(),
        ));
    }
    burn::tensor::module::linear(x, weight, bias)
}

/// A linear layer.
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    affine(x, layer.weight.val(), bias)
}

/// `softmax(q k^T / sqrt(D)) v` in each of `heads`, with `q` `[B, T, C]`, `k` and `v` `[B, S, C]`; returns `[B, T, C]`.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    masking: Masking,
) -> Tensor<3> {
    if cpu::handles(&q) {
        return Tensor::from_dispatch(Dispatch::attend(
            q.into_dispatch(),
            k.into_dispatch(),
            v.into_dispatch(),
            heads,
            masking,
        ));
    }
    reference::attention(q, k, v, heads, masking)
}

/// Mean cross-entropy of tokens, `[1]`, against a target that gives the share `smoothing` to all tokens alike and the rest
/// to the right one. `hidden` `[N, C]`, `head` `[V, C]`, `targets` `[N]`.
pub fn token_loss(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    if cpu::handles(&hidden) {
        return Tensor::from_dispatch(Dispatch::token_loss(
            hidden.into_dispatch(),
            head.into_dispatch(),
            targets.into_dispatch(),
            smoothing,
            autocast::current(),
        ));
    }
    reference::token_loss(hidden, head, targets, smoothing)
}

/// Divides each row of `[B, C]` by its Euclidean norm.
pub fn normalize(x: Tensor<2>) -> Tensor<2> {
    let norm = (x.clone() * x.clone()).sum_dim(1).sqrt(); // [B, 1]
    x / norm.clamp_min(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
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
            activate(Activation::GeluNew, x()),
            &[-0.003_637_433, -0.154_286, 0.0, 0.530_570_3, 1.954_597_7],
        );
        close(
            activate(Activation::Gelu, x()),
            &[
                -0.004_050_225,
                -0.154_268_77,
                0.0,
                0.530_625_76,
                1.954_499_7,
            ],
        );
        close(
            activate(Activation::QuickGelu, x()),
            &[-0.018_071_31, -0.149_611_56, 0.0, 0.536_894_4, 1.935_661_5],
        );
    }

    #[test]
    fn causal_attention_aligns_the_last_query_with_the_last_key() {
        for attention in [attention, reference::attention] {
            let (q, k, v) = (
                wave([1, 5, 8], 0.9),
                wave([1, 5, 8], 0.7),
                wave([1, 5, 8], 1.3),
            );
            let whole = attention(q.clone(), k.clone(), v.clone(), 2, Masking::Causal);
            let last = attention(q.slice([0..1, 3..5]), k, v, 2, Masking::Causal);
            last.into_data().assert_approx_eq::<f32>(
                &whole.slice([0..1, 3..5]).into_data(),
                Tolerance::rel_abs(1e-5, 1e-6),
            );
        }
    }

    fn wave<const D: usize>(shape: [usize; D], step: f64) -> Tensor<D> {
        let count = shape.iter().product::<usize>() as i64;
        let ramp = Tensor::<1, Int>::arange(0..count, &Device::flex()).float();
        (ramp * step).sin().reshape(shape)
    }

    /// Value and gradients of `f`, weighted so that all of the value matters.
    fn differentiated<const D: usize, const N: usize, const E: usize>(
        inputs: [Tensor<D>; N],
        f: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    ) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let inputs = inputs.map(|x| Tensor::from_data(x.into_data(), &device).require_grad());
        let out = f(inputs.clone());
        let weights = Tensor::from_data(wave(out.dims(), 0.31).into_data(), &device);
        let value = out.clone().into_data().iter::<f32>().collect();
        let grads = (out * weights).sum().backward();
        let grads = inputs.map(|x| x.grad(&grads).unwrap().into_data().iter::<f32>().collect());
        std::iter::once(value).chain(grads).collect()
    }

    fn same(a: Vec<Vec<f32>>, b: Vec<Vec<f32>>) {
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    #[test]
    fn on_the_cpu_activations_are_differentiated_as_burn_does() {
        let all = [
            Activation::QuickGelu,
            Activation::Gelu,
            Activation::GeluNew,
            Activation::Relu,
        ];
        for activation in all {
            let x = || [wave([3, 7, 11], 0.37) * 3.0];
            same(
                differentiated(x(), |[x]| activate(activation, x)),
                differentiated(x(), |[x]| reference::activate(activation, x)),
            );
        }
    }

    #[test]
    fn in_bfloat16_products_and_their_gradients_are_rounded_and_nothing_else() {
        // Not regular: sums of waves cancel, and leave little but what was rounded.
        let noise = |shape: [usize; 2], step: f64| {
            let count = shape.iter().product::<usize>() as i64;
            let ramp = Tensor::<1, Int>::arange(0..count, &Device::flex()).float();
            (ramp.clone() * ramp * step).sin().reshape(shape)
        };
        let parts = || [noise([37, 24], 0.37), noise([24, 24], 0.91)];
        let product = |[x, weight]: [Tensor<2>; 2]| affine(x, weight, None);
        let exact = differentiated(parts(), product);
        let rounded = differentiated(parts(), |parts| {
            autocast(Compute::Bfloat16, || product(parts))
        });
        // The product, and the gradient by each factor.
        for (exact, rounded) in exact.iter().zip(&rounded) {
            assert_ne!(exact, rounded);
            let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
            let error = size(&mut exact.iter().zip(rounded).map(|(a, b)| a - b));
            assert!(error.sqrt() < 6e-3 * size(&mut exact.iter().copied()).sqrt());
        }
        // What comes after is in float32 again.
        assert_eq!(differentiated(parts(), product), exact);
        let x = || [wave([3, 7, 11], 0.37) * 3.0];
        let activated = |[x]: [Tensor<3>; 1]| activate(Activation::Gelu, x);
        let in_bfloat16 = differentiated(x(), |x| autocast(Compute::Bfloat16, || activated(x)));
        assert_eq!(in_bfloat16, differentiated(x(), activated));
    }

    #[test]
    fn on_the_cpu_attention_is_differentiated_as_burn_does() {
        for masking in [Masking::None, Masking::Causal] {
            let parts = || [0.37, 0.91, 1.1].map(|step| wave([2, 9, 12], step));
            same(
                differentiated(parts(), |[q, k, v]| attention(q, k, v, 3, masking)),
                differentiated(parts(), |[q, k, v]| {
                    reference::attention(q, k, v, 3, masking)
                }),
            );
            // Parts of wider rows, as GPT-2 makes them.
            let wide = || [wave([2, 9, 36], 0.37)];
            let third = |x: &Tensor<3>, i: usize| x.clone().narrow(2, 12 * i, 12);
            same(
                differentiated(wide(), |[x]| {
                    attention(third(&x, 0), third(&x, 1), third(&x, 2), 3, masking)
                }),
                differentiated(wide(), |[x]| {
                    reference::attention(third(&x, 0), third(&x, 1), third(&x, 2), 3, masking)
                }),
            );
        }
    }

    #[test]
    fn on_the_cpu_linear_layers_and_norms_are_differentiated_as_burn_does() {
        let parts = || [wave([5, 7], 0.3), wave([7, 7], 0.7), wave([1, 7], 0.9)];
        same(
            differentiated(parts(), |[x, w, b]| {
                affine(x.reshape([1, 5, 7]), w, Some(b.flatten(0, 1)))
            }),
            differentiated(parts(), |[x, w, b]| {
                burn::tensor::module::linear(x.reshape([1, 5, 7]), w, Some(b.flatten(0, 1)))
            }),
        );
        let parts = || [wave([5, 7], 0.3), wave([1, 7], 0.7), wave([1, 7], 0.9)];
        let norm = |f: fn(Tensor<2>, Tensor<1>, Tensor<1>, f64) -> Tensor<2>| {
            move |[x, gamma, beta]: [Tensor<2>; 3]| {
                f(x, gamma.flatten(0, 1), beta.flatten(0, 1), 1e-3)
            }
        };
        same(
            differentiated(parts(), norm(layer_norm)),
            differentiated(parts(), norm(reference::layer_norm)),
        );
    }

    #[test]
    fn on_the_cpu_layers_on_planes_are_differentiated_as_burn_does() {
        for (stride, pad) in [(1, 1), (2, 0), (2, 3)] {
            let (stride, pad) = ([stride; 2], [pad; 2]);
            let inputs = || [wave([5, 3, 9, 8], 0.37), wave([4, 3, 3, 3], 0.71)];
            same(
                differentiated(inputs(), |[x, weight]| {
                    conv::convolution(x, weight, stride, pad)
                }),
                differentiated(inputs(), |[x, weight]| {
                    let options = ConvOptions::new(stride, pad, [1, 1], 1);
                    burn::tensor::module::conv2d(x, weight, None, options)
                }),
            );
        }
        let input = || [wave([5, 3, 9, 8], 0.37)];
        same(
            differentiated(input(), |[x]| max_pool(x, 3, 2, 1)),
            differentiated(input(), |[x]| {
                let options = MaxPoolOptions::new([3; 2]).with_stride([2; 2]);
                burn::tensor::module::max_pool2d(x, options.with_padding([1; 2]))
            }),
        );
        let inputs = || {
            let x = wave::<4>([5, 3, 9, 8], 0.37).reshape([-1]);
            [x, wave([3], 0.71), wave([3], 0.3)]
        };
        same(
            differentiated(inputs(), |[x, gamma, beta]| {
                batch_norm(x.reshape([5, 3, 9, 8]), gamma, beta, 1e-5).output
            }),
            differentiated(inputs(), |[x, gamma, beta]| {
                let x = x.reshape([5, 3, 9, 8]);
                burn::tensor::module::batch_norm_train(x, gamma, beta, 1e-5).output
            }),
        );
    }

    #[test]
    fn on_the_cpu_the_loss_is_differentiated_as_burn_does() {
        for smoothing in [0.0, 0.1] {
            let parts = || [wave([3, 4], 0.3), wave([9, 4], 0.7)];
            let loss = |f: fn(Tensor<2>, Tensor<2>, Tensor<1, Int>, f64) -> Tensor<1>| {
                move |[hidden, head]: [Tensor<2>; 2]| {
                    let targets = Tensor::from_ints([2, 0, 8], &hidden.device());
                    // A head that is no parameter itself gets its gradient too.
                    f(hidden, head * 0.5, targets, smoothing) * 3.0
                }
            };
            same(
                differentiated(parts(), loss(token_loss)),
                differentiated(parts(), loss(reference::token_loss)),
            );
        }
    }

    #[test]
    fn normalized_rows_have_norm_one_and_zero_stays_zero() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
        close(normalize(x).flatten(0, 1), &[0.6, 0.8, 0.0, 0.0]);
    }
}
