//! CLIP's image tower, a vision transformer: `[B, 3, n, n] -> [B, C]`.
//!
//! Shape letters: `B` batch, `G` patches a side, `C` hidden_size.

use crate::models::sizes::{divides, layers, positive, sized};
use anyhow::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, EncoderConfig};
use crate::nn::{Activation, LayerNorm, Masking};

/// Sizes of the image tower, under Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipVisionConfig {
    /// Width, `C`.
    pub hidden_size: usize,
    /// Width of the MLP's middle.
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Side of the image in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

/// Patches, class token and positions in; the class token's final state out.
#[derive(Module, Debug)]
pub struct ClipVision {
    pub embeddings: VisionEmbeddings,
    pub pre_layernorm: LayerNorm,
    pub encoder: Encoder,
    pub post_layernorm: LayerNorm,
}

/// A linear map of each patch, a learned class vector before them, a learned vector a position.
#[derive(Module, Debug)]
pub struct VisionEmbeddings {
    pub class_embedding: Param<Tensor<1>>,
    pub patch_embedding: Conv2d,
    pub position_embedding: Embedding,
}

impl ClipVisionConfig {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check(&self) -> Result<()> {
        sized("clip.vision.hidden_size", self.hidden_size)?;
        sized("clip.vision.intermediate_size", self.intermediate_size)?;
        sized("clip.vision.image_size", self.image_size)?;
        layers("clip.vision.num_hidden_layers", self.num_hidden_layers)?;
        divides(
            "clip.vision.patch_size",
            self.patch_size,
            "image_size",
            self.image_size,
        )?;
        divides(
            "clip.vision.num_attention_heads",
            self.num_attention_heads,
            "hidden_size",
            self.hidden_size,
        )?;
        positive("clip.vision.layer_norm_eps", self.layer_norm_eps)
    }

    /// ViT-B/32, the tower of ClipCap's released COCO weights.
    pub fn vit_b_32() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }

    /// Fresh weights.
    pub fn init(&self, device: &Device) -> ClipVision {
        let c = self.hidden_size;
        let grid = self.image_size / self.patch_size;
        let encoder = self.encoder();
        let patch = [self.patch_size; 2];
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        ClipVision {
            embeddings: VisionEmbeddings {
                class_embedding: small.init([c], device),
                patch_embedding: Conv2dConfig::new([3, c], patch)
                    .with_stride(patch)
                    .with_bias(false)
                    .init(device),
                position_embedding: EmbeddingConfig::new(grid * grid + 1, c)
                    .with_initializer(small)
                    .init(device),
            },
            pre_layernorm: encoder.layer_norm(device),
            encoder: encoder.init(device),
            post_layernorm: encoder.layer_norm(device),
        }
    }

    fn encoder(&self) -> EncoderConfig {
        EncoderConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            masking: Masking::None,
        }
    }
}

impl ClipVision {
    /// # Shapes
    /// - `pixel_values`: `[B, 3, image_size, image_size]`; returns `[B, C]`
    pub fn forward(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        let x = self
            .pre_layernorm
            .forward(self.embeddings.forward(pixel_values)); // [B, 1 + G*G, C]
        let x = self.encoder.forward(x); // [B, 1 + G*G, C]
        let class = x.narrow(1, 0, 1).squeeze_dim::<2>(1); // [B, C]
        self.post_layernorm.forward(class)
    }
}

impl VisionEmbeddings {
    /// `[B, 3, n, n] -> [B, 1 + G*G, C]`
    pub(crate) fn forward(&self, pixel_values: Tensor<4>) -> Tensor<3> {
        let device = pixel_values.device();
        let patches = self.patch_embedding.forward(pixel_values); // [B, C, G, G]
        let patches = patches.flatten::<3>(2, 3).swap_dims(1, 2); // [B, G*G, C]
        let [b, count, c] = patches.dims();
        let class = self
            .class_embedding
            .val()
            .reshape([1, 1, c])
            .expand([b, 1, c]);
        let positions = Tensor::<1, Int>::arange(0..count as i64 + 1, &device).unsqueeze(); // [1, 1 + G*G]
        Tensor::cat(vec![class, patches], 1) + self.position_embedding.forward(positions)
    }
}
