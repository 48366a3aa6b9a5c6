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
#[cfg(feature = "report")]
mod report;
pub mod resume;
mod retrieval;
pub mod samples;
pub mod settings;
pub mod status;
pub mod summary;
mod test_captions;

pub use builder::Trainer;
