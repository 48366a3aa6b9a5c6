//! CLIP's vision transformer with its projection.
//!
//! Shape letters: `B` batch, `G` patches a side, `C` width, `E` projection_dim.

use anyhow::Result;
use burn::nn::Linear;

use super::block::{Block, stack};
use super::layer::{Layer, Matrix, Norm, Values, take};
use crate::device::Precision;
use crate::models::clip::{ClipVision, EncoderLayer};
use cpu_kernels::matrix::{Epilogue, View};
use cpu_kernels::threads::on_pool;

/// Images in, embeddings out.
#[derive(Debug)]
pub struct Vision {
    /// `[3 patch_size^2, C]`
    patches: Matrix,
    class: Vec<f32>,
    /// `[1 + G G, C]`
    positions: Vec<f32>,
    patch_size: usize,
    before: Norm,
    blocks: Vec<Block>,
    after: Norm,
    projection: Layer,
}

impl Vision {
    /// Packs the weights of a loaded tower.
    pub fn new(vit: ClipVision, projection: Linear, weights: Precision) -> Result<Self> {
        let kernel = vit.embeddings.patch_embedding.weight;
        let [width, channels, patch_size, _] = kernel.val().dims();
        let kernel = Values::of(kernel)?;
        let kernel = View::new(&kernel, width, channels * patch_size * patch_size);
        Ok(Self {
            patches: Matrix::new(kernel.transpose(), weights),
            class: take(vit.embeddings.class_embedding)?,
            positions: take(vit.embeddings.position_embedding.weight)?,
            patch_size,
            before: Norm::new(vit.pre_layernorm)?,
            blocks: (vit.encoder.layers.into_iter())
                .map(|layer| block(layer, weights))
                .collect::<Result<_>>()?,
            after: Norm::new(vit.post_layernorm)?,
            projection: Layer::new(projection, weights)?,
        })
    }

    /// The projected embeddings, not normalized. `[B, 3, n, n] -> [B, E]`
    pub fn encode(&self, pixel_values: &[f32], batch: usize) -> Vec<f32> {
        on_pool(|| self.encode_here(pixel_values, batch))
    }

    fn encode_here(&self, pixel_values: &[f32], batch: usize) -> Vec<f32> {
        let width = self.class.len();
        let count = self.positions.len() / width; // 1 + G G
        let patches = self.cut(pixel_values, batch, count - 1);
        let mut embedded = vec![0.0; batch * (count - 1) * width];
        self.patches
            .product(&patches, &mut embedded, Epilogue::default()); // [B, G G, C]
        let mut x = Vec::with_capacity(batch * count * width); // [B, 1 + G G, C]
        for patches in embedded.chunks_exact((count - 1) * width) {
            let first = self.class.iter().chain(patches);
            x.extend(first.zip(&self.positions).map(|(x, position)| x + position));
        }
        let x = self.before.forward(&x);
        let class = stack(&self.blocks, x, batch, count, 0..1, None); // [B, C]
        self.projection.forward(&self.after.forward(&class))
    }

    /// `[B, 3, n, n] -> [B G G, 3 patch_size^2]`
    fn cut(&self, pixel_values: &[f32], batch: usize, count: usize) -> Vec<f32> {
        let size = self.patch_size;
        let grid = count.isqrt();
        let side = grid * size;
        let channels = self.patches.shape()[0] / (size * size);
        let mut patches = Vec::with_capacity(pixel_values.len());
        for image in pixel_values
            .chunks_exact(channels * side * side)
            .take(batch)
        {
            for (row, column) in (0..count).map(|patch| (patch / grid, patch % grid)) {
                for channel in image.chunks_exact(side * side) {
                    for line in channel.chunks_exact(side).skip(row * size).take(size) {
                        patches.extend_from_slice(&line[column * size..(column + 1) * size]);
                    }
                }
            }
        }
        patches
    }
}

/// A block of either of CLIP's transformers.
pub(super) fn block(layer: EncoderLayer, weights: Precision) -> Result<Block> {
    let (attention, mlp) = (layer.self_attn, layer.mlp);
    Ok(Block {
        heads: attention.num_heads,
        masking: attention.masking,
        activation: mlp.hidden_act,
        norm1: Norm::new(layer.layer_norm1)?,
        qkv: Layer::joined(
            vec![attention.q_proj, attention.k_proj, attention.v_proj],
            weights,
        )?,
        project: Layer::new(attention.out_proj, weights)?,
        norm2: Norm::new(layer.layer_norm2)?,
        fc1: Layer::new(mlp.fc1, weights)?,
        fc2: Layer::new(mlp.fc2, weights)?,
    })
}
