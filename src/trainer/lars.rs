//! LARS (You, Gitman and Ginsburg 2017, <https://arxiv.org/abs/1708.03888>): stochastic gradient descent with momentum, each
//! tensor's step as long as its own norm allows. SimCLR trains with it at large batches.

use burn::module::ParamGroup;
use burn::optim::{ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// What keeps a division by a gradient of nothing finite.
const EPS: f64 = 1e-8;

/// LARS's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LarsConfig {
    pub momentum: f64,
    /// L2 penalty, within the step that is scaled. Biases and norms have none, and their steps are not scaled.
    pub weight_decay: f64,
    /// Length of a step as a share of the tensor's norm.
    pub trust: f64,
}

impl LarsConfig {
    /// SimCLR's: momentum 0.9, weight decay 1e-6, trust 1e-3.
    pub fn simclr() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 1e-6,
            trust: 1e-3,
        }
    }

    /// The optimizer, without state.
    pub fn init(&self) -> ModuleOptimizer {
        let lars = |scaled| Lars {
            config: self.clone(),
            scaled,
        };
        let spared = ParamGroup::from_regex(r"(^|\.)(bias|gamma|beta)$|(^|\.)bn\d?\.weight$")
            .expect("a valid pattern");
        ModuleOptimizer::from(lars(true)).with_group(spared, lars(false), None)
    }
}

/// The optimizer of one group of parameters.
#[derive(Clone)]
struct Lars {
    config: LarsConfig,
    /// Whether steps are scaled and weights decay.
    scaled: bool,
}

/// A tensor's velocity.
#[derive(Clone)]
struct LarsState<const D: usize> {
    velocity: Tensor<D>,
}

// By hand, because burn's derive of it works inside burn only.
impl<const D: usize> RecordState for LarsState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "velocity", self.velocity.clone().into_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let data = src.take_tensor(prefix, "velocity")?;
        Some(Self {
            velocity: Tensor::from_data(data, device),
        })
    }
}

impl Lars {
    /// The gradient with weight decay, as long as the tensor's norm allows. A tensor or gradient of nothing stays as it is.
    fn scale<const D: usize>(&self, tensor: &Tensor<D>, grad: Tensor<D>) -> Tensor<D> {
        let decay = self.config.weight_decay;
        let norm = |x: &Tensor<D>| (x.clone() * x.clone()).sum().sqrt(); // [1]
        let (weight, slope) = (norm(tensor), norm(&grad));
        let rate = weight.clone() / (slope.clone() + weight.clone() * decay + EPS);
        let rate = rate * self.config.trust;
        let nothing = (weight * slope).equal_elem(0.0).reshape([1; D]); // [1, ..]
        let shape = grad.shape();
        let scaled = (grad.clone() + tensor.clone() * decay) * rate.reshape([1; D]);
        scaled.mask_where(nothing.expand(shape), grad)
    }
}

impl Optimizer for Lars {
    type State<const D: usize> = LarsState<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let grad = match self.scaled && self.config.weight_decay > 0.0 {
            true => self.scale(&tensor, grad),
            false => grad,
        };
        let velocity = match state {
            Some(state) => state.velocity * self.config.momentum + grad,
            None => grad,
        };
        let stepped = tensor - velocity.clone() * lr;
        (stepped, Some(LarsState { velocity }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        LarsState {
            velocity: state.velocity.to_device(device),
        }
    }
}
