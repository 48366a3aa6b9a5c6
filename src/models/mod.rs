//! The networks of the captioner and the encoders it is compared with: a file a box of the figure, each with its
//! configuration and what must hold of it.
//!
//! ```text
//! clip/            CLIP: vision transformer or ResNet, text transformer, projections
//! mapper           embedding -> prefix: linear, MLP or transformer (ClipCap)
//! gpt2/            GPT-2 with its cache
//! caption_model    mapper and GPT-2 together, as they are trained
//! encoder          what any frozen image encoder does
//! resnet18, autoencoder, pca    the encoders of the evaluation part
//! ```

pub mod autoencoder;
pub mod caption_model;
pub mod clip;
pub mod encoder;
pub mod gpt2;
pub mod mapper;
pub mod pca;
pub mod resnet18;
pub(crate) mod sizes;
