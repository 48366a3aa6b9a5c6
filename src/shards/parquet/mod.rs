//! Parquet: images in columns, and records as rows.

mod input;
mod output;

pub(super) use input::read;
pub(super) use output::ParquetFile;
