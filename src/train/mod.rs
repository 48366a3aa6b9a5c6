//! Training a captioner: its data, its learner, its run.

mod builder;
pub mod caption;
mod cider;
pub mod config;
pub mod dataset;
mod embedder;
mod frozen;
pub mod learner;
pub mod part;
pub mod resume;
pub mod status;
mod test_captions;

pub use builder::Trainer;
