//! CLIP (Radford et al. 2021, <https://arxiv.org/abs/2103.00020>): a picture and a sentence, each to one vector in a
//! shared space. Field names are Hugging Face's (`modeling_clip.py`, transformers 4.57), sizes come from the config.

mod encoder;
pub mod preprocess;
mod resample;
mod text;
mod vision;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

pub use encoder::{Attention, EncoderConfig, EncoderLayer};
pub use preprocess::Preprocessing;
pub use text::{ClipText, ClipTextConfig};
pub use vision::{ClipVision, ClipVisionConfig};

/// Sizes of both towers and of the space they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// The picture's tower.
    pub vision: ClipVisionConfig,
    /// The sentence's tower.
    pub text: ClipTextConfig,
    /// Width of the shared space, `clip_dim` elsewhere.
    pub projection_dim: usize,
}

/// Both towers with their projections and the learned temperature.
#[derive(Module, Debug)]
pub struct Clip {
    pub vision_model: ClipVision,
    pub text_model: ClipText,
    pub visual_projection: Linear,
    pub text_projection: Linear,
    /// Logarithm of the factor on the cosine similarities, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
}

impl ClipConfig {
    /// Fresh weights, initialised as PyTorch's defaults do.
    pub fn init(&self, device: &Device) -> Clip {
        let project = |width| {
            LinearConfig::new(width, self.projection_dim)
                .with_bias(false)
                .init(device)
        };
        Clip {
            vision_model: self.vision.init(device),
            text_model: self.text.init(device),
            visual_projection: project(self.vision.hidden_size),
            text_projection: project(self.text.hidden_size),
            // ln(1 / 0.07), the temperature that CLIP starts from
            logit_scale: Param::from_tensor(Tensor::from_floats([2.659_26], device)),
        }
    }
}

impl Clip {
    /// The projected picture embedding, not normalised.
    ///
    /// # Shapes
    /// - `pixel_values`: `[B, 3, image_size, image_size]`; returns `[B, projection_dim]`
    pub fn encode_image(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        self.visual_projection
            .forward(self.vision_model.forward(pixel_values))
    }

    /// The projected sentence embedding, not normalised.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`; `eos_positions`: `[B]`, the index of each row's end-of-text token; returns `[B, projection_dim]`
    pub fn encode_text(&self, tokens: Tensor<2, Int>, eos_positions: Tensor<1, Int>) -> Tensor<2> {
        self.text_projection
            .forward(self.text_model.forward(tokens, eos_positions))
    }
}
