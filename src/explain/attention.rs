//! Relevance by gradient-weighted attention, from a caption's tokens back to the image's patches.
//!
//! ```text
//! log-probability of a token
//!    |  GPT-2's attention          -> prefix vectors and earlier words
//!    |  the mapper's attention     -> vectors of the embedding beside the learned ones
//!    |  gradient of the embedding     (the embedding is one vector: there is nothing to attend to)
//!    |  CLIP's attention           -> patches, as its class token sees them
//! ```
//!
//! Shape letters: `B` explained tokens, `T` positions, `K` clip_length, `P` prefix_length, `C` width, `V` vocab_size.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::forward;
use super::trace::Trace;
use crate::captioner::{Modules, read};
use crate::models::clip::Clip;
use crate::models::mapper::Mapper;
use crate::nn;

/// Values that a pass keeps for its gradients at most, about 1 GB of them.
const MOST_KEPT: usize = 1 << 28;

/// A caption in front of GPT-2.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// The image's embedding as CLIP gives it, `clip_dim` values.
    pub embedding: &'a [f32],
    /// Whether it is divided by its norm before the mapper reads it.
    pub normalize: bool,
    /// The prompt's tokens and the caption's.
    pub tokens: &'a [u32],
    /// Those of them that are explained.
    pub explained: Range<usize>,
}

/// What a token's log-probability came from, before it comes to the image.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSources {
    /// Log-probabilities of all tokens in its place, `[V]`.
    pub log_probs: Vec<f32>,
    /// The gradient of its log-probability for the embedding, `[clip_dim]`.
    pub gradient: Vec<f32>,
    /// Relevance of GPT-2's positions, the prefix's and then the words', as far as what the token was predicted from. At that
    /// position the rule begins with 1.
    pub positions: Vec<f32>,
    /// Relevance of the vectors that the mapper makes of the embedding, `[K]`; empty where it has no attention.
    pub embedding: Vec<f32>,
}

/// Relevance through GPT-2 and the mapper, for each of the explained tokens.
///
/// # Errors
/// When there is no token to explain, or the device fails.
pub fn sources(modules: &Modules, reading: &Reading) -> Result<Vec<TokenSources>> {
    let Range { start, end } = reading.explained.clone();
    if start >= end || end > reading.tokens.len() {
        bail!("there is no token to explain");
    }
    let gpt2 = &modules.captions.gpt2;
    let [_, c] = gpt2.wte.weight.dims();
    let kept = end * c * 24 * gpt2.h.len() + gpt2.wte.weight.dims()[0] * 4;
    let together = (MOST_KEPT / kept.max(1)).max(1);
    let mut sources = Vec::new();
    for first in (start..end).step_by(together) {
        let rows = first..end.min(first + together);
        sources.extend(some_sources(modules, reading, rows)?);
    }
    Ok(sources)
}

