//! The pre-norm transformer encoder that CLIP's two towers share.
//!
//! Shape letters: `B` batch, `T` positions, `C` hidden_size.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::{self, Activation, LayerNorm, Masking};

/// Sizes of one tower's encoder.
#[derive(Clone, Copy, Debug)]
pub struct EncoderConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub masking: Masking,
}

/// Multi-head self-attention with four separate projections, each with a bias.
#[derive(Module, Debug)]
pub struct Attention {
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub out_proj: Linear,
    pub(crate) num_heads: usize,
    #[module(skip)]
    pub(crate) masking: Masking,
}

/// `x += self_attn(layer_norm1(x)); x += mlp(layer_norm2(x))`
#[derive(Module, Debug)]
pub struct EncoderLayer {
    pub self_attn: Attention,
    pub layer_norm1: LayerNorm,
    pub mlp: Mlp,
    pub layer_norm2: LayerNorm,
}

/// Two linear layers with the configured activation between them.
#[derive(Module, Debug)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    #[module(skip)]
    pub(crate) hidden_act: Activation,
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Encoder {
    pub layers: Vec<EncoderLayer>,
}

impl EncoderConfig {
    pub fn init(&self, device: &Device) -> Encoder {
        Encoder {
            layers: (0..self.num_hidden_layers)
                .map(|_| self.init_layer(device))
                .collect(),
        }
    }

    pub fn layer_norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.hidden_size, self.layer_norm_eps, device)
    }

    fn init_layer(&self, device: &Device) -> EncoderLayer {
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let c = self.hidden_size;
        EncoderLayer {
            self_attn: Attention {
                q_proj: linear(c, c),
                k_proj: linear(c, c),
                v_proj: linear(c, c),
                out_proj: linear(c, c),
                num_heads: self.num_attention_heads,
                masking: self.masking,
            },
            layer_norm1: self.layer_norm(device),
            mlp: Mlp {
                fc1: linear(c, self.intermediate_size),
                fc2: linear(self.intermediate_size, c),
                hidden_act: self.hidden_act,
            },
            layer_norm2: self.layer_norm(device),
        }
    }
}

impl Encoder {
    /// `[B, T, C] -> [B, T, C]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}

impl EncoderLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let attended = nn::attention(
            nn::linear(&self.q_proj, x.clone()),
            nn::linear(&self.k_proj, x.clone()),
            nn::linear(&self.v_proj, x),
            self.num_heads,
            self.masking,
        );
        nn::linear(&self.out_proj, attended) // [B, T, C]
    }
}

impl Mlp {
    /// `[B, T, C] -> [B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = nn::activate(self.hidden_act, nn::linear(&self.fc1, x)); // [B, T, intermediate_size]
        nn::linear(&self.fc2, hidden) // [B, T, C]
    }
}
