//! Sizes of the networks that are trained from scratch.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::models::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig};
use crate::models::gpt2::Gpt2Config;
use crate::nn::Activation;

/// Channels of one attention head, where a network is wide enough for four of them.
const HEAD: usize = 32;
/// Fewest positions of a GPT-2.
const LEAST_POSITIONS: usize = 16;
/// Most parameters of a transformer's layers: more than GPT-2 XL has.
const MOST_PARAMETERS: u128 = 2_000_000_000;
/// Fewest attention heads.
const HEADS: usize = 4;

/// A CLIP with a vision transformer. Its text tower is two thirds as wide and three quarters as deep, as in ViT-B/32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipSizes {
    /// Side of the images in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels; it divides the image's.
    pub patch_size: usize,
    /// Channels of the vision transformer.
    pub width: usize,
    /// Layers of the vision transformer.
    pub layers: usize,
    /// Values of an embedding.
    pub embedding: usize,
    /// Longest sentence in tokens, start and end included.
    pub context_length: usize,
}

/// A GPT-2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpt2Sizes {
    /// Channels.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Longest text in tokens, a prefix included.
    pub positions: usize,
}

impl Default for ClipSizes {
    /// The sample model's: the real architecture, small enough to be trained on two cores.
    fn default() -> Self {
        Self {
            image_size: 64,
            patch_size: 8,
            width: 96,
            layers: 4,
            embedding: 128,
            context_length: 32,
        }
    }
}

impl Default for Gpt2Sizes {
    /// The sample model's.
    fn default() -> Self {
        Self {
            width: 64,
            layers: 4,
            positions: 128,
        }
    }
}

impl ClipSizes {
    /// # Errors
    /// When the sizes make no network.
    pub fn config(&self, vocab_size: usize) -> Result<ClipConfig> {
        check(&[
            ("image size", self.image_size),
            ("patch size", self.patch_size),
            ("width", self.width),
            ("number of layers", self.layers),
            ("length of an embedding", self.embedding),
        ])?;
        ensure!(
            self.image_size.is_multiple_of(self.patch_size),
            "images of {} pixels cannot be cut into patches of {}: give a patch size that divides the image size",
            self.image_size,
            self.patch_size
        );
        ensure!(
            self.context_length >= 3,
            "a longest sentence of {} tokens leaves no room for a word between its start and end: give at least 3",
            self.context_length
        );
        check_total(self.width, self.layers)?;
        let text = (self.width * 2 / 3).next_multiple_of(HEAD);
        Ok(ClipConfig {
            vision: ClipVisionConfig {
                hidden_size: self.width,
                intermediate_size: 4 * self.width,
                num_hidden_layers: self.layers,
                num_attention_heads: heads(self.width)?,
                image_size: self.image_size,
                patch_size: self.patch_size,
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: 1e-5,
            }
            .into(),
            text: Some(ClipTextConfig {
                vocab_size,
                hidden_size: text,
                intermediate_size: 4 * text,
                num_hidden_layers: (self.layers * 3).div_ceil(4),
                num_attention_heads: heads(text)?,
                max_position_embeddings: self.context_length,
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: 1e-5,
            }),
            projection_dim: self.embedding,
        })
    }
}

impl Gpt2Sizes {
    /// # Errors
    /// When the sizes make no network.
    pub fn config(&self, vocab_size: usize) -> Result<Gpt2Config> {
        check(&[
            ("width", self.width),
            ("number of layers", self.layers),
            ("number of positions", self.positions),
        ])?;
        ensure!(
            self.positions >= LEAST_POSITIONS,
            "{} positions leave no room for a prefix and a caption: give at least {LEAST_POSITIONS}",
            self.positions
        );
        check_total(self.width, self.layers)?;
        Ok(Gpt2Config {
            vocab_size,
            n_positions: self.positions,
            n_embd: self.width,
            n_layer: self.layers,
            n_head: heads(self.width)?,
            n_inner: None,
            activation_function: Activation::GeluNew,
            layer_norm_epsilon: 1e-5,
            tie_word_embeddings: true,
        })
    }
}

/// Attention heads of a transformer: of 32 channels each, but never fewer than four.
fn heads(width: usize) -> Result<usize> {
    let heads = (width / HEAD).max(HEADS);
    ensure!(
        width.is_multiple_of(heads),
        "a width of {width} cannot be divided among {heads} attention heads: give a multiple of {HEAD}, or of {HEADS} up to {}",
        HEAD * HEADS
    );
    Ok(heads)
}

/// A transformer's layers have about 12 parameters for each square of its width.
fn check_total(width: usize, layers: usize) -> Result<()> {
    let parameters = 12 * (width as u128).pow(2) * layers as u128;
    ensure!(
        parameters <= MOST_PARAMETERS,
        "{layers} layers of width {width} have {parameters} parameters: give fewer, at most {MOST_PARAMETERS} in all"
    );
    Ok(())
}

fn check(sizes: &[(&str, usize)]) -> Result<()> {
    for (name, size) in sizes {
        ensure!(*size > 0, "the {name} is 0: give at least 1");
        ensure!(
            *size <= 1 << 16,
            "the {name} is {size}: give at most {}",
            1 << 16
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_keep_the_proportions_of_clip() {
        let sizes = ClipSizes {
            image_size: 224,
            patch_size: 32,
            width: 768,
            layers: 12,
            embedding: 512,
            context_length: 77,
        };
        let text = sizes.config(49_408).unwrap().text.unwrap();
        assert_eq!((text.hidden_size, text.num_hidden_layers), (512, 9));
    }

    #[test]
    fn sizes_that_make_no_network_are_refused() {
        let patch = ClipSizes {
            patch_size: 7,
            ..ClipSizes::default()
        };
        let error = patch.config(500).unwrap_err().to_string();
        assert!(error.contains("patches of 7"), "{error}");
        for width in [0, 30, 200, 1 << 20] {
            let sizes = Gpt2Sizes {
                width,
                ..Gpt2Sizes::default()
            };
            assert!(sizes.config(500).is_err(), "{width}");
        }
        for (positions, layers, width) in [(1, 4, 64), (128, 100, 65_536)] {
            let sizes = Gpt2Sizes {
                width,
                layers,
                positions,
            };
            assert!(sizes.config(500).is_err(), "{sizes:?}");
        }
    }
}
