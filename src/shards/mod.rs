//! Captions and embeddings of WebDataset shards: a file of records a shard, which is there once it is whole.
//!
//! ```text
//! 00000.tar --walk--> samples --crops--> batches --captioner--> records --> 00000.jsonl, 00000.stats.json
//!            a thread that is one batch ahead
//! ```
//!
//! A shard is read once, from its beginning to its end, and no more of it is in memory than the images of two batches, however
//! long it is. What becomes of a shard depends on it and the settings alone: batches do not span shards. A run that was killed
//! is started again with the same command; shards whose file is there are passed over.

mod find;
mod loading;
#[cfg(feature = "parquet")]
mod parquet;
mod records;
mod run;
mod samples;
mod settings;
mod stats;
mod task;

pub use find::{Job, ShardFile, Share, check_names, find, jobs};
pub use records::{Columns, Format};
pub use run::{Outcome, Runner};
pub use settings::Settings;
pub use stats::{Stats, Status};
pub use task::Task;
