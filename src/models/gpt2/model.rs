//! Shape letters: `B` batch, `T` tokens, `C` n_embd, `H` heads, `D` head size, `V` vocab_size.

use crate::models::sizes::{divides, layers, positive, sized};
use anyhow::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::cache::{KvCache, LayerCache};
use crate::nn::{self, Activation, LayerNorm, Masking};

/// Sizes of GPT-2, under the checkpoint's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpt2Config {
    pub vocab_size: usize,
    /// Longest sequence in positions, prefix and caption together.
    pub n_positions: usize,
    /// Width, `C`.
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_head: usize,
    /// Width of the MLP's middle; `4 n_embd` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_inner: Option<usize>,
    pub activation_function: Activation,
    pub layer_norm_epsilon: f64,
    /// Whether [`Gpt2::logits`] multiplies by `wte`, as all of OpenAI's do, or by a matrix of its own.
    #[serde(default = "tied", skip_serializing_if = "is_tied")]
    pub tie_word_embeddings: bool,
}

fn tied() -> bool {
    true
}

fn is_tied(tie_word_embeddings: &bool) -> bool {
    *tie_word_embeddings
}

/// The transformer, and its head where that is not tied to `wte`.
#[derive(Module, Debug)]
pub struct Gpt2 {
    pub wte: Embedding,
    pub wpe: Embedding,
    pub h: Vec<Block>,
    pub ln_f: LayerNorm,
    /// `[V, C]`, like `wte`.
    pub lm_head: Option<Param<Tensor<2>>>,
}

/// `x += attn(ln_1(x)); x += mlp(ln_2(x))`
#[derive(Module, Debug)]
pub struct Block {
    pub ln_1: LayerNorm,
    pub attn: Attention,
    pub ln_2: LayerNorm,
    pub mlp: Mlp,
}

/// Causal self-attention with one projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    pub c_attn: Conv1D,
    pub c_proj: Conv1D,
    pub(crate) n_head: usize,
}

/// Two layers with the activation between them.
#[derive(Module, Debug)]
pub struct Mlp {
    pub c_fc: Conv1D,
    pub c_proj: Conv1D,
    #[module(skip)]
    pub(crate) activation: Activation,
}

/// A linear layer whose checkpoint holds the weight as `[input, output]`. It has a type of its own so that importing
/// PyTorch weights, which transposes what is called `Linear`, leaves it alone: `attn.c_proj` is square, and a wrong
/// transposition would go unnoticed.
#[derive(Module, Debug)]
pub struct Conv1D {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
}

impl Gpt2Config {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check(&self) -> Result<()> {
        sized("gpt2.vocab_size", self.vocab_size)?;
        sized("gpt2.n_positions", self.n_positions)?;
        sized("gpt2.n_embd", self.n_embd)?;
        sized("gpt2.n_inner", self.n_inner.unwrap_or(self.n_embd))?;
        layers("gpt2.n_layer", self.n_layer)?;
        divides("gpt2.n_head", self.n_head, "n_embd", self.n_embd)?;
        positive("gpt2.layer_norm_epsilon", self.layer_norm_epsilon)
    }

    /// GPT-2 small, 124 million parameters.
    pub fn small() -> Self {
        Self {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: Activation::GeluNew,
            layer_norm_epsilon: 1e-5,
            tie_word_embeddings: true,
        }
    }

    /// Fresh weights: N(0, 0.02), residual projections divided by `sqrt(2 n_layer)`, biases zero.
    pub fn init(&self, device: &Device) -> Gpt2 {
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let embedding = |count, std| {
            EmbeddingConfig::new(count, self.n_embd)
                .with_initializer(normal(std))
                .init(device)
        };
        Gpt2 {
            wte: embedding(self.vocab_size, 0.02),
            wpe: embedding(self.n_positions, 0.01),
            h: (0..self.n_layer).map(|_| self.init_block(device)).collect(),
            ln_f: self.layer_norm(device),
            lm_head: (!self.tie_word_embeddings)
                .then(|| normal(0.02).init([self.vocab_size, self.n_embd], device)),
        }
    }

    fn layer_norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.n_embd, self.layer_norm_epsilon, device)
    }

    fn init_block(&self, device: &Device) -> Block {
        let c = self.n_embd;
        let inner = self.n_inner.unwrap_or(4 * c);
        let residual = 0.02 / (2.0 * self.n_layer as f64).sqrt();
        let layer = |input, output, std| Conv1D {
            weight: Initializer::Normal { mean: 0.0, std }.init([input, output], device),
            bias: Initializer::Zeros.init([output], device),
        };
        Block {
            ln_1: self.layer_norm(device),
            attn: Attention {
                c_attn: layer(c, 3 * c, 0.02),
                c_proj: layer(c, c, residual),
                n_head: self.n_head,
            },
            ln_2: self.layer_norm(device),
            mlp: Mlp {
                c_fc: layer(c, inner, 0.02),
                c_proj: layer(inner, c, residual),
                activation: self.activation_function,
            },
        }
    }

    /// An empty cache with room for `positions`.
    pub fn cache(&self, positions: usize) -> KvCache {
        KvCache::new(self.n_layer, positions)
    }
}

