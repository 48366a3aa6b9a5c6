//! Tensors of the CPU backend as the kernels take and give them.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};
use cpu_kernels::attention::{Attention, Rows};
use cpu_kernels::loss::{CrossEntropy, Loss};
use cpu_kernels::matrix::{Compute, View};
use cpu_kernels::norm::Norm;

use super::Masking;

/// The values of a tensor without gaps.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("made contiguous before")
}

pub(super) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The gradient's values, to be changed in place.
pub(super) fn owned(grad: FlexTensor) -> Vec<f32> {
    let grad = grad.to_contiguous().into_data();
    grad.try_into_vec().expect("gradients are f32")
}

/// Rows and width of a tensor seen as a matrix of its last dimension.
pub(super) fn matrix_shape(shape: &Shape) -> (usize, usize) {
    let width = shape.as_slice().last().copied().unwrap_or(1);
    (shape.num_elements() / width.max(1), width)
}

pub(super) fn view(tensor: &FlexTensor) -> View<'_> {
    let (rows, width) = matrix_shape(&tensor.shape());
    View::new(values(tensor), rows, width)
}

pub(super) fn norm<'a>(gamma: &'a FlexTensor, beta: &'a FlexTensor, epsilon: f64) -> Norm<'a> {
    Norm {
        gamma: values(gamma),
        beta: values(beta),
        epsilon: epsilon as f32,
    }
}

/// Rows of `[B, T, C]`, which may be a part of wider rows.
pub(super) fn rows(tensor: &FlexTensor) -> Rows<'_> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape().as_slice(), layout.strides());
    Rows {
        data: &tensor.storage::<f32>()[layout.start_offset()..],
        batch: shape[0],
        rows: shape[1],
        batch_stride: strides[0] as usize,
        row_stride: strides[1] as usize,
    }
}

/// A tensor that [`rows`] can read.
pub(super) fn with_rows(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides[2] == 1 && strides.iter().all(|&stride| stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

pub(super) fn attention<'a>(
    [q, k, v]: [&'a FlexTensor; 3],
    heads: usize,
    masking: Masking,
) -> Attention<'a> {
    Attention {
        q: rows(q),
        k: rows(k),
        v: rows(v),
        width: q.shape()[2],
        heads,
        masking,
    }
}

pub(super) fn attend(
    parts: [&FlexTensor; 3],
    heads: usize,
    masking: Masking,
) -> (FlexTensor, Vec<f32>) {
    let shape = parts[0].shape();
    let mut out = vec![0.0; shape.num_elements()];
    let shares = attention(parts, heads, masking).forward(&mut out);
    (tensor(out, shape), shares)
}

/// What a loss is taken of.
#[derive(Clone, Debug)]
pub(super) struct LossOf {
    pub(super) hidden: FlexTensor,
    pub(super) head: FlexTensor,
    targets: Vec<u32>,
    smoothing: f64,
    compute: Compute,
}

impl LossOf {
    pub(super) fn new(
        hidden: FlexTensor,
        head: FlexTensor,
        targets: FlexTensor,
        smoothing: f64,
        compute: Compute,
    ) -> Self {
        let targets = targets.into_data();
        Self {
            hidden: hidden.to_contiguous(),
            head: head.to_contiguous(),
            targets: targets.iter::<i64>().map(|id| id as u32).collect(),
            smoothing,
            compute,
        }
    }

    pub(super) fn compute(&self, grad_hidden: bool, grad_head: bool) -> Loss {
        let of = CrossEntropy {
            hidden: view(&self.hidden),
            head: view(&self.head),
            targets: &self.targets,
            smoothing: self.smoothing as f32,
            compute: self.compute,
        };
        of.compute(grad_hidden, grad_head)
    }

    pub(super) fn mean(loss: &Loss) -> FlexTensor {
        tensor(vec![loss.mean], Shape::new([1]))
    }
}
