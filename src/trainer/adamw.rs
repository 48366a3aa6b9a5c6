//! burn's AdamW, with the CPU's steps in one pass over the memory: burn's own takes one for each of a dozen operations.

use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor};

use super::optimizer::OptimizerConfig;
use crate::nn::cpu;
use cpu_kernels::adamw::AdamWStep;

/// AdamW of one group of parameters. Its state is that of burn's.
#[derive(Clone)]
pub(super) struct FusedAdamW {
    config: OptimizerConfig,
    /// For devices other than the CPU.
    plain: AdamW,
}

impl FusedAdamW {
    pub(super) fn new(config: &OptimizerConfig) -> Self {
        let plain = AdamWConfig::new()
            .with_beta_1(config.beta_1 as f32)
            .with_beta_2(config.beta_2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(config.weight_decay as f32);
        Self {
            config: config.clone(),
            plain: plain.build(),
        }
    }
}

impl Optimizer for FusedAdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        if !(cpu::handles(&tensor) && cpu::handles(&grad)) {
            return self.plain.step(lr, tensor, grad, state);
        }
        let device = tensor.device();
        let AdaptiveMomentumState {
            time,
            moment_1,
            moment_2,
            ..
        } = state.map_or_else(
            || {
                let zeros = || Tensor::zeros(tensor.shape(), &device);
                AdaptiveMomentumState::new(0, zeros(), zeros())
            },
            |state| state.momentum,
        );
        let step = AdamWStep {
            beta_1: self.config.beta_1 as f32,
            beta_2: self.config.beta_2 as f32,
            epsilon: self.config.epsilon as f32,
            learning_rate: lr as f32,
            kept: (1.0 - lr * self.config.weight_decay) as f32,
            time: time as i32 + 1,
        };
        // Memory that no other tensor shares is taken over, not copied.
        let [mut weights, mut first, mut second] =
            [tensor, moment_1, moment_2].map(Tensor::into_data);
        let grad = grad.into_data();
        step.update(
            weights.as_mut_slice().expect("f32, as seen above"),
            grad.as_slice().expect("f32, as seen above"),
            first.as_mut_slice().expect("f32, as the weights"),
            second.as_mut_slice().expect("f32, as the weights"),
        );
        let [weights, first, second] =
            [weights, first, second].map(|data| Tensor::from_data(data, &device));
        let momentum = AdaptiveMomentumState::new(time + 1, first, second);
        (weights, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        AdamW::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_takes_the_steps_of_burns_operations() {
        let device = Device::flex();
        let config = OptimizerConfig {
            weight_decay: 0.1,
            ..OptimizerConfig::transformers_adamw()
        };
        let fused = FusedAdamW::new(&config);
        let wave = |step: f32| -> Tensor<2> {
            let values: Vec<f32> = (0..5 * 7).map(|i| (i as f32 * step).sin()).collect();
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([5, 7])
        };
        let (mut ours, mut burns) = ((wave(0.3), None), (wave(0.3), None));
        for i in 0..6 {
            let (rate, grad) = (0.01 / (1 + i) as f64, wave(0.7 + i as f32));
            ours = fused.step(rate, ours.0, grad.clone(), ours.1);
            burns = fused.plain.step(rate, burns.0, grad, burns.1);
            let values = |tensor: &Tensor<2>| tensor.to_data().try_to_vec::<f32>().unwrap();
            for (a, b) in values(&ours.0).into_iter().zip(values(&burns.0)) {
                assert!(
                    (a - b).abs() < 1e-6 * b.abs().max(1e-2),
                    "step {i}: {a} {b}"
                );
            }
        }
        let [ours, burns] = [ours.1, burns.1].map(|state| state.unwrap().momentum);
        assert_eq!(ours.time, burns.time);
    }
}
