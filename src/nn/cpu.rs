//! The kernels of [`cpu_kernels`] as burn operations of the CPU backend, with gradients. burn's own are many passes of
//! one thread each; what the kernels do not cover stays with burn.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::flex_tensor::{
    LossOf, attend, attention, matrix_shape, norm, owned, rows, tensor, values, view, with_rows,
};
use super::{Activation, Masking};
use cpu_kernels::activation;
use cpu_kernels::matrix::{self, Compute, Epilogue};

/// Whether the kernels can take over for a tensor.
pub fn handles<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == burn::tensor::Device::flex()
}

/// What the kernels do. float32 values are `f32`.
#[backend_extension(Flex, Autodiff)]
pub trait CpuOps: Backend {
    /// The activation elementwise.
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// `[.., C] -> [.., C]`, with `gamma` and `beta` `[C]`.
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    /// `[.., K] x [K, N] + [N] -> [.., N]`, the backward pass in what the forward pass computes in
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        compute: Compute,
    ) -> FloatTensor<Self>;
    /// `q` `[B, T, C]`, `k` and `v` `[B, S, C]`; returns `[B, T, C]`.
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
        masking: Masking,
    ) -> FloatTensor<Self>;
    /// `hidden` `[N, C]`, `head` `[V, C]`, `targets` `[N]`; returns the mean cross-entropy, `[1]`.
    fn token_loss(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        smoothing: f64,
        compute: Compute,
    ) -> FloatTensor<Self>;
}

impl CpuOps for Flex {
    fn activate(x: FlexTensor, activation: Activation) -> FlexTensor {
        let x = x.to_contiguous();
        let mut y = vec![0.0; x.shape().num_elements()];
        activation::forward(activation, values(&x), &mut y);
        tensor(y, x.shape())
    }

    fn normalize(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f64) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(|part| part.to_contiguous());
        let mut y = vec![0.0; x.shape().num_elements()];
        norm(&gamma, &beta, epsilon).forward(values(&x), &mut y);
        tensor(y, x.shape())
    }

    fn affine(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, compute: Compute) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|part| part.to_contiguous());
        let mut shape = x.shape();
        let (rows, _) = matrix_shape(&shape);
        let width = weight.shape()[1];
        let mut out = vec![0.0; rows * width];
        let epilogue = Epilogue {
            bias: Some(values(&bias)),
            ..Default::default()
        };
        compute.product(view(&x), view(&weight), &mut out, epilogue);
        let last = shape.num_dims() - 1;
        shape[last] = width;
        tensor(out, shape)
    }

    fn attend(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        heads: usize,
        masking: Masking,
    ) -> FlexTensor {
        let [q, k, v] = [q, k, v].map(with_rows);
        attend([&q, &k, &v], heads, masking).0
    }

    fn token_loss(
        hidden: FlexTensor,
        head: FlexTensor,
        targets: FlexTensor,
        smoothing: f64,
        compute: Compute,
    ) -> FlexTensor {
        let of = LossOf::new(hidden, head, targets, smoothing, compute);
        LossOf::mean(&of.compute(false, false))
    }
}

/// The backward passes, one state each.
#[derive(Debug)]
struct Activate;
#[derive(Debug)]
struct Normalize;
#[derive(Debug)]
struct Affine;
#[derive(Debug)]
struct Attend;
#[derive(Debug)]
struct TokenLoss;

