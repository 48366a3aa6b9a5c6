//! CLIP's other image tower, a ResNet with attention pooling: `[B, 3, n, n] -> [B, E]`.
//!
//! After `clip/model.py` of OpenAI's CLIP (d05afc4), which differs from torchvision's ResNet in three ways: the stem has
//! three convolutions and an average pool, strides are average pools in front of convolutions, and the last pool is
//! attention. Field names are the checkpoints'.
//!
//! Shape letters: `B` batch, `G` the last stage's side, `C` its width, `T` places, `E` output_dim.

use crate::models::sizes::{divides, layers, sized};
use anyhow::{Result, ensure};
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::{self, Masking, convolve};

/// Sides shrink by this much from image to last stage.
const SHRINK: usize = 32;
/// A bottleneck's output is this many times its middle.
const EXPANSION: usize = 4;
/// What keeps a channel without variance from a division by zero.
const BATCH_NORM_EPS: f64 = 1e-5;

/// Sizes of the tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Bottlenecks a stage.
    pub layers: [usize; 4],
    /// Width of the stem's output.
    pub width: usize,
    /// Side of the image in pixels.
    pub image_size: usize,
    /// Heads of the attention pool.
    pub attention_heads: usize,
}

/// Stem, four stages of bottlenecks, attention pool.
#[derive(Module, Debug)]
pub struct ModifiedResNet {
    pub conv1: Conv2d,
    pub bn1: FrozenBatchNorm,
    pub conv2: Conv2d,
    pub bn2: FrozenBatchNorm,
    pub conv3: Conv2d,
    pub bn3: FrozenBatchNorm,
    pub layer1: Vec<Bottleneck>,
    pub layer2: Vec<Bottleneck>,
    pub layer3: Vec<Bottleneck>,
    pub layer4: Vec<Bottleneck>,
    pub attnpool: AttentionPool,
}

/// `relu(x + branch(x))`, the branch narrow in its middle.
#[derive(Module, Debug)]
pub struct Bottleneck {
    pub conv1: Conv2d,
    pub bn1: FrozenBatchNorm,
    pub conv2: Conv2d,
    pub bn2: FrozenBatchNorm,
    pub conv3: Conv2d,
    pub bn3: FrozenBatchNorm,
    /// Where shapes change, what `x` goes through instead.
    pub downsample: Option<Downsample>,
    stride: usize,
}

/// A pooled, widened copy of a bottleneck's input.
#[derive(Module, Debug)]
pub struct Downsample {
    pub conv: Conv2d,
    pub bn: FrozenBatchNorm,
}

/// Batch normalization with the statistics of training; it is never trained here.
#[derive(Module, Debug)]
pub struct FrozenBatchNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    pub running_mean: Param<Tensor<1>>,
    pub running_var: Param<Tensor<1>>,
}

/// One attention step in which the mean over the image asks, and every place answers.
#[derive(Module, Debug)]
pub struct AttentionPool {
    pub positional_embedding: Param<Tensor<2>>,
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub c_proj: Linear,
    heads: usize,
}

impl ResNetConfig {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check(&self) -> Result<()> {
        sized("clip.vision.width", self.width)?;
        sized("clip.vision.image_size", self.image_size)?;
        ensure!(
            self.width.is_multiple_of(2),
            "clip.vision.width is {}, but must be even: the stem begins with half of it",
            self.width
        );
        for stage in self.layers {
            layers("a stage of clip.vision.layers", stage)?;
        }
        divides(
            "32, by which the tower shrinks an image,",
            32,
            "clip.vision.image_size",
            self.image_size,
        )?;
        divides(
            "clip.vision.attention_heads",
            self.attention_heads,
            "the last stage's width",
            self.embed_dim(),
        )
    }

    /// Width of the last stage, `C`.
    pub fn embed_dim(&self) -> usize {
        self.width * 8 * EXPANSION
    }

    /// Fresh weights.
    pub fn init(&self, output_dim: usize, device: &Device) -> ModifiedResNet {
        let w = self.width;
        let mut input = w;
        let mut stage = |index: usize| {
            let (middle, stride) = (w << index, if index == 0 { 1 } else { 2 });
            (0..self.layers[index])
                .map(|i| {
                    let stride = if i == 0 { stride } else { 1 };
                    let block = Bottleneck::new(input, middle, stride, device);
                    input = middle * EXPANSION;
                    block
                })
                .collect()
        };
        let [layer1, layer2, layer3, layer4] = [stage(0), stage(1), stage(2), stage(3)];
        ModifiedResNet {
            conv1: conv(3, w / 2, 3, 2, device),
            bn1: FrozenBatchNorm::new(w / 2, device),
            conv2: conv(w / 2, w / 2, 3, 1, device),
            bn2: FrozenBatchNorm::new(w / 2, device),
            conv3: conv(w / 2, w, 3, 1, device),
            bn3: FrozenBatchNorm::new(w, device),
            layer1,
            layer2,
            layer3,
            layer4,
            attnpool: self.init_pool(output_dim, device),
        }
    }

