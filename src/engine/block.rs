//! The transformer block that CLIP, the mapper and GPT-2 have in common:
//! `x += project(attention(norm1(x))); x += fc2(activation(fc1(norm2(x))))`.

use std::ops::Range;

use rayon::prelude::*;

use super::cache::{self, Cache};
use super::layer::{Layer, Norm};
use crate::nn::{Activation, Masking};
use cpu_kernels::attention::{Attention, Rows};

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

/// Memory for what is between a block's steps, used again by the next block.
#[derive(Debug, Default)]
pub struct Scratch {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    hidden: Vec<f32>,
}

impl Block {
    /// `x`: `[B, T, C]`; returns the wanted positions of each row, `[B, W, C]`. With [`Masking::Causal`] they must be the
    /// last ones. Keys and values go to the cache if there is one, which must be empty.
    pub fn forward(
        &self,
        x: Vec<f32>,
        batch: usize,
        wanted: Range<usize>,
        cache: Option<&mut cache::Layer>,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let width = self.project.width();
        let positions = x.len() / width / batch;
        self.project_in(&x, scratch);
        let Scratch { qkv, attended, .. } = scratch; // [B, T, 3 C], [B, W, C]
        if let Some(cache) = cache {
            cache.fill(qkv, batch, width);
        }
        let part = |index: usize, first: usize, rows: usize| Rows {
            data: &qkv[first * 3 * width + index * width..],
            batch,
            rows,
            batch_stride: positions * 3 * width,
            row_stride: 3 * width,
        };
        let rows = wanted.len();
        let attention = Attention {
            q: part(0, wanted.start, rows),
            k: part(1, 0, positions),
            v: part(2, 0, positions),
            width,
            heads: self.heads,
            masking: self.masking,
        };
        attended.resize(batch * rows * width, 0.0);
        attention.forward(attended);
        self.finish(pick(x, batch, positions, wanted), scratch)
    }

    /// Sentences of so many positions each, one behind the other: `[N, C] -> [N, C]`, or `[B, C]` where only the last position
    /// of each is wanted.
    pub fn forward_sentences(
        &self,
        x: Vec<f32>,
        lengths: &[usize],
        only_last: bool,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let width = self.project.width();
        self.project_in(&x, scratch);
        let Scratch { qkv, attended, .. } = scratch; // [N, 3 C], [N or B, C]
        let queries = |length: usize| if only_last { 1 } else { length };
        attended.resize(lengths.iter().map(|&n| queries(n) * width).sum(), 0.0);
        let (mut rest, mut first, mut sentences) = (attended.as_mut_slice(), 0, Vec::new());
        for &length in lengths {
            let (out, after) = rest.split_at_mut(queries(length) * width);
            sentences.push((first, length, out));
            (rest, first) = (after, first + length);
        }
        let attend = |(first, length, out): (usize, usize, &mut [f32])| {
            let part = |index: usize, rows: usize| Rows {
                data: &qkv[((first + length - rows) * 3 + index) * width..],
                batch: 1,
                rows,
                batch_stride: rows * 3 * width,
                row_stride: 3 * width,
            };
            let attention = Attention {
                q: part(0, queries(length)),
                k: part(1, length),
                v: part(2, length),
                width,
                heads: self.heads,
                masking: self.masking,
            };
            attention.forward(out);
        };
        sentences.into_par_iter().with_max_len(1).for_each(attend);
        let x = match only_last {
            true => last_of_each(&x, lengths, width),
            false => x,
        };
        self.finish(x, scratch)
    }

    /// One more position of each row: `[R, C] -> [R, C]`.
    pub fn extend(
        &self,
        x: Vec<f32>,
        cache: &mut cache::Layer,
        ancestors: &[Vec<u32>],
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let width = self.project.width();
        self.project_in(&x, scratch);
        cache.push(&scratch.qkv, width);
        scratch.attended = cache.attend(&scratch.qkv, width, self.heads, ancestors); // [R, C]
        self.finish(x, scratch)
    }

    /// Queries, keys and values: `[.., C] -> [.., 3 C]`.
    fn project_in(&self, x: &[f32], Scratch { normed, qkv, .. }: &mut Scratch) {
        self.norm1.write(x, normed);
        self.qkv.write(normed, None, qkv);
    }

    /// What follows attention: `[.., C] -> [.., C]`.
    fn finish(&self, mut x: Vec<f32>, scratch: &mut Scratch) -> Vec<f32> {
        let Scratch {
            normed,
            attended,
            hidden,
            ..
        } = scratch;
        self.project.add_to(attended, &mut x);
        self.norm2.write(&x, normed);
        self.fc1.write(normed, Some(self.activation), hidden);
        self.fc2.add_to(hidden, &mut x);
        x
    }
}

/// Some positions of each row, `[B, T, C] -> [B, W, C]`.
fn pick(x: Vec<f32>, batch: usize, positions: usize, wanted: Range<usize>) -> Vec<f32> {
    if wanted.len() == positions {
        return x;
    }
    let width = x.len() / batch / positions;
    x.chunks_exact(positions * width)
        .flat_map(|x| &x[wanted.start * width..wanted.end * width])
        .copied()
        .collect()
}

/// The last position of each sentence, `[N, C] -> [B, C]`.
fn last_of_each(x: &[f32], lengths: &[usize], width: usize) -> Vec<f32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    ends.flat_map(|end| &x[(end - 1) * width..end * width])
        .copied()
        .collect()
}

/// A stack of blocks on `[B, T, C]`, with `T` as `positions`. Of the last block, only the wanted positions are computed:
/// `[B, W, C]`.
pub fn stack(
    blocks: &[Block],
    mut x: Vec<f32>,
    batch: usize,
    positions: usize,
    wanted: Range<usize>,
    mut cache: Option<&mut Cache>,
) -> Vec<f32> {
    let Some((last, before)) = blocks.split_last() else {
        return pick(x, batch, positions, wanted);
    };
    let mut scratch = Scratch::default();
    for (i, block) in before.iter().enumerate() {
        let layer = cache.as_deref_mut().map(|cache| cache.layer(i));
        x = block.forward(x, batch, 0..positions, layer, &mut scratch);
    }
    let layer = cache.map(|cache| cache.layer(before.len()));
    last.forward(x, batch, wanted, layer, &mut scratch)
}
