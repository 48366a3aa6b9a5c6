//! The arithmetic of captioning and training on the CPU, written for its vector instructions: slices of float32 in, slices out.
//!
//! Every kernel is held to plain loops by its tests, on odd shapes: vector operations and matrix products on each instruction
//! set that the processor has, what is made of them on the best one.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod convolution;
mod dot;
pub mod loss;
pub mod matrix;
pub mod max_pool;
pub mod memory;
pub mod norm;
pub mod reduce;
pub mod simd;
pub mod threads;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::Activation;
pub use attention::Masking;
