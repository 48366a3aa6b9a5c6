//! Captions and embeddings to tensors: padding, positions, targets.
//!
//! Shape letters: `B` batch, `T` longest caption of the batch, `N` tokens of the batch without padding.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::loader::SeededBatcher;
use super::noise::Noise;
use crate::nn::rows_to_tensor;
use crate::vector::normalize;

/// An image that validation captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its place in the data set.
    pub image: usize,
    /// What the caption is compared with.
    pub captions: Vec<String>,
}

/// What is learned together: one pair or, of several, a random one each time.
#[derive(Clone, Debug)]
pub struct CaptionItem {
    /// At least one.
    pub pairs: Vec<Pair>,
    /// What a caption of it is compared with, where validation captions it.
    pub references: Option<Arc<Described>>,
}

/// An embedding and the caption that belongs to it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// `clip_dim` values as CLIP gave them; the captions of an image share its embedding.
    pub clip_embedding: Arc<[f32]>,
    /// Token ids, at least one.
    pub caption: Vec<u32>,
    /// Token ids that are read before it and not learned; most often none.
    pub prompt: Vec<u32>,
}

/// A padded batch on a device.
#[derive(Clone, Debug)]
pub struct CaptionBatch {
    /// `[B, clip_dim]`
    pub clip_embedding: Tensor<2>,
    pub tokens: TokenBatch,
    /// Rows that are to be captioned, and what the captions are compared with.
    pub references: Vec<(usize, Arc<Described>)>,
    /// What each of those rows reads before its caption.
    pub prompts: Vec<Vec<u32>>,
    /// Share of the tokens of the batch that the devices see together; 1 on one device. The mean loss of that batch is
    /// the sum of its shares' mean losses, each times its weight.
    pub weight: f64,
}

/// Token rows padded at the end, with the positions that are not padding.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// `[B, T]`
    pub tokens: Tensor<2, Int>,
    /// Indices of real tokens in the `B * T` positions, `[N]`.
    pub positions: Tensor<1, Int>,
    /// The tokens at those positions, `[N]`.
    pub targets: Tensor<1, Int>,
}

impl TokenBatch {
    /// Pads rows to the longest. What stands in the padding has no effect: it is after everything that is read.
    pub fn new(rows: &[&[u32]], device: &Device) -> Self {
        let rows: Vec<[&[u32]; 2]> = rows.iter().map(|row| [&[], *row]).collect();
        Self::prompted(&rows, device)
    }

    /// Rows of a prompt and what comes after it. Prompts are read, and stand at no position that counts.
    pub fn prompted(rows: &[[&[u32]; 2]], device: &Device) -> Self {
        let length = |[prompt, row]: &[&[u32]; 2]| prompt.len() + row.len();
        let t = rows.iter().map(length).max().unwrap_or(0);
        let mut tokens = vec![0_i32; rows.len() * t];
        let mut positions = Vec::new();
        let mut targets = Vec::new();
        for (i, [prompt, row]) in rows.iter().enumerate() {
            for (j, &token) in prompt.iter().chain(*row).enumerate() {
                tokens[i * t + j] = token as i32;
                if j >= prompt.len() {
                    positions.push((i * t + j) as i32);
                    targets.push(token as i32);
                }
            }
        }
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [rows.len(), t]), device),
            positions: Tensor::from_ints(positions.as_slice(), device),
            targets: Tensor::from_ints(targets.as_slice(), device),
        }
    }
}

/// Makes [`CaptionBatch`]es: picks a pair of each item and changes its embedding.
#[derive(Clone, Debug)]
pub struct CaptionBatcher {
    /// Whether the embedding is divided by its norm, before anything else.
    pub normalize: bool,
    /// Noise on the embedding, and a random pair; without it the first pair.
    pub training: Option<Noise>,
    /// Added to the embedding after the noise, which is normalized again: the way from sentences to images (CapDec).
    pub offset: Option<Arc<[f32]>>,
}

impl CaptionBatcher {
    fn embedding(&self, pair: &Pair, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut embedding = pair.clip_embedding.to_vec();
        if self.normalize {
            normalize(&mut embedding);
        }
        if let Some(noise) = &self.training {
            noise.apply(&mut embedding, rng);
        }
        if let Some(offset) = &self.offset {
            embedding
                .iter_mut()
                .zip(offset.iter())
                .for_each(|(value, offset)| *value += offset);
            normalize(&mut embedding);
        }
        embedding
    }
}

impl SeededBatcher for CaptionBatcher {
    type Item = CaptionItem;
    type Batch = CaptionBatch;

