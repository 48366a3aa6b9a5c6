//! CLIP's vision transformer, the mapper and GPT-2 with their attention in the open: what [`crate::models`] computes, layer by
//! layer, while a [`Trace`] keeps the attention.
//!
//! Shape letters: `B` rows, `T` positions, `K` clip_length, `P` prefix_length, `C` width.

use anyhow::{Context, Result};
use burn::tensor::Tensor;

use super::trace::Trace;
use crate::models::clip::Clip;
use crate::models::gpt2::Gpt2;
use crate::models::mapper::{Mapper, TransformerMapper, unflatten};
use crate::nn::{self, Masking};

/// [`Clip::encode_image`] of a vision transformer. `[B, 3, n, n] -> [B, clip_dim]`
///
/// # Errors
/// When the tower is another.
pub(super) fn clip(clip: &Clip, pixel_values: Tensor<4>, trace: &mut Trace) -> Result<Tensor<2>> {
    let tower = clip
        .vision_model
        .as_ref()
        .zip(clip.visual_projection.as_ref());
    let (vit, projection) = tower.context("CLIP's image tower is no vision transformer")?;
    let mut x = vit
        .pre_layernorm
        .forward(vit.embeddings.forward(pixel_values)); // [B, 1 + G*G, C]
    for layer in &vit.encoder.layers {
        let (attn, normed) = (&layer.self_attn, layer.layer_norm1.forward(x.clone()));
        let parts = [&attn.q_proj, &attn.k_proj, &attn.v_proj];
        let parts = parts.map(|part| nn::linear(part, normed.clone()));
        let attended = trace.attend(parts, attn.num_heads, attn.masking);
        let x1 = x + nn::linear(&attn.out_proj, attended);
        x = x1.clone() + layer.mlp.forward(layer.layer_norm2.forward(x1));
    }
    let class = x.narrow(1, 0, 1).squeeze_dim::<2>(1); // [B, C]
    Ok(nn::linear(projection, vit.post_layernorm.forward(class)))
}

/// [`Mapper::forward`]. `[B, clip_dim] -> [B, P, C]`
///
/// Of a transformer the positions are the `K` vectors of the embedding, then the `P` learned ones; the others have no attention.
pub(super) fn mapper(mapper: &Mapper, clip_embedding: Tensor<2>, trace: &mut Trace) -> Tensor<3> {
    match mapper {
        Mapper::Transformer(mapper) => transformer_mapper(mapper, clip_embedding, trace),
        Mapper::Mlp(_) | Mapper::Linear(_) => mapper.forward(clip_embedding),
    }
}

fn transformer_mapper(
    mapper: &TransformerMapper,
    clip_embedding: Tensor<2>,
    trace: &mut Trace,
) -> Tensor<3> {
    let [b, _] = clip_embedding.dims();
    let [p, c] = mapper.prefix_const.dims();
    let read = unflatten(
        nn::linear(&mapper.linear, clip_embedding),
        mapper.clip_length,
    ); // [B, K, C]
    let learned = mapper.prefix_const.val().unsqueeze::<3>().expand([b, p, c]); // [B, P, C]
    let mut x = Tensor::cat(vec![read, learned], 1); // [B, K + P, C]
    for layer in &mapper.transformer.layers {
        let (attn, normed) = (&layer.attn, layer.norm1.forward(x.clone()));
        let q = nn::linear(&attn.to_queries, normed.clone());
        let kv = nn::linear(&attn.to_keys_values, normed); // [B, K + P, 2 C]: keys, then values
        let (k, v) = (kv.clone().narrow(2, 0, c), kv.narrow(2, c, c));
        let attended = trace.attend([q, k, v], attn.heads, Masking::None);
        let x1 = x + nn::linear(&attn.project, attended);
        x = x1.clone() + layer.mlp.forward(layer.norm2.forward(x1));
    }
    x.narrow(1, mapper.clip_length, p)
}

/// [`Gpt2::forward`]. `[B, T, C] -> [B, T, C]`
pub(super) fn gpt2(gpt2: &Gpt2, embeddings: Tensor<3>, trace: &mut Trace) -> Tensor<3> {
    let mut x = gpt2.add_positions(embeddings, 0);
    let [_, _, c] = x.dims();
    for block in &gpt2.h {
        let qkv = block.attn.c_attn.forward(block.ln_1.forward(x.clone())); // [B, T, 3 C]
        let parts = [0, 1, 2].map(|part| qkv.clone().narrow(2, part * c, c));
        let attended = trace.attend(parts, block.attn.n_head, Masking::Causal);
        let x1 = x + block.attn.c_proj.forward(attended);
        x = x1.clone() + block.mlp.forward(block.ln_2.forward(x1));
    }
    gpt2.ln_f.forward(x)
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Distribution, Tensor};

    use super::*;
    use crate::models::clip::{ClipConfig, ClipVisionConfig};
    use crate::models::gpt2::Gpt2Config;
    use crate::models::mapper::{MapperConfig, MapperKind};
    use crate::nn::Activation;

    fn close<const D: usize>(open: Tensor<D>, usual: Tensor<D>) {
        let [open, usual] = [open, usual].map(|x| x.into_data().iter::<f32>().collect::<Vec<_>>());
        let largest = usual
            .iter()
            .fold(0.0_f32, |largest, x| largest.max(x.abs()));
        assert_eq!(open.len(), usual.len());
        assert!(largest > 0.0);
        for (open, usual) in open.iter().zip(&usual) {
            assert!((open - usual).abs() < 1e-4 * largest, "{open} {usual}");
        }
    }

    fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn the_networks_in_the_open_compute_what_they_always_do() {
        let device = Device::flex().autodiff();
        let vision = ClipVisionConfig {
            hidden_size: 24,
            intermediate_size: 48,
            num_hidden_layers: 3,
            num_attention_heads: 3,
            image_size: 32,
            patch_size: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        };
        let config = ClipConfig {
            vision: vision.into(),
            text: None,
            projection_dim: 20,
        };
        let network = config.init(&device).no_grad();
        let pixels = noise([2, 3, 32, 32], &device);
        let open = clip(&network, pixels.clone(), &mut Trace::default()).unwrap();
        close(open, network.encode_image(pixels));

        let transformer = MapperKind::Transformer {
            clip_length: 3,
            layers: 2,
            heads: 4,
        };
        for kind in [transformer, MapperKind::Mlp, MapperKind::Linear] {
            let config = MapperConfig {
                kind,
                clip_dim: 20,
                n_embd: 16,
                prefix_length: 5,
            };
            let (network, x) = (config.init(&device).no_grad(), noise([2, 20], &device));
            let open = mapper(&network, x.clone(), &mut Trace::default());
            close(open, network.forward(x));
        }

        let config = Gpt2Config {
            vocab_size: 50,
            n_positions: 12,
            n_embd: 16,
            n_layer: 3,
            n_head: 4,
            ..Gpt2Config::small()
        };
        let (network, x) = (config.init(&device).no_grad(), noise([2, 9, 16], &device));
        let logits = |hidden: Tensor<3>| network.logits(hidden.reshape([18, 16]));
        let open = gpt2(&network, x.clone(), &mut Trace::default());
        close(logits(open), logits(network.forward(x)));
    }
}
