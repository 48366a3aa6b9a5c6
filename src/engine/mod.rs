//! CLIP's vision transformer, the mapper and GPT-2 as captioning runs them on the CPU: the same networks as the modules
//! they are made from, with weights packed once for [`cpu_kernels`] and no tensors in between.
//!
//! The modules stay what trains, what GPUs run, and what the tests hold this to.
//!
//! Shape letters: `B` batch, `T` positions, `C` width, `V` vocabulary. Activations are row-major slices.

mod block;
mod cache;
mod gpt2;
mod layer;
mod mapper;
mod vision;

pub use cache::Cache;
pub use gpt2::{Gpt2, Gpt2Step};
pub use mapper::Mapper;
pub use vision::Vision;

/// The type of weights, and of the arithmetic of matrix products with them. All else is in float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// Products in float32.
    F32,
    /// Weights in float16, products in float32.
    F16,
    /// Both factors in bfloat16, sums in float32.
    Bf16,
    /// Both factors in int8, sums in int32: weights with a scale for each output, activations quantized as they come with a
    /// scale and a zero point for each position.
    Int8,
}

impl WeightType {
    /// Of the matrix between hidden states and logits, which the likeliest word is chosen by: beside bfloat16 in float32, with
    /// weights in float16.
    fn of_logits(self) -> Self {
        match self {
            Self::Bf16 => Self::F16,
            other => other,
        }
    }
}
