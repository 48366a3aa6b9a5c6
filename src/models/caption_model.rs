//! Mapper and GPT-2 together: what training updates. `(clip_embedding, tokens) -> hidden states -> logits`.
//!
//! Shape letters: `B` batch, `T` caption tokens, `P` prefix_length, `C` n_embd, `N` caption tokens of the whole batch
//! without padding, `V` vocab_size.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::gpt2::{Gpt2, Gpt2Config};
use crate::models::mapper::{Mapper, MapperConfig};
use crate::nn;

/// Sizes of both parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionModelConfig {
    pub mapper: MapperConfig,
    pub gpt2: Gpt2Config,
}

/// The mapper and the language model that reads its prefix.
#[derive(Module, Debug)]
pub struct CaptionModel {
    /// Not called `mapper`: burn's derive has a local variable of that name, which a field would hide.
    pub prefix_mapper: Mapper,
    pub gpt2: Gpt2,
}

/// What training changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trainable {
    /// The mapper alone; GPT-2 stays as it was.
    Mapper,
    /// Both, as in equation 2 of the paper.
    MapperAndGpt2,
    /// The mapper, and low-rank changes to GPT-2's attention weights (Hu et al. 2021,
    /// <https://arxiv.org/abs/2106.09685>): `weight + alpha / rank * a b`.
    MapperAndLora { rank: usize, alpha: f64 },
}

impl CaptionModelConfig {
    /// Fresh weights.
    pub fn init(&self, device: &Device) -> CaptionModel {
        CaptionModel {
            prefix_mapper: self.mapper.init(device),
            gpt2: self.gpt2.init(device),
        }
    }
}

impl CaptionModel {
    /// See [`caption_states`].
    pub fn forward(&self, clip_embedding: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
        caption_states(&self.prefix_mapper, &self.gpt2, clip_embedding, tokens)
    }

    /// Both with their weights in another type, but for GPT-2's embeddings and head: in float16 the logits
    /// would be too coarse to tell words apart. Prefixes come out in that type, and go into GPT-2 in the embeddings'.
    pub fn cast(mut self, dtype: FloatDType) -> Self {
        self.prefix_mapper = nn::cast(self.prefix_mapper, dtype);
        self.gpt2.h = nn::cast(self.gpt2.h, dtype);
        self
    }
}

/// The hidden states from which each caption token is predicted: the last prefix position for the first token, the
/// first token's position for the second, and so on.
///
/// # Shapes
/// - `clip_embedding`: `[B, clip_dim]`; `tokens`: `[B, T]`, padded at the end; returns `[B, T, C]`
pub fn caption_states(
    mapper: &Mapper,
    gpt2: &Gpt2,
    clip_embedding: Tensor<2>,
    tokens: Tensor<2, Int>,
) -> Tensor<3> {
    let prefix = mapper.forward(clip_embedding); // [B, P, C]
    let [_, p, _] = prefix.dims();
    let [_, t] = tokens.dims();
    // The last token predicts nothing, so it is not read.
    let read = gpt2.embed_tokens(tokens).narrow(1, 0, t - 1); // [B, T - 1, C]
    let hidden = gpt2.forward(Tensor::cat(vec![prefix, read], 1)); // [B, P + T - 1, C]
    hidden.narrow(1, p - 1, t) // [B, T, C]
}
