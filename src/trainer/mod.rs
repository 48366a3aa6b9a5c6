//! A run of burn's learner, whatever is trained: its folder, metrics, log, checkpoints, dashboard, optimizers, schedules.

mod adamw;
pub mod checkpoints;
#[cfg(feature = "report")]
pub mod curves;
pub mod dashboard;
pub mod fit;
pub mod inputs;
pub mod lars;
pub mod log;
pub mod metrics;
pub mod optimizer;
pub mod precision;
pub mod run;
pub mod schedule;
mod screen;
pub mod tensorboard;
