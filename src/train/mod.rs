//! Training, with burn's learner.

pub mod caption;
pub mod config;
pub mod dashboard;
pub mod fit;
pub mod learner;
pub mod log;
pub mod loss;
pub mod run;
pub mod schedule;
