//! Prefix vectors in words: the tokens whose embeddings they are nearest to, as ClipCap's paper shows them.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::Serialize;

use super::attention::split;
use crate::captioner::Modules;
use crate::nn;
use crate::tokenizer::Tokenizer;
use crate::vector;

/// One of the vectors that GPT-2 reads before the caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrefixVector {
    /// Its Euclidean norm; a token's embedding has one of about 3 in OpenAI's GPT-2.
    pub norm: f32,
    /// The nearest tokens, nearest first.
    pub neighbors: Vec<Neighbor>,
}

/// A token and how near its embedding is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbor {
    pub id: u32,
    pub text: String,
    /// Cosine of the two vectors.
    pub cosine: f32,
}

/// The `count` tokens nearest to each prefix vector of an embedding, `[clip_dim]`, as the mapper reads it.
///
/// # Errors
/// When the device fails, or the vocabulary does not know a token.
pub fn neighbors(
    modules: &Modules,
    tokenizer: &Tokenizer,
    embedding: &[f32],
    count: usize,
) -> Result<Vec<PrefixVector>> {
    let (captions, device) = (&modules.captions, &modules.device);
    let prefix = captions
        .prefix_mapper
        .forward(nn::rows_to_tensor(&[embedding], device)); // [1, P, C]
    let prefix = prefix.squeeze_dim::<2>(0); // [P, C]
    let words: Tensor<2> = nn::normalize(captions.gpt2.wte.weight.val()); // [V, C]
    let cosines = nn::normalize(prefix.clone()).matmul(words.transpose()); // [P, V]
    // The table may have more rows than the vocabulary has tokens.
    let known = tokenizer.vocab_size();
    let vectors = split(prefix)?.into_iter().zip(split(cosines)?);
    vectors
        .map(|(vector, cosines)| {
            let near = highest(&cosines[..known.min(cosines.len())], count);
            let neighbors = near.into_iter().map(|(id, cosine)| {
                Ok(Neighbor {
                    id,
                    text: tokenizer.token_text(id)?,
                    cosine,
                })
            });
            Ok(PrefixVector {
                norm: vector::norm(&vector) as f32,
                neighbors: neighbors.collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// The highest of a row's values with their places, highest first.
pub(super) fn highest(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    let count = count.min(values.len());
    if count == 0 {
        return Vec::new();
    }
    let mut places: Vec<u32> = (0..values.len() as u32).collect();
    let order = |&a: &u32, &b: &u32| {
        let (x, y) = (values[a as usize], values[b as usize]);
        y.total_cmp(&x).then(a.cmp(&b))
    };
    places.select_nth_unstable_by(count - 1, order);
    places.truncate(count);
    places.sort_unstable_by(order);
    places
        .into_iter()
        .map(|place| (place, values[place as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_come_first_and_equals_in_their_order() {
        let values = [0.5, 2.0, -1.0, 2.0, 1.0];
        assert_eq!(highest(&values, 3), [(1, 2.0), (3, 2.0), (4, 1.0)]);
        assert_eq!(highest(&values, 9).len(), 5);
        assert!(highest(&values, 0).is_empty() && highest(&[], 2).is_empty());
    }
}
