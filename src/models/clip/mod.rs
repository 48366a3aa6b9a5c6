//! CLIP (Radford et al. 2021, <https://arxiv.org/abs/2103.00020>): an image and a sentence, each to one vector in a
//! shared space. Field names are Hugging Face's (`modeling_clip.py`, transformers 4.57), sizes come from the config.

mod encoder;
pub mod preprocess;
mod resample;
mod resnet;
mod text;
mod vision;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use encoder::{Attention, EncoderConfig, EncoderLayer};
pub use preprocess::Preprocessing;
pub use resnet::{ModifiedResNet, ResNetConfig};
pub use text::{ClipText, ClipTextConfig};
pub use vision::{ClipVision, ClipVisionConfig};

/// Sizes of both towers and of the space they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// The image's tower.
    pub vision: VisionConfig,
    /// The sentence's tower; captioning does without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<ClipTextConfig>,
    /// Width of the shared space, `clip_dim` elsewhere.
    pub projection_dim: usize,
}

/// The image's tower: a vision transformer, or a ResNet. In a file the two are told apart by their keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum VisionConfig {
    Vit(ClipVisionConfig),
    ResNet(ResNetConfig),
}

/// Both towers with their projections and the learned temperature. The image tower is either `vision_model` with
/// `visual_projection`, or `visual`, the names under which checkpoints know a vision transformer and a ResNet. The text tower,
/// its projection and the temperature are there together or not at all.
#[derive(Module, Debug)]
pub struct Clip {
    pub vision_model: Option<ClipVision>,
    pub visual_projection: Option<Linear>,
    /// It ends in a projection of its own.
    pub visual: Option<ModifiedResNet>,
    pub text_model: Option<ClipText>,
    pub text_projection: Option<Linear>,
    /// Logarithm of the factor on the cosine similarities, `[1]`.
    pub logit_scale: Option<Param<Tensor<1>>>,
}

impl VisionConfig {
    /// Side of the image in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
        }
    }
}

impl From<ClipVisionConfig> for VisionConfig {
    fn from(vit: ClipVisionConfig) -> Self {
        Self::Vit(vit)
    }
}

impl From<ResNetConfig> for VisionConfig {
    fn from(resnet: ResNetConfig) -> Self {
        Self::ResNet(resnet)
    }
}

// By hand, so that a misspelled key is named: serde's own untagged enums only say that nothing matched.
impl<'de> Deserialize<'de> for VisionConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let parsed = if value.get("layers").is_some() {
            serde_json::from_value(value).map(Self::ResNet)
        } else {
            serde_json::from_value(value).map(Self::Vit)
        };
        parsed.map_err(D::Error::custom)
    }
}

impl ClipConfig {
    /// Fresh weights, initialized as PyTorch's defaults do.
    pub fn init(&self, device: &Device) -> Clip {
        let project = |width| {
            LinearConfig::new(width, self.projection_dim)
                .with_bias(false)
                .init(device)
        };
        let (vision_model, visual_projection, visual) = match &self.vision {
            VisionConfig::Vit(vit) => {
                (Some(vit.init(device)), Some(project(vit.hidden_size)), None)
            }
            VisionConfig::ResNet(resnet) => {
                (None, None, Some(resnet.init(self.projection_dim, device)))
            }
        };
        Clip {
            vision_model,
            visual_projection,
            visual,
            text_model: self.text.as_ref().map(|text| text.init(device)),
            text_projection: self.text.as_ref().map(|text| project(text.hidden_size)),
            // ln(1 / 0.07), the temperature that CLIP starts from
            logit_scale: (self.text.as_ref())
                .map(|_| Param::from_tensor(Tensor::from_floats([2.659_26], device))),
        }
    }
}

impl Clip {
    /// The projected image embedding, not normalized.
    ///
    /// # Shapes
    /// - `pixel_values`: `[B, 3, image_size, image_size]`; returns `[B, projection_dim]`
    pub fn encode_image(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        if let Some(resnet) = &self.visual {
            return resnet.forward(pixel_values);
        }
        let vit = self.vision_model.as_ref();
        let (vit, projection) = vit
            .zip(self.visual_projection.as_ref())
            .expect("a vision transformer where there is no ResNet");
        projection.forward(vit.forward(pixel_values))
    }

    /// The projected text embedding, not normalized.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`; `eos_positions`: `[B]`, the index of each row's end-of-text token; returns `[B, projection_dim]`
    ///
    /// # Panics
    /// Without a text tower, which [`ClipConfig::text`] tells.
    pub fn encode_text(&self, tokens: Tensor<2, Int>, eos_positions: Tensor<1, Int>) -> Tensor<2> {
        let text = self.text_model.as_ref();
        let (text, projection) = text
            .zip(self.text_projection.as_ref())
            .expect("a text tower: what embeds text asks for it first");
        projection.forward(text.forward(tokens, eos_positions))
    }

    /// Logarithm of the factor on the cosine similarities, `[1]`.
    ///
    /// # Panics
    /// Without a text tower, which [`ClipConfig::text`] tells.
    pub fn log_temperature(&self) -> Tensor<1> {
        let scale = self.logit_scale.as_ref();
        scale
            .expect("a text tower: what compares with text asks for it first")
            .val()
    }
}
