//! ResNet-18 (He et al. 2015, <https://arxiv.org/abs/1512.03385>): `[B, 3, n, n] -> [B, 8 * width]`.
//!
//! After torchvision's `resnet.py` (0.29), whose names the fields have. With [`Stem::Cifar`] it begins as SimCLR's for small
//! images does (<https://arxiv.org/abs/2002.05709>, appendix B.9): a 3 x 3 convolution of stride 1 and no pooling.

use burn::module::{Initializer, Module, Param, RunningState};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::batch_norm;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::{self, convolve, max_pool};

/// Blocks of each of the four stages.
const BLOCKS: usize = 2;
/// What keeps a channel without variance from a division by zero.
const BATCH_NORM_EPS: f64 = 1e-5;
/// The share that a batch has in the running statistics.
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// How the network begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 3 x 3, stride 1: the side stays.
    Cifar,
    /// 7 x 7, stride 2, and a pool of stride 2: the side shrinks to a quarter.
    Imagenet,
}

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet18Config {
    /// Channels of the first stage, 64 in the paper; each later stage has twice those of the one before.
    pub width: usize,
    pub stem: Stem,
}

/// Everything before the classifier.
#[derive(Module, Debug)]
pub struct ResNet18 {
    pub conv1: Conv2d,
    pub bn1: BatchNormalization,
    pub layer1: Vec<BasicBlock>,
    pub layer2: Vec<BasicBlock>,
    pub layer3: Vec<BasicBlock>,
    pub layer4: Vec<BasicBlock>,
    /// Whether a pool follows the stem.
    pool: bool,
}

/// `relu(x + branch(x))`, the branch two convolutions of 3 x 3.
#[derive(Module, Debug)]
pub struct BasicBlock {
    pub conv1: Conv2d,
    pub bn1: BatchNormalization,
    pub conv2: Conv2d,
    pub bn2: BatchNormalization,
    /// Where shapes change, what `x` goes through instead.
    pub downsample: Option<Downsample>,
}

/// A strided, widened copy of a block's input.
#[derive(Module, Debug)]
pub struct Downsample {
    pub conv: Conv2d,
    pub bn: BatchNormalization,
}

/// PyTorch's `BatchNorm2d`. burn's own keeps the variance of the batch as it is for later; PyTorch, and this, keep the one
/// estimated for all images, which is `n / (n - 1)` times larger.
#[derive(Module, Debug)]
pub struct BatchNormalization {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    pub running_mean: RunningState<Tensor<1>>,
    pub running_var: RunningState<Tensor<1>>,
}

impl ResNet18Config {
    /// Width of the output.
    pub fn dim(&self) -> usize {
        8 * self.width
    }

    /// Fresh weights, as torchvision draws them.
    pub fn init(&self, device: &Device) -> ResNet18 {
        let w = self.width;
        let mut input = w;
        let mut stage = |index: usize| {
            (0..BLOCKS)
                .map(|i| {
                    let stride = if index > 0 && i == 0 { 2 } else { 1 };
                    let block = BasicBlock::new(input, w << index, stride, device);
                    input = w << index;
                    block
                })
                .collect()
        };
        let [layer1, layer2, layer3, layer4] = [stage(0), stage(1), stage(2), stage(3)];
        let (kernel, stride) = match self.stem {
            Stem::Cifar => (3, 1),
            Stem::Imagenet => (7, 2),
        };
        ResNet18 {
            conv1: conv(3, w, kernel, stride, device),
            bn1: BatchNormalization::new(w, device),
            layer1,
            layer2,
            layer3,
            layer4,
            pool: self.stem == Stem::Imagenet,
        }
    }
}

impl ResNet18 {
    /// # Shapes
    /// - `pixel_values`: `[B, 3, n, n]`; returns `[B, 8 * width]`, the mean over the last stage's places
    pub fn forward(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(convolve(&self.conv1, pixel_values))); // [B, width, n, n], or half the side
        let x = match self.pool {
            true => max_pool(x, 3, 2, 1),
            false => x,
        };
        let x = [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
            .fold(x, |x, block| block.forward(x)); // [B, 8 * width, g, g]
        x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim::<2>(2) // [B, 8 * width]
    }
}

impl BasicBlock {
    fn new(input: usize, output: usize, stride: usize, device: &Device) -> Self {
        let changes = stride > 1 || input != output;
        Self {
            conv1: conv(input, output, 3, stride, device),
            bn1: BatchNormalization::new(output, device),
            conv2: conv(output, output, 3, 1, device),
            bn2: BatchNormalization::new(output, device),
            downsample: changes.then(|| Downsample {
                conv: conv(input, output, 1, stride, device),
                bn: BatchNormalization::new(output, device),
            }),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(convolve(&self.conv1, x.clone())));
        let y = self.bn2.forward(convolve(&self.conv2, y));
        let x = match &self.downsample {
            Some(Downsample { conv, bn }) => bn.forward(convolve(conv, x)),
            None => x,
        };
        relu(x + y)
    }
}

impl BatchNormalization {
    /// Of values as they are: mean 0, variance 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
        }
    }

    /// By the batch's own statistics while training, which is on an autodiff device, else by the running ones.
    /// `[B, C, h, w] -> [B, C, h, w]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if !x.device().is_autodiff() {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return batch_norm(x, weight, bias, mean, var, BATCH_NORM_EPS);
        }
        let [b, _, h, w] = x.dims();
        let values = (b * h * w) as f64;
        let result = nn::batch_norm(x, weight, bias, BATCH_NORM_EPS);
        let variance = result.variance * (values / (values - 1.0).max(1.0));
        follow(&self.running_mean, result.mean);
        follow(&self.running_var, variance);
        result.output
    }
}

fn follow(state: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let kept = state.value_sync() * (1.0 - BATCH_NORM_MOMENTUM);
    state.update((kept + batch * BATCH_NORM_MOMENTUM).detach());
}

/// A convolution without bias that keeps the side, but for its stride.
fn conv(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let padding = kernel / 2;
    Conv2dConfig::new([input, output], [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: true,
        })
        .init(device)
}
