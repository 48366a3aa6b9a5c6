//! Training, with burn's learner.

pub mod caption;
pub mod checkpoints;
pub mod config;
pub mod curves;
pub mod dashboard;
pub mod dataset;
pub mod fit;
pub mod lars;
pub mod learner;
pub mod log;
pub mod loss;
pub mod metrics;
pub mod optimizer;
pub mod run;
pub mod schedule;
pub mod space;
pub mod tune;
