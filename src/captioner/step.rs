//! GPT-2 as a search sees it.

use anyhow::{Context, Result};
use burn::tensor::{Device, Int, Tensor};

use super::read;
use crate::decode::{DecodeConfig, Logits, Step};
use crate::gpt2::{Gpt2, KvCache};

/// GPT-2 with its cache, as the searches in [`decode`] see it.
pub struct Gpt2Step<'a> {
    gpt2: &'a Gpt2,
    cache: KvCache,
    /// Prefix and prompt, until they are read.
    start: Option<Tensor<3>>,
    device: Device,
}

impl<'a> Gpt2Step<'a> {
    /// Gets ready to read `prefix`, `[B, P, C]`, the prompt of `config` after it, and a caption of its longest length.
    pub fn new(gpt2: &'a Gpt2, n_layer: usize, prefix: Tensor<3>, config: &DecodeConfig) -> Self {
        let device = prefix.device();
        let start = with_prompt(gpt2, prefix, &config.prompt); // [B, P + T, C]
        let [_, length, _] = start.dims();
        Self {
            gpt2,
            cache: KvCache::new(n_layer, length + config.max_length),
            device,
            start: Some(start),
        }
    }

    fn logits(&self, hidden: Tensor<2>) -> Result<Logits> {
        let logits = self.gpt2.logits(hidden); // [B, V]
        let [_, vocab_size] = logits.dims();
        Ok(Logits::new(read(logits)?, vocab_size))
    }
}

impl Step for Gpt2Step<'_> {
    type Error = anyhow::Error;

    fn prefill(&mut self) -> Result<Logits> {
        let start = self.start.take().context("the prefix was read already")?;
        let hidden = self.gpt2.prefill(start, &mut self.cache); // [B, C]
        self.logits(hidden)
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits> {
        self.cache.reorder(parents);
        let ids = ids_tensor(tokens, &self.device); // [B]
        let hidden = self.gpt2.extend(ids, &mut self.cache); // [B, C]
        self.logits(hidden)
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

fn ids_tensor(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_ints(ids.as_slice(), device)
}
