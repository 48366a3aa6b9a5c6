//! CLIP's two transformers, the mapper and GPT-2 as captioning runs them on the CPU: the same networks as the modules
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
mod text;
mod vision;

pub use cache::Cache;
pub use gpt2::{Gpt2, Gpt2Step};
pub use mapper::Mapper;
pub use text::Text;
pub use vision::Vision;

use crate::device::Precision;

/// Of the matrix between hidden states and logits, which the likeliest word is chosen by: beside bfloat16 in float32, with
/// weights in float16.
fn of_logits(precision: Precision) -> Precision {
    match precision {
        Precision::Bf16 => Precision::F16,
        other => other,
    }
}