fn some_sources(
    modules: &Modules,
    reading: &Reading,
    rows: Range<usize>,
) -> Result<Vec<TokenSources>> {
    let (device, b) = (&modules.device, rows.len());
    let (network, gpt2) = (&modules.captions.prefix_mapper, &modules.captions.gpt2);
    let leaf = nn::rows_to_tensor(&vec![reading.embedding; b], device).require_grad(); // [B, clip_dim]
    let read_by_mapper = match reading.normalize {
        true => nn::normalize(leaf.clone()),
        false => leaf.clone(),
    };
    let (mut in_mapper, mut in_gpt2) = (Trace::default(), Trace::default());
    let prefix = forward::mapper(network, read_by_mapper, &mut in_mapper); // [B, P, C]
    let [_, p, c] = prefix.dims();
    let words = &reading.tokens[..rows.end - 1];
    let embedded = match words.len() {
        0 => prefix,
        t => {
            let read = gpt2.embed_tokens(ids(words, device).unsqueeze_dim(0)); // [1, T, C]
            Tensor::cat(vec![prefix, read.expand([b, t, c])], 1) // [B, P + T, C]
        }
    };
    let [_, length, _] = embedded.dims();
    let hidden = forward::gpt2(gpt2, embedded, &mut in_gpt2); // [B, P + T, C]
    // Each row looks at another position: the one that its token is predicted from.
    let places: Vec<usize> = rows.clone().map(|row| p + row - 1).collect();
    let flat: Vec<u32> = (places.iter().enumerate())
        .map(|(row, &place)| (row * length + place) as u32)
        .collect();
    let hidden = hidden
        .reshape([b * length, c])
        .select(0, ids(&flat, device)); // [B, C]
    let log_probs = log_softmax(gpt2.logits(hidden), 1); // [B, V]
    let targets = ids(&reading.tokens[rows], device).reshape([b, 1]);
    let gradients = (log_probs.clone().gather(1, targets)).sum().backward();

    let gradient = leaf
        .grad(&gradients)
        .context("the embedding has no gradient")?; // [B, clip_dim]
    let plain = gradient.device();
    let start = one_hot(&places, length, &plain); // [B, P + T]
    let positions = in_gpt2.relevance(start, &gradients)?; // [B, P + T]
    let of_embedding = match network {
        Mapper::Transformer(mapper) => {
            let prefix = positions.clone().narrow(1, 0, p);
            let none = Tensor::zeros([b, mapper.clip_length], &plain);
            let start = Tensor::cat(vec![none, prefix], 1); // [B, K + P]
            let relevance = in_mapper.relevance(start, &gradients)?;
            split(relevance.narrow(1, 0, mapper.clip_length))?
        }
        Mapper::Mlp(_) | Mapper::Linear(_) => vec![Vec::new(); b],
    };
    let log_probs = split(log_probs.inner())?.into_iter();
    let rest = split(gradient)?
        .into_iter()
        .zip(split(positions)?)
        .zip(of_embedding);
    Ok((log_probs.zip(rest).zip(places))
        .map(
            |((log_probs, ((gradient, mut positions), embedding)), place)| {
                positions.truncate(place + 1);
                TokenSources {
                    log_probs,
                    gradient,
                    positions,
                    embedding,
                }
            },
        )
        .collect())
}

/// Relevance of an image's patches, row by row of the image, for each of the gradients of its embedding.
///
/// The embedding is one vector, so that a token's log-probability reaches the image by that gradient alone: CLIP's target is
/// its embedding times the gradient.
///
/// # Shapes
/// - `pixel_values`: `[1, 3, n, n]`; `gradients`: `[clip_dim]` each; returns `[G*G]` for each
///
/// # Errors
/// When the tower is no vision transformer, or the device fails.
pub fn patches(
    network: &Clip,
    pixel_values: &Tensor<4>,
    gradients: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>> {
    let vit = network.vision_model.as_ref();
    let vit = vit.context("CLIP's image tower is no vision transformer")?;
    let [positions, c] = vit.embeddings.position_embedding.weight.dims();
    let heads = vit
        .encoder
        .layers
        .first()
        .map_or(1, |layer| layer.self_attn.num_heads);
    let kept = positions * (20 * c + 4 * heads * positions) * vit.encoder.layers.len();
    let together = (MOST_KEPT / kept.max(1)).max(1);
    let device = pixel_values.device();
    let mut found = Vec::with_capacity(gradients.len());
    for gradients in gradients.chunks(together) {
        let b = gradients.len();
        let rows: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
        let gradients = nn::rows_to_tensor(&rows, &device); // [B, clip_dim]
        let mut trace = Trace::default();
        let pixel_values = pixel_values.clone().repeat_dim(0, b);
        let embedding = forward::clip(network, pixel_values, &mut trace)?; // [B, clip_dim]
        let gradients = (embedding * gradients).sum().backward();
        let plain = device.clone().without_autodiff();
        let start = one_hot(&vec![0; b], positions, &plain); // the class token's row
        let relevance = trace.relevance(start, &gradients)?; // [B, 1 + G*G]
        found.extend(split(relevance.narrow(1, 1, positions - 1))?);
    }
    Ok(found)
}

fn ids(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_ints(ids.as_slice(), device)
}

/// Rows with a 1 in the given place each.
fn one_hot(places: &[usize], width: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0_f32; places.len() * width];
    for (row, &place) in places.iter().enumerate() {
        values[row * width + place] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [places.len(), width]), device)
}

/// The rows of a matrix on the host.
pub(super) fn split(matrix: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let [rows, width] = matrix.dims();
    if width == 0 {
        return Ok(vec![Vec::new(); rows]);
    }
    Ok(read(matrix)?.chunks(width).map(<[f32]>::to_vec).collect())
}
