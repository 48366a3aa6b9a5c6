//! Captions and embeddings to tensors: padding, positions, targets.
//!
//! Shape letters: `B` batch, `T` longest caption of the batch, `N` tokens of the batch without padding.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::loader::SeededBatcher;
use super::noise::Noise;

/// An embedding and the captions that belong to it.
#[derive(Clone, Debug)]
pub struct CaptionItem {
    /// `clip_dim` values.
    pub clip_embedding: Vec<f32>,
    /// Token ids of one or more captions, none empty. A batch takes one of them.
    pub captions: Vec<Vec<u32>>,
}

/// A padded batch on a device.
#[derive(Clone, Debug)]
pub struct CaptionBatch {
    /// `[B, clip_dim]`
    pub clip_embedding: Tensor<2>,
    pub tokens: TokenBatch,
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
        let t = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut tokens = vec![0_i32; rows.len() * t];
        let mut positions = Vec::new();
        let mut targets = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            for (j, &token) in row.iter().enumerate() {
                tokens[i * t + j] = token as i32;
                positions.push((i * t + j) as i32);
                targets.push(token as i32);
            }
        }
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [rows.len(), t]), device),
            positions: Tensor::from_ints(positions.as_slice(), device),
            targets: Tensor::from_ints(targets.as_slice(), device),
        }
    }
}

/// Rows of equal length as one tensor, `[B, C]`.
pub fn rows_to_tensor(rows: &[&[f32]], device: &Device) -> Tensor<2> {
    let width = rows.first().map_or(0, |row| row.len());
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), width]), device)
}

/// Makes [`CaptionBatch`]es: picks a caption, puts noise on the embedding.
#[derive(Clone, Debug)]
pub enum CaptionBatcher {
    /// A random caption of each item, and this noise on its embedding.
    Training(Noise),
    /// The first caption, and the embedding as it is.
    Validation,
}

impl SeededBatcher for CaptionBatcher {
    type Item = CaptionItem;
    type Batch = CaptionBatch;

    fn batch(
        &self,
        mut items: Vec<CaptionItem>,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> CaptionBatch {
        let mut picked = vec![0; items.len()];
        if let Self::Training(noise) = self {
            for (item, picked) in items.iter_mut().zip(&mut picked) {
                *picked = rng.random_range(0..item.captions.len());
                noise.apply(&mut item.clip_embedding, rng);
            }
        }
        let embeddings: Vec<&[f32]> = items.iter().map(|item| &item.clip_embedding[..]).collect();
        let captions: Vec<&[u32]> = items
            .iter()
            .zip(picked)
            .map(|(item, picked)| &item.captions[picked][..])
            .collect();
        CaptionBatch {
            clip_embedding: rows_to_tensor(&embeddings, device),
            tokens: TokenBatch::new(&captions, device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
