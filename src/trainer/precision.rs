//! What a training step computes in, and what it keeps for its backward pass.
//!
//! burn has no automatic mixed precision. On GPUs each step casts the weights, and the cast is part of what is
//! differentiated: weights, gradients, the optimizer and its state stay in float32, as does the loss from the scores over
//! the vocabulary on. Norms compute in float32 in any case. On the CPU
//! bfloat16 is what matrix products are computed in, and nothing is cast.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, GradientCheckpointingStrategy, Tensor};

use crate::device::{Precision, is_cpu};
use crate::nn::{self, Compute};

/// What the loss is multiplied by for the backward pass, and the gradients divided by after it: the smallest numbers of
/// float16 are too large for many gradients.
pub fn gradient_factor(precision: Precision) -> f64 {
    match precision {
        Precision::F16 => 1024.0,
        Precision::F32 | Precision::Bf16 | Precision::Int8 => 1.0,
    }
}

/// What a device computes a training step of a precision in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPrecision {
    /// Type of weights and activations.
    pub dtype: FloatDType,
    /// What products of float32 tensors are computed in.
    pub compute: Compute,
}

impl StepPrecision {
    /// GPUs are given weights and activations of the type. The CPU keeps float32 and rounds to bfloat16 what it multiplies: its
    /// kernels read bfloat16, and the rest has no use for it.
    pub fn new(precision: Precision, device: &Device) -> Self {
        let bf16_products = precision == Precision::Bf16 && is_cpu(&device.clone().inner());
        Self {
            dtype: match precision.dtype() {
                Some(dtype) if !bf16_products => dtype,
                _ => FloatDType::F32,
            },
            compute: match bf16_products {
                true => Compute::Bfloat16,
                false => Compute::Float32,
            },
        }
    }

    /// A module whose weights are those of `module`, cast.
    pub fn cast<M: Module>(self, module: &M) -> M {
        match self.dtype {
            FloatDType::F32 => module.clone(),
            half => nn::cast(module.clone(), half),
        }
    }
}

/// A module on an autodiff device whose operations keep for the backward pass what `strategy` says. All that meet in an
/// operation must agree on it.
pub fn with_checkpointing<M: Module>(module: M, strategy: GradientCheckpointingStrategy) -> M {
    module.map(&mut Strategy(strategy))
}

struct Strategy(GradientCheckpointingStrategy);

impl ModuleMapper for Strategy {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.with_gradient_checkpointing_strategy(self.0))
    }
}