impl<C: CheckpointStrategy> CpuOps for Autodiff<Flex, C> {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Activate.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((x.clone(), activation), Flex::activate(x, activation))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::activate(x, activation)),
        }
    }

    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let ((x, a), (gamma, b), (beta, c)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let [x, gamma, beta] = [x, gamma, beta].map(|part| part.to_contiguous());
        let y = Flex::normalize(x.clone(), gamma.clone(), beta.clone(), epsilon);
        match Normalize.prepare::<C>([a, b, c]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, beta, epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        compute: Compute,
    ) -> FloatTensor<Self> {
        let ((x, a), (weight, b), (bias, c)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        let [x, weight] = [x, weight].map(|part| part.to_contiguous());
        let y = Flex::affine(x.clone(), weight.clone(), bias, compute);
        match Affine.prepare::<C>([a, b, c]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, compute), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
        masking: Masking,
    ) -> FloatTensor<Self> {
        let ((q, a), (k, b), (v, c)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let [q, k, v] = [q, k, v].map(with_rows);
        let (out, shares) = attend([&q, &k, &v], heads, masking);
        match Attend.prepare::<C>([a, b, c]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([q, k, v], shares, heads, masking), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn token_loss(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: FlexTensor,
        smoothing: f64,
        compute: Compute,
    ) -> FloatTensor<Self> {
        // Of a frozen head no gradient is asked for; should one be after all, it is made then.
        let grad_head = Self::float_is_require_grad(&head);
        let ((hidden, a), (head, b)) = (hidden.into_parts(), head.into_parts());
        let of = LossOf::new(hidden, head, targets, smoothing, compute);
        match TokenLoss.prepare::<C>([a, b]).compute_bound().stateful() {
            // The scores are too many to be kept: the gradients are made with them, for an upstream one of 1.
            OpsKind::Tracked(prep) => {
                let loss = of.compute(true, grad_head);
                let out = LossOf::mean(&loss);
                let grad_hidden = loss.grad_hidden.map(|grad| tensor(grad, of.hidden.shape()));
                let grad_head = loss.grad_head.map(|grad| tensor(grad, of.head.shape()));
                prep.finish((of, grad_hidden, grad_head), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(LossOf::mean(&of.compute(false, false))),
        }
    }
}

impl Backward<Flex, 1> for Activate {
    type State = (FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let ([Some(parent)], (x, kind)) = (ops.parents, ops.state) else {
            return;
        };
        let (x, shape) = (x.to_contiguous(), grad.shape());
        let mut grad = owned(grad);
        activation::backward(kind, values(&x), &mut grad);
        grads.register::<Flex>(parent.id, tensor(grad, shape));
    }
}

impl Backward<Flex, 3> for Normalize {
    type State = (FlexTensor, FlexTensor, FlexTensor, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let (x, gamma, beta, epsilon) = ops.state;
        let (shape, mut grad) = (grad.shape(), owned(grad));
        let sums = norm(&gamma, &beta, epsilon).backward(values(&x), &mut grad);
        let found = [
            tensor(grad, shape),
            tensor(sums.gamma, gamma.shape()),
            tensor(sums.beta, beta.shape()),
        ];
        for (parent, grad) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

impl Backward<Flex, 3> for Affine {
    type State = (FlexTensor, FlexTensor, Compute);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, compute) = ops.state;
        let [by_x, by_weight, by_bias] = ops.parents;
        let (dy, none) = (view(&grad), Epilogue::default());
        if let Some(parent) = by_x {
            let mut out = vec![0.0; x.shape().num_elements()];
            compute.product(dy, view(&weight).transpose(), &mut out, none);
            grads.register::<Flex>(parent.id, tensor(out, x.shape()));
        }
        if let Some(parent) = by_weight {
            let mut out = vec![0.0; weight.shape().num_elements()];
            compute.product(view(&x).transpose(), dy, &mut out, none);
            grads.register::<Flex>(parent.id, tensor(out, weight.shape()));
        }
        if let Some(parent) = by_bias {
            let sums = matrix::sum_rows(dy);
            let shape = Shape::new([sums.len()]);
            grads.register::<Flex>(parent.id, tensor(sums, shape));
        }
    }
}

impl Backward<Flex, 3> for Attend {
    type State = ([FlexTensor; 3], Vec<f32>, usize, Masking);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = with_rows(grads.consume::<Flex>(&ops.node));
        let (parts, shares, heads, masking) = ops.state;
        let at = attention(parts.each_ref(), heads, masking);
        let found = at.backward(&shares, rows(&grad));
        for ((parent, grad), part) in ops.parents.into_iter().zip(found).zip(&parts) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, tensor(grad, part.shape()));
            }
        }
    }
}

impl Backward<Flex, 2> for TokenLoss {
    type State = (LossOf, Option<FlexTensor>, Option<FlexTensor>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<Flex>(&ops.node);
        let upstream = values(&upstream.to_contiguous())[0];
        let (of, grad_hidden, mut grad_head) = ops.state;
        let [hidden, head] = ops.parents;
        if head.is_some() && grad_head.is_none() {
            let grad = of.compute(false, true).grad_head;
            grad_head = grad.map(|grad| tensor(grad, of.head.shape()));
        }
        for (parent, grad) in [(hidden, grad_hidden), (head, grad_head)] {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                let grad = Flex::float_mul_scalar(grad, upstream.into());
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}
