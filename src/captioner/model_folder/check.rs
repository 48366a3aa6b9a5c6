//! What must hold of a configuration before any network is made of it: each part in itself, and that the parts agree.

use anyhow::{Result, ensure};

use super::{EncoderConfig, ModelConfig};
use crate::models::clip::VisionConfig;
use crate::models::encoder::ImageEncoderConfig;
use crate::models::sizes::sized;

impl ModelConfig {
    /// # Errors
    /// When a size is out of reason, or two do not agree; the message names them.
    pub fn check(&self) -> Result<()> {
        let Self {
            clip,
            encoder,
            gpt2,
            mapper,
        } = self;
        if let Some(clip) = clip {
            clip.check()?;
        }
        if let Some(encoder) = encoder {
            encoder.check()?;
        }
        if let Some(gpt2) = gpt2 {
            gpt2.check()?;
        }
        if let Some(mapper) = mapper {
            mapper.sizes.check_sizes()?;
        }
        let own = encoder.as_ref().map(ImageEncoderConfig::dim);
        let embedding = own.or_else(|| Some(clip.as_ref()?.sizes.projection_dim));
        if let (Some(embedding), Some(gpt2), Some(mapper)) = (embedding, gpt2, mapper) {
            mapper.sizes.check(embedding, gpt2)?;
        }
        Ok(())
    }
}

impl EncoderConfig {
    fn check(&self) -> Result<()> {
        sized("clip.projection_dim", self.sizes.projection_dim)?;
        match &self.sizes.vision {
            VisionConfig::Vit(vit) => vit.check()?,
            VisionConfig::ResNet(resnet) => resnet.check()?,
        }
        if let Some(text) = &self.sizes.text {
            text.check()?;
        }
        let image_size = self.sizes.vision.image_size();
        ensure!(
            self.preprocessing.image_size as usize == image_size,
            "preprocessing.image_size is {}, but clip.vision.image_size is {image_size}: they must be equal",
            self.preprocessing.image_size
        );
        Ok(())
    }
}