    fn init_pool(&self, output_dim: usize, device: &Device) -> AttentionPool {
        let c = self.embed_dim();
        let grid = self.image_size / SHRINK;
        let linear = |output| LinearConfig::new(c, output).init(device);
        AttentionPool {
            positional_embedding: Initializer::Normal {
                mean: 0.0,
                std: 1.0 / (c as f64).sqrt(),
            }
            .init([grid * grid + 1, c], device),
            q_proj: linear(c),
            k_proj: linear(c),
            v_proj: linear(c),
            c_proj: linear(output_dim),
            heads: self.attention_heads,
        }
    }
}

impl Bottleneck {
    fn new(input: usize, middle: usize, stride: usize, device: &Device) -> Self {
        let output = middle * EXPANSION;
        let changes = stride > 1 || input != output;
        Self {
            conv1: conv(input, middle, 1, 1, device),
            bn1: FrozenBatchNorm::new(middle, device),
            conv2: conv(middle, middle, 3, 1, device),
            bn2: FrozenBatchNorm::new(middle, device),
            conv3: conv(middle, output, 1, 1, device),
            bn3: FrozenBatchNorm::new(output, device),
            downsample: changes.then(|| Downsample {
                conv: conv(input, output, 1, 1, device),
                bn: FrozenBatchNorm::new(output, device),
            }),
            stride,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(convolve(&self.conv1, x.clone())));
        let y = relu(self.bn2.forward(convolve(&self.conv2, y)));
        let y = self
            .bn3
            .forward(convolve(&self.conv3, pool(y, self.stride)));
        let x = match &self.downsample {
            Some(Downsample { conv, bn }) => bn.forward(convolve(conv, pool(x, self.stride))),
            None => x,
        };
        relu(x + y)
    }
}

impl ModifiedResNet {
    /// # Shapes
    /// - `pixel_values`: `[B, 3, image_size, image_size]`; returns `[B, E]`
    pub fn forward(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(convolve(&self.conv1, pixel_values))); // [B, width / 2, n / 2, n / 2]
        let x = relu(self.bn2.forward(convolve(&self.conv2, x)));
        let x = relu(self.bn3.forward(convolve(&self.conv3, x)));
        let x = pool(x, 2); // [B, width, n / 4, n / 4]
        let x = [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
            .fold(x, |x, block| block.forward(x)); // [B, C, G, G]
        self.attnpool.forward(x)
    }
}

impl FrozenBatchNorm {
    fn new(channels: usize, device: &Device) -> Self {
        let fill = |initializer: Initializer| initializer.init([channels], device);
        Self {
            weight: fill(Initializer::Ones),
            bias: fill(Initializer::Zeros),
            running_mean: fill(Initializer::Zeros),
            running_var: fill(Initializer::Ones),
        }
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias`, as one product and one sum. `[B, C, G, G] -> [B, C, G, G]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let scale = self.weight.val() / (self.running_var.val() + BATCH_NORM_EPS).sqrt(); // [C]
        let shift = self.bias.val() - self.running_mean.val() * scale.clone(); // [C]
        let [_, c, _, _] = x.dims();
        x * scale.reshape([1, c, 1, 1]) + shift.reshape([1, c, 1, 1])
    }
}

impl AttentionPool {
    /// `[B, C, G, G] -> [B, E]`
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = x.flatten::<3>(2, 3).swap_dims(1, 2); // [B, G*G, C]
        let mean = x.clone().mean_dim(1); // [B, 1, C]
        let positions = self.positional_embedding.val().unsqueeze::<3>(); // [1, 1 + G*G, C]
        let x = Tensor::cat(vec![mean, x], 1) + positions; // [B, 1 + G*G, C]
        let attended = nn::attention(
            self.q_proj.forward(x.clone().narrow(1, 0, 1)),
            self.k_proj.forward(x.clone()),
            self.v_proj.forward(x),
            self.heads,
            Masking::None,
        ); // [B, 1, C]
        let attended = attended.squeeze_dim::<2>(1); // [B, C]
        self.c_proj.forward(attended) // [B, E]
    }
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
        .init(device)
}

/// The mean of each `side` x `side` square.
fn pool(x: Tensor<4>, side: usize) -> Tensor<4> {
    match side {
        1 => x,
        _ => avg_pool2d(x, AvgPoolOptions::new([side; 2])),
    }
}
