//! What must hold of a configuration before any network is made of it: sizes within reason, that divide where they are
//! divided, and that agree from part to part.

use anyhow::{Result, ensure};

use super::{EncoderConfig, ModelConfig};
use crate::clip::{ClipTextConfig, ClipVisionConfig, ResNetConfig, VisionConfig};
use crate::encoders::{ImageEncoderConfig, NetworkConfig};
use crate::gpt2::Gpt2Config;
use crate::mapper::{MapperConfig, MapperKind};

/// Widest layer, longest sequence, largest vocabulary.
const LARGEST: usize = 1 << 24;
/// Largest side of an image that an encoder looks at.
const LARGEST_SIDE: usize = 4096;
/// Most layers of a network.
const DEEPEST: usize = 1024;

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

impl ImageEncoderConfig {
    fn check(&self) -> Result<()> {
        let side = self.preprocessing.image_size as usize;
        sized("encoder.preprocessing.image_size", side)?;
        ensure!(
            side <= LARGEST_SIDE,
            "encoder.preprocessing.image_size is {side}, but at most {LARGEST_SIDE} makes sense"
        );
        match self.network {
            NetworkConfig::Resnet18(config) => sized("encoder.network.width", config.width),
            NetworkConfig::Autoencoder(config) => {
                sized("encoder.network.width", config.width)?;
                sized("encoder.network.dim", config.dim)?;
                config.validate()?;
                equal("encoder.network.image_size", config.image_size, side)
            }
            NetworkConfig::Pca(config) => {
                sized("encoder.network.dim", config.dim)?;
                equal("encoder.network.input", config.input, 3 * side * side)
            }
            NetworkConfig::Pixels => Ok(()),
        }
    }
}

fn equal(name: &str, value: usize, expected: usize) -> Result<()> {
    ensure!(
        value == expected,
        "{name} is {value}, and {expected} goes with encoder.preprocessing.image_size"
    );
    Ok(())
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

impl ClipVisionConfig {
    fn check(&self) -> Result<()> {
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
}

impl ResNetConfig {
    fn check(&self) -> Result<()> {
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
}

impl ClipTextConfig {
    fn check(&self) -> Result<()> {
        sized("clip.text.vocab_size", self.vocab_size)?;
        sized("clip.text.hidden_size", self.hidden_size)?;
        sized("clip.text.intermediate_size", self.intermediate_size)?;
        sized(
            "clip.text.max_position_embeddings",
            self.max_position_embeddings,
        )?;
        layers("clip.text.num_hidden_layers", self.num_hidden_layers)?;
        divides(
            "clip.text.num_attention_heads",
            self.num_attention_heads,
            "hidden_size",
            self.hidden_size,
        )?;
        positive("clip.text.layer_norm_eps", self.layer_norm_eps)
    }
}

impl Gpt2Config {
    fn check(&self) -> Result<()> {
        sized("gpt2.vocab_size", self.vocab_size)?;
        sized("gpt2.n_positions", self.n_positions)?;
        sized("gpt2.n_embd", self.n_embd)?;
        sized("gpt2.n_inner", self.n_inner.unwrap_or(self.n_embd))?;
        layers("gpt2.n_layer", self.n_layer)?;
        divides("gpt2.n_head", self.n_head, "n_embd", self.n_embd)?;
        positive("gpt2.layer_norm_epsilon", self.layer_norm_epsilon)
    }
}

impl MapperConfig {
    fn check_sizes(&self) -> Result<()> {
        sized("mapper.clip_dim", self.clip_dim)?;
        sized("mapper.n_embd", self.n_embd)?;
        sized("mapper.prefix_length", self.prefix_length)?;
        if let MapperKind::Transformer {
            clip_length,
            layers: count,
            heads,
        } = self.kind
        {
            sized("mapper.clip_length", clip_length)?;
            layers("mapper.layers", count)?;
            divides("the mapper's heads", heads, "n_embd", self.n_embd)?;
        }
        Ok(())
    }

    /// # Errors
    /// When the mapper does not fit the networks on either side of it.
    pub fn check(&self, clip_dim: usize, gpt2: &Gpt2Config) -> Result<()> {
        ensure!(
            self.clip_dim == clip_dim,
            "the mapper reads embeddings of {} values, but this CLIP gives {clip_dim}",
            self.clip_dim
        );
        ensure!(
            self.n_embd == gpt2.n_embd,
            "the mapper writes vectors of {} values, but this GPT-2 reads {}",
            self.n_embd,
            gpt2.n_embd
        );
        ensure!(
            (1..gpt2.n_positions).contains(&self.prefix_length),
            "prefix_length is {}, but must be between 1 and {}, for GPT-2's {} positions",
            self.prefix_length,
            gpt2.n_positions.saturating_sub(1),
            gpt2.n_positions
        );
        self.check_sizes()
    }
}

fn sized(name: &str, value: usize) -> Result<()> {
    ensure!(
        (1..=LARGEST).contains(&value),
        "{name} is {value}, but must be between 1 and {LARGEST}"
    );
    Ok(())
}

fn layers(name: &str, count: usize) -> Result<()> {
    ensure!(
        (1..=DEEPEST).contains(&count),
        "{name} is {count}, but must be between 1 and {DEEPEST}"
    );
    Ok(())
}

fn divides(name: &str, part: usize, whole_name: &str, whole: usize) -> Result<()> {
    ensure!(
        part > 0 && whole.is_multiple_of(part),
        "{name} is {part}, which does not divide {whole_name}, {whole}"
    );
    Ok(())
}

fn positive(name: &str, value: f64) -> Result<()> {
    ensure!(
        value.is_finite() && value > 0.0,
        "{name} is {value}, but must be positive"
    );
    Ok(())
}