impl Gpt2 {
    /// Token embeddings without positions. `[B, T] -> [B, T, C]`
    pub fn embed_tokens(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.wte.forward(tokens)
    }

    /// Final hidden states of a whole sequence. `[B, T, C] -> [B, T, C]`
    ///
    /// The attention is causal, so padding at the end has no effect on what stands before it.
    pub fn forward(&self, embeddings: Tensor<3>) -> Tensor<3> {
        let x = self.add_positions(embeddings, 0);
        let x = self
            .h
            .iter()
            .fold(x, |x, block| block.forward(x, None, None));
        self.ln_f.forward(x)
    }

    /// Next-token scores of hidden states, in the head's type. `[B, C] -> [B, V]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = self.head().transpose(); // [C, V]
        burn::tensor::module::linear(hidden.cast(head.dtype()), head, None)
    }

    /// What hidden states are multiplied by, `[V, C]`.
    pub fn head(&self) -> Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.wte.weight).val()
    }

    /// Reads the first positions into an empty cache and returns the last one's hidden state.
    /// `[B, T, C] -> [B, C]`
    pub fn prefill(&self, embeddings: Tensor<3>, cache: &mut KvCache) -> Tensor<2> {
        let [_, t, _] = embeddings.dims();
        let bias = cache.bias(t, &embeddings.device());
        let x = self.add_positions(embeddings, cache.len());
        let x = (self.h.iter().zip(&mut cache.layers)).fold(x, |x, (block, layer)| {
            block.forward(x, Some(layer), bias.clone())
        });
        let last = x.narrow(1, t - 1, 1).squeeze_dim::<2>(1); // [B, C]
        self.ln_f.forward(last)
    }

    /// Reads one more token a row after the cached positions. `[B] -> [B, C]`
    pub fn extend(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2> {
        let embeddings = self.embed_tokens(tokens.unsqueeze_dim(1)); // [B, 1, C]
        self.prefill(embeddings, cache)
    }

    /// What the blocks read, in their type.
    pub(crate) fn add_positions(&self, embeddings: Tensor<3>, first: usize) -> Tensor<3> {
        let [_, t, _] = embeddings.dims();
        let positions =
            Tensor::<1, Int>::arange(first as i64..(first + t) as i64, &embeddings.device());
        let x = embeddings + self.wpe.forward(positions.unsqueeze()); // [B, T, C] + [1, T, C]
        match self.h.first() {
            Some(block) => x.cast(block.ln_1.gamma.val().dtype()),
            None => x,
        }
    }
}

impl Block {
    fn forward(
        &self,
        x: Tensor<3>,
        cache: Option<&mut LayerCache>,
        bias: Option<Tensor<4>>,
    ) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.ln_1.forward(x), cache, bias);
        x.clone() + self.mlp.forward(self.ln_2.forward(x))
    }
}

impl Attention {
    /// `x`: the new positions only, `[B, T, C]`; `bias`: what hides positions of the cache, `[1, 1, 1, L]`; returns
    /// `[B, T, C]`.
    fn forward(
        &self,
        x: Tensor<3>,
        cache: Option<&mut LayerCache>,
        bias: Option<Tensor<4>>,
    ) -> Tensor<3> {
        let qkv = self.c_attn.forward(x); // [B, T, 3 C]
        let [q, k, v]: [Tensor<3>; 3] = qkv
            .chunk(3, 2)
            .try_into()
            .expect("a third each for queries, keys and values"); // 3 x [B, T, C]
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v), // [B, past + T, C]
            None => (k, v),
        };
        let attended = match bias {
            Some(_) => nn::reference::attention_with_bias(q, k, v, self.n_head, bias),
            None => nn::attention(q, k, v, self.n_head, Masking::Causal),
        };
        self.c_proj.forward(attended) // [B, T, C]
    }
}

impl Mlp {
    /// `[B, T, C] -> [B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = nn::activate(self.activation, self.c_fc.forward(x)); // [B, T, 4 C]
        self.c_proj.forward(hidden) // [B, T, C]
    }
}

impl Conv1D {
    /// `[B, T, input] -> [B, T, output]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        nn::affine(x, self.weight.val(), Some(self.bias.val()))
    }
}
