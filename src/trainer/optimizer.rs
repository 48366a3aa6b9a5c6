//! AdamW with weight decay that spares biases and norms, and clipping by the norm of all gradients together.

use anyhow::{Result, bail};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::adamw::FusedAdamW;

/// AdamW's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    pub beta_1: f64,
    pub beta_2: f64,
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; 0 is Adam. Biases and norms have none.
    pub weight_decay: f64,
    /// Largest Euclidean norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Gradient accumulation steps: batches whose mean gradient makes one optimizer step.
    pub accumulation: usize,
}

impl OptimizerConfig {
    /// PyTorch's Adam.
    pub fn adam() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: None,
            accumulation: 1,
        }
    }

    /// The AdamW of transformers 4.10 as ClipCap and CapDec call it: epsilon 1e-6 and no weight decay.
    pub fn transformers_adamw() -> Self {
        Self {
            epsilon: 1e-6,
            ..Self::adam()
        }
    }

    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        if !(share(self.beta_1) && share(self.beta_2)) {
            bail!(
                "the betas are {} and {}: give numbers from 0 to below 1",
                self.beta_1,
                self.beta_2
            );
        }
        if !(self.epsilon > 0.0 && self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            bail!(
                "an epsilon of {} with a weight decay of {} makes no sense: give an epsilon above 0 and a decay of at least 0",
                self.epsilon,
                self.weight_decay
            );
        }
        if let Some(norm) = self.clip_norm
            && (norm.is_nan() || norm <= 0.0)
        {
            bail!("gradients cannot be clipped to a norm of {norm}: give a number above 0");
        }
        Ok(())
    }

    /// The optimizer, without state.
    pub fn init(&self) -> ModuleOptimizer {
        let all = ModuleOptimizer::from(FusedAdamW::new(self));
        if self.weight_decay == 0.0 {
            return all;
        }
        let spared = ParamGroup::from_regex(r"(^|\.)(bias|gamma|beta)$").expect("a valid pattern");
        let without = FusedAdamW::new(&Self {
            weight_decay: 0.0,
            ..self.clone()
        });
        all.with_group(spared, without, None)
    }
}

/// Scales gradients so that the Euclidean norm of all of them together is at most `max_norm`, as PyTorch's
/// `clip_grad_norm_` does.
pub fn clip_by_global_norm<M: Module>(
    module: &M,
    grads: GradientsParams,
    max_norm: f64,
) -> GradientsParams {
    let mut squares = SumOfSquares {
        grads: &grads,
        sum: None,
    };
    module.visit(&mut squares);
    let Some(sum) = squares.sum else {
        return grads;
    };
    // On the device: asking for the number would make the host wait for it.
    let factor = ((sum.sqrt() + 1e-6).recip() * max_norm).clamp_max(1.0); // [1]
    scale(module, grads, factor)
}

/// Multiplies all gradients by a factor, `[1]`.
pub fn scale<M: Module>(module: &M, grads: GradientsParams, factor: Tensor<1>) -> GradientsParams {
    let mut scale = Scale { grads, factor };
    module.visit(&mut scale);
    scale.grads
}

struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let squares = grad.powi_scalar(2).sum(); // [1]
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

struct Scale {
    grads: GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let scaled = grad * self.factor.clone().reshape([1; D]);
            self.grads.register(param.id, scaled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn grads(linear: &Linear) -> GradientsParams {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
        let grads = linear.forward(x).sum().backward();
        GradientsParams::from_grads(grads, linear)
    }

    fn linear() -> Linear {
        LinearConfig::new(2, 1).init(&Device::flex().autodiff())
    }

    fn values(grads: &GradientsParams, linear: &Linear) -> Vec<f32> {
        let weight = grads.get::<2>(linear.weight.id).unwrap().into_data();
        let bias = linear.bias.as_ref().unwrap().id;
        let bias = grads.get::<1>(bias).unwrap().into_data();
        weight.iter::<f32>().chain(bias.iter::<f32>()).collect()
    }

    #[test]
    fn gradients_keep_their_direction_and_get_the_norm_asked_for() {
        let linear = linear();
        let clipped = values(&clip_by_global_norm(&linear, grads(&linear), 1.0), &linear);
        let norm = 26_f32.sqrt();
        for (found, expected) in clipped.iter().zip([3.0, 4.0, 1.0]) {
            assert!((found - expected / norm).abs() < 1e-6, "{clipped:?}");
        }
    }

    #[test]
    fn gradients_below_the_norm_stay_as_they_are() {
        let linear = linear();
        let kept = values(
            &clip_by_global_norm(&linear, grads(&linear), 100.0),
            &linear,
        );
        assert_eq!(kept, [3.0, 4.0, 1.0]);
    }

    #[test]
    fn decay_shrinks_matrices_and_spares_biases() {
        let config = OptimizerConfig {
            weight_decay: 0.5,
            ..OptimizerConfig::adam()
        };
        let before = linear();
        let grads = clip_by_global_norm(&before, grads(&before), 1e-12);
        let step = |weight_decay| {
            let config = OptimizerConfig {
                weight_decay,
                ..config.clone()
            };
            let module = config
                .init()
                .step(0.1, before.clone(), grads_copy(&before, &grads));
            let weight = module
                .weight
                .val()
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>();
            let bias = module
                .bias
                .unwrap()
                .val()
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>();
            (weight, bias)
        };
        let ((decayed, bias), (plain, plain_bias)) = (step(0.5), step(0.0));
        assert_eq!(bias, plain_bias);
        let weight: Vec<f32> = before.weight.val().into_data().iter::<f32>().collect();
        for i in 0..2 {
            assert!((plain[i] - decayed[i] - 0.05 * weight[i]).abs() < 1e-6);
        }
    }

    fn grads_copy(linear: &Linear, grads: &GradientsParams) -> GradientsParams {
        let mut copy = GradientsParams::new();
        let bias = linear.bias.as_ref().unwrap().id;
        copy.register(linear.weight.id, grads.get::<2>(linear.weight.id).unwrap());
        copy.register(bias, grads.get::<1>(bias).unwrap());
        copy
    }
}
