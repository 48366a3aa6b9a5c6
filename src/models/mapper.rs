//! The network between CLIP and GPT-2: `clip_embedding [B, clip_dim] -> prefix [B, prefix_length, n_embd]`.
//!
//! All three kinds are ClipCap's, layer for layer (rmokady/CLIP_prefix_caption at 1ad805a: `train.py` for the MLP and
//! the transformer, `predict.py` for the linear one). ClipCap calls the mapper `clip_project`.
//!
//! Shape letters: `B` batch, `K` clip_length, `P` prefix_length, `T = K + P` positions, `C` n_embd.

use crate::models::gpt2::Gpt2Config;
use crate::models::sizes::{divides, layers, sized};
use anyhow::{Result, ensure};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::nn::{self, Activation, LayerNorm, Masking};

/// Kind and sizes of a mapper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapperConfig {
    pub kind: MapperKind,
    /// Width of the CLIP embedding.
    pub clip_dim: usize,
    /// Width of GPT-2, `C`.
    pub n_embd: usize,
    /// Prefix length: vectors that GPT-2 reads before the caption, `P`.
    pub prefix_length: usize,
}

/// What stands between the embedding and the prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum MapperKind {
    /// Two layers with tanh between them, the middle `n_embd * prefix_length / 2` wide.
    Mlp,
    /// One layer.
    Linear,
    /// A transformer that reads the embedding as `clip_length` vectors beside `prefix_length` learned ones.
    Transformer {
        /// `K`
        clip_length: usize,
        layers: usize,
        heads: usize,
    },
}

/// Turns a CLIP embedding into a prefix in GPT-2's embedding space.
#[derive(Module, Debug)]
pub enum Mapper {
    Mlp(MlpMapper),
    Linear(LinearMapper),
    Transformer(TransformerMapper),
}

/// `output(tanh(hidden(x)))`; ClipCap's `model.0` and `model.2`.
#[derive(Module, Debug)]
pub struct MlpMapper {
    pub hidden: Linear,
    pub output: Linear,
    prefix_length: usize,
}

/// A single layer.
#[derive(Module, Debug)]
pub struct LinearMapper {
    pub output: Linear,
    prefix_length: usize,
}

/// The last `prefix_length` positions of a transformer over both halves. It has no positional embedding and no final
/// norm: what tells the positions apart are the learned vectors themselves.
#[derive(Module, Debug)]
pub struct TransformerMapper {
    pub linear: Linear,
    pub prefix_const: Param<Tensor<2>>,
    pub transformer: Transformer,
    pub(crate) clip_length: usize,
}

/// The mapper's stack of pre-norm layers.
#[derive(Module, Debug)]
pub struct Transformer {
    pub layers: Vec<TransformerLayer>,
}

/// `x += attn(norm1(x)); x += mlp(norm2(x))`
#[derive(Module, Debug)]
pub struct TransformerLayer {
    pub norm1: LayerNorm,
    pub attn: MultiHeadAttention,
    pub norm2: LayerNorm,
    pub mlp: MlpTransformer,
}

/// Queries from one layer, keys and values from another, neither with a bias.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    pub to_queries: Linear,
    pub to_keys_values: Linear,
    pub project: Linear,
    pub(crate) heads: usize,
}

/// Two layers, the middle twice as wide, ReLU between them.
#[derive(Module, Debug)]
pub struct MlpTransformer {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl MapperConfig {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check_sizes(&self) -> Result<()> {
        sized("mapper.clip_dim", self.clip_dim)?;
        sized("mapper.n_embd", self.n_embd)?;
        sized("mapper.prefix_length", self.prefix_length)?;
        if let MapperKind::Transformer {
            clip_length,
            layers: count,
            heads,
        } = self.kind
        {
            sized("mapper.clip_length", clip_length)?;
            layers("mapper.layers", count)?;
            divides("the mapper's heads", heads, "n_embd", self.n_embd)?;
        }
        Ok(())
    }

    /// # Errors
    /// When the mapper does not fit the networks on either side of it.
    pub fn check(&self, clip_dim: usize, gpt2: &Gpt2Config) -> Result<()> {
        ensure!(
            self.clip_dim == clip_dim,
            "the mapper reads embeddings of {} values, but this CLIP gives {clip_dim}",
            self.clip_dim
        );
        ensure!(
            self.n_embd == gpt2.n_embd,
            "the mapper writes vectors of {} values, but this GPT-2 reads {}",
            self.n_embd,
            gpt2.n_embd
        );
        ensure!(
            (1..gpt2.n_positions).contains(&self.prefix_length),
            "prefix_length is {}, but must be between 1 and {}, for GPT-2's {} positions",
            self.prefix_length,
            gpt2.n_positions.saturating_sub(1),
            gpt2.n_positions
        );
        self.check_sizes()
    }

