//! GPT-2 as a search sees it.

use anyhow::{Context, Result};
use burn::tensor::{Device, FloatDType, Int, Tensor};

use super::read;
use crate::decode::{DecodeConfig, Logits, Step, Wanted};
use crate::device::is_cpu;
use crate::models::gpt2::{Gpt2, KvCache};

/// On GPUs the cache's room is a multiple of this, which vector instructions like.
const ROOM: usize = 32;

/// Tokens that a device chooses at most; for more, whole rows are read.
const MOST_CHOSEN: usize = 16;

/// GPT-2 with its cache, as the searches in [`decode`](crate::decode) see it.
///
/// On the CPU rows that the search gives up cost nothing more. On a GPU they stay and are computed in vain: it has room for
/// them, and tensors that keep their shape need no new kernels.
pub struct Gpt2Step<'a> {
    gpt2: &'a Gpt2,
    cache: KvCache,
    /// Prefix and prompt, until they are read.
    start: Option<Tensor<3>>,
    /// Which of the cache's rows each of the search's rows is.
    rows: Vec<usize>,
    device: Device,
}

impl<'a> Gpt2Step<'a> {
    /// Gets ready to read `prefix`, `[B, P, C]`, the prompt of `config` after it, and a caption of its longest length.
    pub fn new(gpt2: &'a Gpt2, n_layer: usize, prefix: Tensor<3>, config: &DecodeConfig) -> Self {
        let device = prefix.device();
        let start = with_prompt(gpt2, prefix, &config.prompt); // [B, P + T, C]
        let [b, length, _] = start.dims();
        let room = match is_cpu(&device) {
            true => length + config.max_length,
            false => (length + config.max_length).next_multiple_of(ROOM),
        };
        Self {
            gpt2,
            cache: KvCache::new(n_layer, room),
            device,
            start: Some(start),
            rows: (0..b).collect(),
        }
    }

    /// Lets row `i` go on from row `parents[i]`, and gives each of the cache's rows its token.
    fn place(&mut self, parents: &[usize], tokens: &[u32]) -> Vec<u32> {
        let from: Vec<usize> = parents.iter().map(|&parent| self.rows[parent]).collect();
        let there = self.cache.rows();
        let mut taken = vec![false; there];
        let apart = from
            .iter()
            .all(|&row| !std::mem::replace(&mut taken[row], true));
        if !is_cpu(&self.device) && apart {
            self.rows = from;
        } else {
            let mut kept = from;
            if !is_cpu(&self.device) {
                // Rows that nobody goes on from repeat the first.
                kept.resize(kept.len().max(there), kept[0]);
            }
            self.cache.reorder(&kept);
            self.rows = (0..parents.len()).collect();
        }
        let mut placed = vec![0; self.cache.rows()];
        for (&row, &token) in self.rows.iter().zip(tokens) {
            placed[row] = token;
        }
        placed
    }

    /// The device chooses the likeliest tokens: a whole row is 200 kB, and the search looks at a few of it.
    fn logits(&self, hidden: Tensor<2>, wanted: Wanted) -> Result<Logits> {
        let logits = self.gpt2.logits(hidden).cast(FloatDType::F32); // [B, V]
        let [_, vocab_size] = logits.dims();
        let count = match wanted {
            Wanted::Likeliest(count) if count <= MOST_CHOSEN && !is_cpu(&self.device) => {
                count.clamp(1, vocab_size)
            }
            _ => {
                let values = self.of_search(read(logits)?, vocab_size);
                return Ok(Logits::new(values, vocab_size));
            }
        };
        let (highest, tokens) = logits.clone().topk_with_indices(count, 1); // [B, count] each
        let above = logits - highest.clone().narrow(1, 0, 1); // [B, V]
        let sums = above.exp().sum_dim(1); // [B, 1]
        // Ids are exact in float32, and one transfer is faster than three.
        let tokens = tokens.float().cast(FloatDType::F32);
        let all = read(Tensor::cat(vec![highest, tokens, sums], 1))?; // [B, 2 count + 1]
        let all = self.of_search(all, 2 * count + 1);
        let (mut values, mut ids, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for row in all.chunks_exact(2 * count + 1) {
            values.extend(&row[..count]);
            ids.extend(row[count..2 * count].iter().map(|&id| id as u32));
            sums.push(row[2 * count]);
        }
        Ok(Logits::likeliest(values, ids, sums, vocab_size))
    }

    /// Of rows as the cache has them, those of the search.
    fn of_search(&self, values: Vec<f32>, width: usize) -> Vec<f32> {
        if values.len() == self.rows.len() * width && self.rows.is_sorted() {
            return values;
        }
        let rows = self.rows.iter();
        rows.flat_map(|row| &values[row * width..][..width])
            .copied()
            .collect()
    }
}

impl Step for Gpt2Step<'_> {
    type Error = anyhow::Error;

    fn prefill(&mut self, wanted: Wanted) -> Result<Logits> {
        let start = self.start.take().context("the prefix was read already")?;
        let hidden = self.gpt2.prefill(start, &mut self.cache); // [B, C]
        self.logits(hidden, wanted)
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32], wanted: Wanted) -> Result<Logits> {
        let tokens = self.place(parents, tokens);
        let ids = ids_tensor(&tokens, &self.device); // [B]
        let hidden = self.gpt2.extend(ids, &mut self.cache); // [B, C]
        self.logits(hidden, wanted)
    }
}

/// `[B, P, C] -> [B, P + T, C]`: the prompt's `T` tokens after every prefix.
fn with_prompt(gpt2: &Gpt2, prefix: Tensor<3>, prompt: &[u32]) -> Tensor<3> {
    if prompt.is_empty() {
        return prefix;
    }
    let [b, _, c] = prefix.dims();
    let ids = ids_tensor(prompt, &prefix.device()).unsqueeze_dim(0); // [1, T]
    let read = gpt2.embed_tokens(ids).expand([b, prompt.len(), c]); // [B, T, C]
    Tensor::cat(vec![prefix, read], 1)
}

/// `[B, P, C] -> [B, P + T, C]`: after each prefix its own `T` tokens; without any, the prefixes as they are.
pub(crate) fn with_contexts(gpt2: &Gpt2, prefix: Tensor<3>, contexts: &[Vec<u32>]) -> Tensor<3> {
    let length = contexts.first().map_or(0, Vec::len);
    if length == 0 {
        return prefix;
    }
    let ids = ids_tensor(&contexts.concat(), &prefix.device());
    let read = gpt2.embed_tokens(ids.reshape([contexts.len(), length])); // [B, T, C]
    Tensor::cat(vec![prefix, read], 1)
}

fn ids_tensor(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_ints(ids.as_slice(), device)
}
