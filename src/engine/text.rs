//! CLIP's text transformer with its projection.
//!
//! Shape letters: `B` sentences, `N` tokens of all of them, `C` width, `E` projection_dim.

use anyhow::Result;
use burn::nn::Linear;

use super::block::{Block, Scratch};
use super::layer::{Layer, Norm, Values, take};
use super::vision::block;
use crate::device::Precision;
use crate::models::clip::ClipText;
use cpu_kernels::threads::on_pool;

/// Sentences in, embeddings out.
#[derive(Debug)]
pub struct Text {
    /// `[vocab_size, C]`
    tokens: Values,
    /// `[max_position_embeddings, C]`
    positions: Vec<f32>,
    blocks: Vec<Block>,
    after: Norm,
    projection: Layer,
}

impl Text {
    /// Packs the weights of a loaded tower. Token embeddings stay in float32: they are looked up, not multiplied.
    pub fn new(text: ClipText, projection: Linear, weights: Precision) -> Result<Self> {
        Ok(Self {
            tokens: Values::of(text.embeddings.token_embedding.weight)?,
            positions: take(text.embeddings.position_embedding.weight)?,
            blocks: (text.encoder.layers.into_iter())
                .map(|layer| block(layer, weights))
                .collect::<Result<_>>()?,
            after: Norm::new(text.final_layer_norm)?,
            projection: Layer::new(projection, weights)?,
        })
    }

    /// The projected embeddings of token ids that end with the end of text, not normalized: `[B, E]`. Sentences stand one
    /// behind the other, none of them filled up to the longest.
    pub fn encode(&self, sentences: &[Vec<u32>]) -> Vec<f32> {
        on_pool(|| self.encode_here(sentences))
    }

    fn encode_here(&self, sentences: &[Vec<u32>]) -> Vec<f32> {
        let width = self.after.width();
        let lengths: Vec<usize> = sentences.iter().map(Vec::len).collect();
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * width); // [N, C]
        for ids in sentences {
            for (&id, position) in ids.iter().zip(self.positions.chunks_exact(width)) {
                let token = &self.tokens[id as usize * width..][..width];
                x.extend(token.iter().zip(position).map(|(t, p)| t + p));
            }
        }
        let mut scratch = Scratch::default();
        let last = self.blocks.len().saturating_sub(1);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_sentences(x, &lengths, i == last, &mut scratch);
        } // [B, C]
        self.projection.forward(&self.after.forward(&x))
    }
}
