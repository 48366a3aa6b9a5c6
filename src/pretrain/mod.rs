//! Training encoders and language models from scratch. The shipped sample model was made with it.

pub mod augment;
pub mod clip;
mod config;
pub mod contrastive;
mod data;
pub mod encoder;
pub mod gpt2;
pub mod output;
pub mod run;
pub mod sample;
mod sizes;
pub mod view_loss;
