//! GPT-2 with its cache, as the searches of [`crate::decode`] see it.
//!
//! Shape letters: `B` images, `R` rows (images, or beams of images), `T` positions, `C` n_embd, `V` vocab_size.

use anyhow::{Context, Result};

use super::block::{Block, Scratch, stack};
use super::cache::Cache;
use super::layer::{Layer, Matrix, Norm, Values, take};
use crate::decode::{Logits, Step, Wanted};
use crate::device::Precision;
use crate::models::gpt2::{self, Conv1D};
use crate::nn::Masking;
use cpu_kernels::matrix::{Epilogue, View};
use cpu_kernels::threads::on_pool;

/// The language model.
#[derive(Debug)]
pub struct Gpt2 {
    /// `[C, V]`: token embeddings are its columns.
    wte: Matrix,
    /// `[C, V]`, where the head is not tied to `wte`.
    lm_head: Option<Matrix>,
    /// `[n_positions, C]`
    wpe: Vec<f32>,
    blocks: Vec<Block>,
    ln_f: Norm,
}

impl Gpt2 {
    /// Packs the weights of a loaded model.
    pub fn new(gpt2: gpt2::Gpt2, weights: Precision) -> Result<Self> {
        Ok(Self {
            wte: head(gpt2.wte.weight, weights)?,
            lm_head: (gpt2.lm_head)
                .map(|weight| head(weight, weights))
                .transpose()?,
            wpe: take(gpt2.wpe.weight)?,
            blocks: (gpt2.h.into_iter())
                .map(|layer| block(layer, weights))
                .collect::<Result<_>>()?,
            ln_f: Norm::new(gpt2.ln_f)?,
        })
    }

    fn width(&self) -> usize {
        self.wte.shape()[0]
    }

    /// Token embeddings without positions. `[R] -> [R, C]`
    fn embed(&self, tokens: &[u32]) -> Vec<f32> {
        let width = self.width();
        let mut out = vec![0.0; tokens.len() * width];
        for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(width)) {
            self.wte.column(token as usize, out);
        }
        out
    }

    /// `[B, P, C] -> [B, P + T, C]`: after each prefix its own `T` tokens; without any, the prefixes as they are.
    pub fn with_contexts(&self, prefix: Vec<f32>, contexts: &[Vec<u32>]) -> Vec<f32> {
        let size = prefix.len() / contexts.len().max(1);
        if contexts.iter().all(Vec::is_empty) || size == 0 {
            return prefix;
        }
        (prefix.chunks_exact(size).zip(contexts))
            .flat_map(|(prefix, context)| [prefix, &self.embed(context)].concat())
            .collect()
    }

    /// Adds positions `first..` to `[B, T, C]`.
    fn add_positions(&self, x: &mut [f32], batch: usize, first: usize) {
        let size = (x.len() / batch).max(1);
        let positions = &self.wpe[first * self.width()..];
        for x in x.chunks_exact_mut(size) {
            x.iter_mut().zip(positions).for_each(|(x, p)| *x += p);
        }
    }

    /// Reads the first positions, `[B, T, C]`, into an empty cache and scores what comes next, `[B, V]`.
    pub fn prefill(&self, mut x: Vec<f32>, batch: usize, cache: &mut Cache) -> Vec<f32> {
        let positions = x.len() / self.width() / batch;
        cache.begin(batch, positions);
        self.add_positions(&mut x, batch, 0);
        let last = positions - 1..positions;
        let x = stack(&self.blocks, x, batch, positions, last, Some(cache)); // [B, C]
        self.logits(&x)
    }

    /// Reads one more token a row, row `i` going on from row `parents[i]`, and scores what comes next, `[R, V]`.
    pub fn extend(&self, parents: &[usize], tokens: &[u32], cache: &mut Cache) -> Vec<f32> {
        let mut x = self.embed(tokens); // [R, C]
        self.add_positions(&mut x, tokens.len(), cache.len());
        cache.branch(parents);
        let mut scratch = Scratch::default();
        for (i, block) in self.blocks.iter().enumerate() {
            let (layer, ancestors) = cache.layer_and_ancestors(i);
            x = block.extend(x, layer, ancestors, &mut scratch);
        }
        self.logits(&x)
    }

    fn logits(&self, x: &[f32]) -> Vec<f32> {
        let x = self.ln_f.forward(x);
        let head = self.lm_head.as_ref().unwrap_or(&self.wte);
        let [width, vocab_size] = head.shape();
        let mut logits = vec![0.0; x.len() / width * vocab_size];
        head.product(&x, &mut logits, Epilogue::default());
        logits
    }
}

fn head(
    weight: burn::module::Param<burn::tensor::Tensor<2>>,
    weights: Precision,
) -> Result<Matrix> {
    let [vocab_size, width] = weight.val().dims();
    let weight = Values::of(weight)?;
    let view = View::new(&weight, vocab_size, width);
    Ok(Matrix::new(view.transpose(), super::of_logits(weights)))
}

fn block(block: gpt2::Block, weights: Precision) -> Result<Block> {
    let layer = |conv: Conv1D| Layer::from_parts(conv.weight, Some(take(conv.bias)?), weights);
    Ok(Block {
        heads: block.attn.n_head,
        masking: Masking::Causal,
        activation: block.mlp.activation,
        norm1: Norm::new(block.ln_1)?,
        qkv: layer(block.attn.c_attn)?,
        project: layer(block.attn.c_proj)?,
        norm2: Norm::new(block.ln_2)?,
        fc1: layer(block.mlp.c_fc)?,
        fc2: layer(block.mlp.c_proj)?,
    })
}

/// GPT-2 with its cache, from a prefix on.
pub struct Gpt2Step<'a> {
    gpt2: &'a Gpt2,
    cache: Cache,
    batch: usize,
    /// Prefix and prompt, `[B, T, C]`, until they are read.
    start: Option<Vec<f32>>,
}

impl<'a> Gpt2Step<'a> {
    /// Gets ready to read a prefix, `[B, P, C]`, and a prompt after it.
    pub fn new(gpt2: &'a Gpt2, prefix: &[f32], batch: usize, prompt: &[u32]) -> Self {
        let prompt = gpt2.embed(prompt);
        let start = prefix
            .chunks_exact((prefix.len() / batch).max(1))
            .flat_map(|prefix| prefix.iter().chain(&prompt))
            .copied()
            .collect();
        Self {
            gpt2,
            cache: Cache::new(gpt2.blocks.len()),
            batch,
            start: Some(start),
        }
    }

    fn scored(&self, logits: Vec<f32>) -> Logits {
        Logits::new(logits, self.gpt2.wte.shape()[1])
    }
}

impl Step for Gpt2Step<'_> {
    type Error = anyhow::Error;

    fn prefill(&mut self, _: Wanted) -> Result<Logits> {
        let start = self.start.take().context("the prefix was read already")?;
        let logits = on_pool(|| self.gpt2.prefill(start, self.batch, &mut self.cache));
        Ok(self.scored(logits))
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32], _: Wanted) -> Result<Logits> {
        let logits = on_pool(|| self.gpt2.extend(parents, tokens, &mut self.cache));
        Ok(self.scored(logits))
    }
}
