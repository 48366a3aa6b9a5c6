//! CLIP's sentence tower, a causal transformer read out at the end-of-text token: `[B, T] -> [B, C]`.
//!
//! Shape letters: `B` batch, `T` tokens, `C` hidden_size.

use crate::models::sizes::{divides, layers, positive, sized};
use anyhow::Result;
use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, EncoderConfig};
use crate::nn::{Activation, LayerNorm, Masking};

/// Sizes of the sentence tower, under Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTextConfig {
    pub vocab_size: usize,
    /// Width, `C`.
    pub hidden_size: usize,
    /// Width of the MLP's middle.
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Longest sentence in tokens, start and end included.
    pub max_position_embeddings: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

/// Tokens and positions in; the end-of-text token's final state out.
#[derive(Module, Debug)]
pub struct ClipText {
    pub embeddings: TextEmbeddings,
    pub encoder: Encoder,
    pub final_layer_norm: LayerNorm,
}

/// A learned vector a token and a learned vector a position.
#[derive(Module, Debug)]
pub struct TextEmbeddings {
    pub token_embedding: Embedding,
    pub position_embedding: Embedding,
}

impl ClipTextConfig {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check(&self) -> Result<()> {
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

    /// The sentence tower that goes with ViT-B/32.
    pub fn vit_b_32() -> Self {
        Self {
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }

    /// Fresh weights.
    pub fn init(&self, device: &Device) -> ClipText {
        let encoder = EncoderConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            masking: Masking::Causal,
        };
        let embedding = |count| {
            EmbeddingConfig::new(count, self.hidden_size)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device)
        };
        ClipText {
            embeddings: TextEmbeddings {
                token_embedding: embedding(self.vocab_size),
                position_embedding: embedding(self.max_position_embeddings),
            },
            encoder: encoder.init(device),
            final_layer_norm: encoder.layer_norm(device),
        }
    }
}

impl ClipText {
    /// # Shapes
    /// - `tokens`: `[B, T]`; `eos_positions`: `[B]`; returns `[B, C]`
    ///
    /// What stands after the end-of-text token has no effect: the attention is causal.
    pub fn forward(&self, tokens: Tensor<2, Int>, eos_positions: Tensor<1, Int>) -> Tensor<2> {
        let [b, t] = tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..t as i64, &tokens.device()).unsqueeze(); // [1, T]
        let x = self.embeddings.token_embedding.forward(tokens)
            + self.embeddings.position_embedding.forward(positions); // [B, T, C]
        let x = self.final_layer_norm.forward(self.encoder.forward(x)); // [B, T, C]
        let [_, _, c] = x.dims();
        let index = eos_positions.reshape([b, 1, 1]).expand([b, 1, c]);
        x.gather(1, index).squeeze_dim::<2>(1) // [B, C]
    }
}