    fn batch(
        &self,
        items: Vec<CaptionItem>,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> CaptionBatch {
        let all = 0..items.len();
        self.share(items, all, rng, device)
    }

    /// The same rows as in the whole batch: numbers are drawn for all of them. No rows, which a last batch smaller than
    /// the number of devices leaves some of them, become one that weighs nothing.
    fn share(
        &self,
        items: Vec<CaptionItem>,
        rows: Range<usize>,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> CaptionBatch {
        let (mut embeddings, mut captions, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for item in &items {
            let picked = match self.training {
                Some(_) => rng.random_range(0..item.pairs.len()),
                None => 0,
            };
            let pair = &item.pairs[picked];
            embeddings.push(self.embedding(pair, rng));
            captions.push(&pair.caption[..]);
            texts.push([&pair.prompt[..], &pair.caption]);
        }
        let tokens = |captions: &[&[u32]]| captions.iter().map(|row| row.len()).sum::<usize>();
        let weight = tokens(&captions[rows.clone()]) as f64 / tokens(&captions) as f64;
        let rows = if rows.is_empty() { 0..1 } else { rows };
        let embeddings: Vec<&[f32]> = embeddings[rows.clone()].iter().map(Vec::as_slice).collect();
        CaptionBatch {
            clip_embedding: rows_to_tensor(&embeddings, device),
            tokens: TokenBatch::prompted(&texts[rows.clone()], device),
            prompts: (items[rows.clone()].iter().zip(&texts[rows.clone()]))
                .filter(|(item, _)| item.references.is_some())
                .map(|(_, [prompt, _])| prompt.to_vec())
                .collect(),
            references: items[rows]
                .iter()
                .enumerate()
                .filter_map(|(row, item)| Some((row, item.references.clone()?)))
                .collect(),
            weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn ints<const D: usize>(tensor: Tensor<D, Int>) -> Vec<i32> {
        tensor.into_data().iter::<i32>().collect()
    }

    #[test]
    fn padding_is_at_the_end_and_counted_nowhere() {
        let batch = TokenBatch::new(&[&[5, 0, 7], &[9]], &Device::flex());
        assert_eq!(ints(batch.tokens), [5, 0, 7, 9, 0, 0]);
        assert_eq!(ints(batch.positions), [0, 1, 2, 3]);
        assert_eq!(ints(batch.targets), [5, 0, 7, 9], "a real token 0 counts");
    }

    #[test]
    fn a_prompt_is_read_and_not_learned() {
        let batch = TokenBatch::prompted(&[[&[3, 4], &[5, 6]], [&[], &[9]]], &Device::flex());
        assert_eq!(ints(batch.tokens), [3, 4, 5, 6, 9, 0, 0, 0]);
        assert_eq!(ints(batch.positions), [2, 3, 4]);
        assert_eq!(ints(batch.targets), [5, 6, 9]);
    }

    #[test]
    fn without_noise_and_offset_the_first_pair_comes_as_it_is() {
        let pair = |value: f32, token| Pair {
            clip_embedding: [value, 0.5].into(),
            caption: vec![token],
            prompt: Vec::new(),
        };
        let item = CaptionItem {
            pairs: vec![pair(1.0, 4), pair(2.0, 6)],
            references: None,
        };
        let batch = |training, offset| {
            let batcher = CaptionBatcher {
                normalize: false,
                training,
                offset,
            };
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let batch = batcher.batch(vec![item.clone()], &mut rng, &Device::flex());
            let values: Vec<f32> = batch.clip_embedding.into_data().iter().collect();
            (values, ints(batch.tokens.targets))
        };
        assert_eq!(batch(None, None), (vec![1.0, 0.5], vec![4]));
        let (moved, _) = batch(None, Some([2.0, 3.5].into()));
        assert_eq!(moved, [0.6, 0.8], "moved, then normalized");
        let none = Noise {
            mode: crate::data::noise::NoiseMode::None,
            ..Noise::default()
        };
        assert!(batch(Some(none), None).0[1] == 0.5);
    }

    #[test]
    fn a_share_has_the_whole_batchs_rows_and_its_part_of_the_tokens() {
        let item = |value: f32, tokens: usize| CaptionItem {
            pairs: vec![Pair {
                clip_embedding: [value, 1.0].into(),
                caption: vec![7; tokens],
                prompt: Vec::new(),
            }],
            references: None,
        };
        let items = vec![item(1.0, 1), item(2.0, 4), item(3.0, 3)];
        let batcher = CaptionBatcher {
            normalize: true,
            training: Some(Noise::default()),
            offset: None,
        };
        let share = |rows: Range<usize>| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let batch = batcher.share(items.clone(), rows, &mut rng, &Device::flex());
            let values: Vec<f32> = batch.clip_embedding.into_data().iter().collect();
            (values, batch.weight)
        };
        let (whole, weight) = share(0..3);
        assert_eq!(weight, 1.0);
        let ((first, light), (second, heavy)) = (share(0..1), share(1..3));
        assert_eq!([first.clone(), second].concat(), whole);
        assert_eq!((light, heavy), (0.125, 0.875));
        assert_eq!(share(1..1), (first, 0.0), "nobody stays without a row");
    }
}
