//! Convolution, pooling and batch normalization of `[N, C, h, w]` as burn operations of the CPU backend, with gradients, by the kernels
//! of [`cpu_kernels`]. burn's own convolution takes its gradients by way of two more convolutions with kernels as large as
//! the image.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Shape;

use super::flex_tensor::{owned, tensor, values};
use cpu_kernels::batch_norm::{BatchNorm, Statistics};
use cpu_kernels::convolution::Convolution;
use cpu_kernels::max_pool::MaxPool;

/// What the kernels do. float32 values are `f32`.
#[backend_extension(Flex, Autodiff)]
pub trait ConvOps: Backend {
    /// `[N, C, h, w] x [O, C, kh, kw] -> [N, O, h', w']`
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FloatTensor<Self>;
    /// `[N, C, h, w] -> [N, C, h', w']`
    fn max_pool(
        x: FloatTensor<Self>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FloatTensor<Self>;
    /// Means and variances of the channels of `[N, C, h, w]`, `[2, C]`. Nothing is differentiated.
    fn channel_statistics(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Normalizes each channel by its `statistics`, `[2, C]`, which have to be those of `x`: gradients go through them.
    /// `gamma` and `beta` `[C]`.
    fn normalize_channels(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

fn convolution(
    x: &FlexTensor,
    weight: &FlexTensor,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Convolution {
    let ([_, c, h, w], [o, _, kh, kw]) = (x.shape().dims(), weight.shape().dims());
    Convolution {
        input: [c, h, w],
        channels: o,
        kernel: [kh, kw],
        stride,
        padding,
    }
}

fn pool(x: &FlexTensor, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> MaxPool {
    let [_, _, h, w] = x.shape().dims();
    MaxPool {
        input: [h, w],
        kernel,
        stride,
        padding,
    }
}

fn statistics(tensor: &FlexTensor) -> Statistics {
    let (mean, variance) = values(tensor).split_at(tensor.shape()[1]);
    Statistics {
        mean: mean.to_vec(),
        variance: variance.to_vec(),
    }
}

/// float32 values of a channel of an image.
fn plane(x: &FlexTensor) -> usize {
    let [_, _, h, w] = x.shape().dims();
    h * w
}

impl ConvOps for Flex {
    fn convolve(
        x: FlexTensor,
        weight: FlexTensor,
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FlexTensor {
        let [x, weight] = [x, weight].map(|part| part.to_contiguous());
        let of = convolution(&x, &weight, stride, padding);
        let ([n, ..], [h, w]) = (x.shape().dims::<4>(), of.output());
        let y = of.forward(values(&x), values(&weight));
        tensor(y, Shape::new([n, of.channels, h, w]))
    }

    fn max_pool(
        x: FlexTensor,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FlexTensor {
        let x = x.to_contiguous();
        let of = pool(&x, kernel, stride, padding);
        let ([n, c, ..], [h, w]) = (x.shape().dims::<4>(), of.output());
        tensor(of.forward(values(&x)), Shape::new([n, c, h, w]))
    }

    fn channel_statistics(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let channels = x.shape()[1];
        let Statistics { mean, variance } = Statistics::of(values(&x), channels, plane(&x));
        tensor([mean, variance].concat(), Shape::new([2, channels]))
    }

    fn normalize_channels(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        of: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let [x, gamma, beta, of] = [x, gamma, beta, of].map(|part| part.to_contiguous());
        let norm = BatchNorm {
            gamma: values(&gamma),
            plane: plane(&x),
            epsilon: epsilon as f32,
            statistics: &statistics(&of),
        };
        tensor(norm.forward(values(&x), values(&beta)), x.shape())
    }
}

/// The backward passes, one state each.
#[derive(Debug)]
struct Convolve;
#[derive(Debug)]
struct Pool;
#[derive(Debug)]
struct NormalizeChannels;

impl<C: CheckpointStrategy> ConvOps for Autodiff<Flex, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FloatTensor<Self> {
        let ((x, a), (weight, b)) = (x.into_parts(), weight.into_parts());
        let [x, weight] = [x, weight].map(|part| part.to_contiguous());
        let y = Flex::convolve(x.clone(), weight.clone(), stride, padding);
        match Convolve.prepare::<C>([a, b]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let of = convolution(&x, &weight, stride, padding);
                prep.finish((x, weight, of), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn max_pool(
        x: FloatTensor<Self>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> FloatTensor<Self> {
        let (x, a) = x.into_parts();
        let x = x.to_contiguous();
        let y = Flex::max_pool(x.clone(), kernel, stride, padding);
        match Pool.prepare::<C>([a]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let of = pool(&x, kernel, stride, padding);
                prep.finish((x, y.clone(), of), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn channel_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(Flex::channel_statistics(x.into_primitive()))
    }

    fn normalize_channels(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let ((x, a), (gamma, b), (beta, c)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let [x, gamma, of] =
            [x, gamma, statistics.into_primitive()].map(|part| part.to_contiguous());
        let y = Flex::normalize_channels(x.clone(), gamma.clone(), beta, of.clone(), epsilon);
        let operation = NormalizeChannels.prepare::<C>([a, b, c]);
        match operation.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, of, epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

impl Backward<Flex, 2> for Convolve {
    type State = (FlexTensor, FlexTensor, Convolution);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, of) = ops.state;
        let asked = ops.parents.each_ref().map(Option::is_some);
        let found = of.backward(values(&x), values(&weight), values(&grad), asked);
        let found = [(found.x, x.shape()), (found.weight, weight.shape())];
        for (parent, (grad, shape)) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, tensor(grad, shape));
            }
        }
    }
}

impl Backward<Flex, 1> for Pool {
    type State = (FlexTensor, FlexTensor, MaxPool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ((x, y, of), [parent]) = (ops.state, ops.parents);
        if let Some(parent) = parent {
            let dx = of.backward(values(&x), values(&y), values(&grad));
            grads.register::<Flex>(parent.id, tensor(dx, x.shape()));
        }
    }
}

impl Backward<Flex, 3> for NormalizeChannels {
    type State = (FlexTensor, FlexTensor, FlexTensor, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut grad = owned(grads.consume::<Flex>(&ops.node));
        let (x, gamma, of, epsilon) = ops.state;
        let norm = BatchNorm {
            gamma: values(&gamma),
            plane: plane(&x),
            epsilon: epsilon as f32,
            statistics: &statistics(&of),
        };
        let sums = norm.backward(values(&x), &mut grad);
        let found = [
            tensor(grad, x.shape()),
            tensor(sums.gamma, gamma.shape()),
            tensor(sums.beta, gamma.shape()),
        ];
        for (parent, grad) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}
