//! Layers on planes, `[N, C, h, w]`: by [`super::conv_ops`] where those can take over, else burn's.

use burn::backend::Dispatch;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

use super::conv_ops::ConvOps;
use super::cpu;

/// A convolution, `[N, C, h, w] -> [N, O, h', w']`.
pub fn convolve(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let padding = match layer.padding {
        PaddingConfig2d::Valid => Some([0, 0]),
        PaddingConfig2d::Explicit(top, left, bottom, right) => {
            (top == bottom && left == right).then_some([top, left])
        }
        _ => None,
    };
    let simple = layer.groups == 1 && layer.dilation == [1, 1];
    let (true, true, Some(padding)) = (cpu::handles(&x), simple, padding) else {
        return layer.forward(x);
    };
    let y = convolution(x, layer.weight.val(), layer.stride, padding);
    match &layer.bias {
        Some(bias) => y + bias.val().reshape([1, -1, 1, 1]),
        None => y,
    }
}

/// `[N, C, h, w] x [O, C, kh, kw] -> [N, O, h', w']` on the CPU.
pub(super) fn convolution(
    x: Tensor<4>,
    weight: Tensor<4>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::convolve(x, weight, stride, padding))
}

/// The greatest value of each window, `[N, C, h, w] -> [N, C, h', w']`. Windows reach `padding` beyond the planes and see what is
/// in them.
pub fn max_pool(x: Tensor<4>, kernel: usize, stride: usize, padding: usize) -> Tensor<4> {
    let [kernel, stride, padding] = [kernel, stride, padding].map(|side| [side; 2]);
    if cpu::handles(&x) {
        let y = Dispatch::max_pool(x.into_dispatch(), kernel, stride, padding);
        return Tensor::from_dispatch(y);
    }
    let options = MaxPoolOptions::new(kernel)
        .with_stride(stride)
        .with_padding(padding);
    max_pool2d(x, options)
}

/// What a normalization by the batch gives.
pub struct BatchNormalized {
    /// `[N, C, h, w]`
    pub output: Tensor<4>,
    /// `[C]`
    pub mean: Tensor<1>,
    /// `[C]`, that of the values at hand (divided by their number).
    pub variance: Tensor<1>,
}

/// Each channel of `[N, C, h, w]` normalized by its own mean and variance, times `gamma`, plus `beta`, `[C]` each.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> BatchNormalized {
    if !cpu::handles(&x) {
        let result = burn::tensor::module::batch_norm_train(x, gamma, beta, epsilon);
        return BatchNormalized {
            output: result.output,
            mean: result.mean.detach(),
            variance: result.variance.detach(),
        };
    }
    let x = x.into_dispatch();
    let statistics: Tensor<2> = Tensor::from_dispatch(Dispatch::channel_statistics(x.clone())); // [2, C]
    let output = Dispatch::normalize_channels(
        x,
        gamma.into_dispatch(),
        beta.into_dispatch(),
        statistics.clone().into_dispatch(),
        epsilon,
    );
    let [mean, variance] = [0, 1].map(|row| statistics.clone().narrow(0, row, 1).squeeze_dim(0));
    BatchNormalized {
        output: Tensor::from_dispatch(output),
        mean,
        variance,
    }
}
