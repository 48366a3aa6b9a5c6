//! Training, with burn's learner.

pub mod ablate;
mod adamw;
pub mod caption;
pub mod checkpoints;
pub mod config;
pub mod curves;
pub mod dashboard;
pub mod dataset;
mod embedder;
pub mod fit;
mod frozen;
pub mod lars;
pub mod learner;
pub mod log;
pub mod loss;
pub mod metrics;
pub mod optimizer;
pub mod part;
pub mod precision;
pub mod run;
pub mod schedule;
mod screen;
pub mod space;
pub mod status;
mod test_captions;
pub mod tune;
