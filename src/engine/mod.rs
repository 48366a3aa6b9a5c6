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

/// How the CPU keeps weights in memory. Its arithmetic is in `f32` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// As they are.
    F32,
    /// Half of it: 11 significant bits a weight.
    F16,
    /// A quarter: 8 bits a weight and a factor a column.
    Int8,
}
