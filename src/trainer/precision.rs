//! What a training step computes in, and what it keeps for its backward pass.
//!
//! burn has no automatic mixed precision. Here each step casts the weights, and the cast is part of what is
//! differentiated: weights, gradients, the optimizer and its state stay in float32, as does the loss from the scores over
//! the vocabulary on. Norms compute in float32 in any case.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, GradientCheckpointingStrategy, Tensor};

use crate::device::Precision;
use crate::nn;

/// What the loss is multiplied by for the backward pass, and the gradients divided by after it: the smallest numbers of
/// float16 are too large for many gradients.
pub fn gradient_factor(precision: Precision) -> f64 {
    match precision {
        Precision::F16 => 1024.0,
        Precision::F32 | Precision::Bf16 | Precision::Int8 => 1.0,
    }
}

/// A module whose weights are those of `module`, cast.
pub fn in_precision<M: Module>(module: &M, precision: Precision) -> M {
    match precision.dtype() {
        None | Some(FloatDType::F32) => module.clone(),
        Some(half) => nn::cast(module.clone(), half),
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