    /// Fresh weights, as PyTorch's defaults: uniform within `1/sqrt(inputs)`, `prefix_const` standard normal.
    pub fn init(&self, device: &Device) -> Mapper {
        let width = self.n_embd * self.prefix_length;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        match self.kind {
            MapperKind::Mlp => Mapper::Mlp(MlpMapper {
                hidden: linear(self.clip_dim, width / 2),
                output: linear(width / 2, width),
                prefix_length: self.prefix_length,
            }),
            MapperKind::Linear => Mapper::Linear(LinearMapper {
                output: linear(self.clip_dim, width),
                prefix_length: self.prefix_length,
            }),
            MapperKind::Transformer {
                clip_length,
                layers,
                heads,
            } => Mapper::Transformer(TransformerMapper {
                linear: linear(self.clip_dim, clip_length * self.n_embd),
                prefix_const: Initializer::Normal {
                    mean: 0.0,
                    std: 1.0,
                }
                .init([self.prefix_length, self.n_embd], device),
                transformer: Transformer {
                    layers: (0..layers)
                        .map(|_| self.init_layer(heads, device))
                        .collect(),
                },
                clip_length,
            }),
        }
    }

    fn init_layer(&self, heads: usize, device: &Device) -> TransformerLayer {
        let c = self.n_embd;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let unbiased = |output| LinearConfig::new(c, output).with_bias(false).init(device);
        let norm = || LayerNorm::new(c, 1e-5, device);
        TransformerLayer {
            norm1: norm(),
            attn: MultiHeadAttention {
                to_queries: unbiased(c),
                to_keys_values: unbiased(2 * c),
                project: linear(c, c),
                heads,
            },
            norm2: norm(),
            mlp: MlpTransformer {
                fc1: linear(c, 2 * c),
                fc2: linear(2 * c, c),
            },
        }
    }
}

impl Mapper {
    /// # Shapes
    /// - `clip_embedding`: `[B, clip_dim]`; returns the prefix, `[B, P, C]`
    pub fn forward(&self, clip_embedding: Tensor<2>) -> Tensor<3> {
        match self {
            Self::Mlp(mapper) => mapper.forward(clip_embedding),
            Self::Linear(mapper) => {
                unflatten(mapper.output.forward(clip_embedding), mapper.prefix_length)
            }
            Self::Transformer(mapper) => mapper.forward(clip_embedding),
        }
    }
}

impl MlpMapper {
    fn forward(&self, clip_embedding: Tensor<2>) -> Tensor<3> {
        let hidden = activation::tanh(nn::linear(&self.hidden, clip_embedding)); // [B, P C / 2]
        unflatten(nn::linear(&self.output, hidden), self.prefix_length) // [B, P, C]
    }
}

impl TransformerMapper {
    fn forward(&self, clip_embedding: Tensor<2>) -> Tensor<3> {
        let [b, _] = clip_embedding.dims();
        let [p, c] = self.prefix_const.dims();
        let read = unflatten(nn::linear(&self.linear, clip_embedding), self.clip_length); // [B, K, C]
        let learned = self.prefix_const.val().unsqueeze::<3>().expand([b, p, c]); // [B, P, C]
        let x = Tensor::cat(vec![read, learned], 1); // [B, T, C]
        let x = self.transformer.forward(x); // [B, T, C]
        x.narrow(1, self.clip_length, p) // [B, P, C]
    }
}

impl Transformer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}

impl TransformerLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

impl MultiHeadAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, c] = x.dims();
        let q = nn::linear(&self.to_queries, x.clone());
        let kv = nn::linear(&self.to_keys_values, x); // [B, T, 2 C]: keys, then values
        let k = kv.clone().narrow(2, 0, c);
        let v = kv.narrow(2, c, c);
        let attended = nn::attention(q, k, v, self.heads, Masking::None);
        nn::linear(&self.project, attended) // [B, T, C]
    }
}

impl MlpTransformer {
    /// `[B, T, C] -> [B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = nn::activate(Activation::Relu, nn::linear(&self.fc1, x)); // [B, T, 2 C]
        nn::linear(&self.fc2, hidden) // [B, T, C]
    }
}

/// `[B, length * C] -> [B, length, C]`
pub(crate) fn unflatten(x: Tensor<2>, length: usize) -> Tensor<3> {
    let [b, width] = x.dims();
    x.reshape([b, length, width / length])
}
