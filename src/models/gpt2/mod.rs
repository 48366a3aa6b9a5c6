//! GPT-2 (Radford et al. 2019), the language model that reads prefix and caption. Field names are the checkpoint's
//! (`modeling_gpt2.py`, transformers 4.57); the head is tied to `wte` unless the config says otherwise.

mod cache;
mod loss;
mod model;

pub use cache::{KvCache, LayerCache};
pub use loss::{cross_entropy, smoothed_cross_entropy};
pub use model::{Attention, Block, Conv1D, Gpt2, Gpt2Config, Mlp};
