//! The mapper: embeddings in, prefixes out.
//!
//! Shape letters: `B` batch, `K` clip_length, `P` prefix_length, `C` n_embd.

use anyhow::Result;

use super::block::{Block, stack};
use super::layer::{Layer, Norm, take};
use crate::device::Precision;
use crate::models::mapper::{self, TransformerLayer};
use crate::nn::{Activation, Masking};
use cpu_kernels::threads::on_pool;

/// The three kinds.
#[derive(Debug)]
pub enum Mapper {
    Mlp {
        hidden: Layer,
        output: Layer,
    },
    Linear(Layer),
    Transformer {
        linear: Layer,
        /// `[P, C]`
        prefix_const: Vec<f32>,
        blocks: Vec<Block>,
        /// `K`
        clip_length: usize,
    },
}

impl Mapper {
    /// Packs the weights of a loaded mapper.
    pub fn new(mapper: mapper::Mapper, weights: Precision) -> Result<Self> {
        Ok(match mapper {
            mapper::Mapper::Mlp(mlp) => Self::Mlp {
                hidden: Layer::new(mlp.hidden, weights)?,
                output: Layer::new(mlp.output, weights)?,
            },
            mapper::Mapper::Linear(linear) => Self::Linear(Layer::new(linear.output, weights)?),
            mapper::Mapper::Transformer(transformer) => Self::Transformer {
                linear: Layer::new(transformer.linear, weights)?,
                prefix_const: take(transformer.prefix_const)?,
                blocks: (transformer.transformer.layers.into_iter())
                    .map(|layer| block(layer, weights))
                    .collect::<Result<_>>()?,
                clip_length: transformer.clip_length,
            },
        })
    }

    /// `[B, clip_dim] -> [B, P, C]`
    pub fn forward(&self, embeddings: &[f32], batch: usize) -> Vec<f32> {
        on_pool(|| self.forward_here(embeddings, batch))
    }

    fn forward_here(&self, embeddings: &[f32], batch: usize) -> Vec<f32> {
        match self {
            Self::Mlp { hidden, output } => {
                let mut hidden = hidden.forward(embeddings);
                hidden.iter_mut().for_each(|x| *x = x.tanh());
                output.forward(&hidden)
            }
            Self::Linear(layer) => layer.forward(embeddings),
            Self::Transformer {
                linear,
                prefix_const,
                blocks,
                clip_length,
            } => {
                let read = linear.forward(embeddings); // [B, K, C]
                let size = read.len() / batch;
                let rows: Vec<[&[f32]; 2]> = read
                    .chunks_exact(size)
                    .map(|read| [read, prefix_const])
                    .collect();
                let x = rows.concat().concat(); // [B, K + P, C]
                let positions = clip_length + prefix_const.len() / (size / clip_length);
                let prefix = *clip_length..positions;
                stack(blocks, x, batch, positions, prefix, None) // [B, P, C]
            }
        }
    }
}

fn block(layer: TransformerLayer, weights: Precision) -> Result<Block> {
    let (attention, mlp) = (layer.attn, layer.mlp);
    Ok(Block {
        heads: attention.heads,
        masking: Masking::None,
        activation: Activation::Relu,
        norm1: Norm::new(layer.norm1)?,
        qkv: Layer::joined(
            vec![attention.to_queries, attention.to_keys_values],
            weights,
        )?,
        project: Layer::new(attention.project, weights)?,
        norm2: Norm::new(layer.norm2)?,
        fc1: Layer::new(mlp.fc1, weights)?,
        fc2: Layer::new(mlp.fc2, weights)?,
    })
}
