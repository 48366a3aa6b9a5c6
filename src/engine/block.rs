//! The transformer block that CLIP, the mapper and GPT-2 have in common:
//! `x += project(attention(norm1(x))); x += fc2(activation(fc1(norm2(x))))`.

use super::cache::{self, Cache};
use super::layer::{Layer, Norm};
use crate::kernels::attention::{Attention, Rows};
use crate::nn::{Activation, Masking};

/// One block.
#[derive(Debug)]
pub struct Block {
    pub norm1: Norm,
    /// Queries, keys and values side by side, `[C, 3 C]`.
    pub qkv: Layer,
    pub project: Layer,
    pub norm2: Norm,
    pub fc1: Layer,
    pub fc2: Layer,
    pub activation: Activation,
    pub heads: usize,
    pub masking: Masking,
}

/// What of a block's output is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every position.
    All,
    /// One position of each row of the batch. With [`Masking::Causal`] it must be the last.
    One(usize),
}

impl Block {
    /// `x`: `[B, T, C]`; returns `[B, T, C]`, or `[B, C]` when one position is wanted. Keys and values go to the cache if
    /// there is one, which must be empty.
    pub fn forward(
        &self,
        x: Vec<f32>,
        batch: usize,
        wanted: Wanted,
        cache: Option<&mut cache::Layer>,
    ) -> Vec<f32> {
        let width = self.project.width();
        let positions = x.len() / width / batch;
        let qkv = self.qkv.forward(&self.norm1.forward(&x)); // [B, T, 3 C]
        if let Some(cache) = cache {
            cache.fill(&qkv, batch, width);
        }
        let part = |index: usize, first: usize, rows: usize| Rows {
            data: &qkv[first * 3 * width + index * width..],
            batch,
            rows,
            batch_stride: positions * 3 * width,
            row_stride: 3 * width,
        };
        let (first, rows) = match wanted {
            Wanted::All => (0, positions),
            Wanted::One(position) => (position, 1),
        };
        let attention = Attention {
            q: part(0, first, rows),
            k: part(1, 0, positions),
            v: part(2, 0, positions),
            width,
            heads: self.heads,
            masking: self.masking,
        };
        let mut attended = vec![0.0; batch * rows * width];
        attention.forward(&mut attended);
        let x = match wanted {
            Wanted::All => x,
            Wanted::One(position) => x
                .chunks_exact(positions * width)
                .flat_map(|x| &x[position * width..(position + 1) * width])
                .copied()
                .collect(),
        };
        self.finish(x, &attended)
    }

    /// One more position of each row: `[R, C] -> [R, C]`.
    pub fn extend(&self, x: Vec<f32>, cache: &mut cache::Layer, lineage: &[Vec<u32>]) -> Vec<f32> {
        let width = self.project.width();
        let qkv = self.qkv.forward(&self.norm1.forward(&x)); // [R, 3 C]
        cache.push(&qkv, width);
        let attended = cache.attend(&qkv, width, self.heads, lineage); // [R, C]
        self.finish(x, &attended)
    }

    fn finish(&self, mut x: Vec<f32>, attended: &[f32]) -> Vec<f32> {
        self.project.add_to(attended, &mut x);
        let hidden = self.fc1.activated(&self.norm2.forward(&x), self.activation);
        self.fc2.add_to(&hidden, &mut x);
        x
    }
}

/// A stack of blocks, of whose last one position is wanted, or all.
pub fn stack(
    blocks: &[Block],
    x: Vec<f32>,
    batch: usize,
    wanted: Wanted,
    mut cache: Option<&mut Cache>,
) -> Vec<f32> {
    let last = blocks.len().saturating_sub(1);
    blocks.iter().enumerate().fold(x, |x, (i, block)| {
        let wanted = if i == last { wanted } else { Wanted::All };
        let layer = cache.as_deref_mut().map(|cache| cache.layer(i));
        block.forward(x, batch, wanted, layer)
    })
}
