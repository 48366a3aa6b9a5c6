//! What is written of each image of a shard.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serializer;
use serde::ser::SerializeMap;

#[cfg(feature = "parquet")]
use super::parquet::ParquetFile;
use super::samples::Refused;
use crate::captioner::Caption;
use crate::files::AtomicFile;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// Apache Parquet, with embeddings as lists of a fixed size.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// What names of its files end with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => ".jsonl",
            #[cfg(feature = "parquet")]
            Self::Parquet => ".parquet",
        }
    }
}

/// What records have besides key, member and error. Every record of a file has the same, empty where it has no value, so that
/// each file alone tells the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Rank, caption and score, and what else captions were ordered by.
    Captions { similarity: bool, consensus: bool },
    /// So many values.
    Embedding { width: usize },
}

/// A caption or an embedding of an image, or why there is none.
pub(super) struct Record {
    pub key: String,
    pub member: String,
    pub content: Content,
}

pub(super) enum Content {
    Caption { rank: usize, caption: Caption },
    Embedding(Vec<f32>),
    Error(Refused),
}

/// A file of records that is there once it is whole.
pub(super) enum RecordFile {
    Jsonl(AtomicFile, Columns),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetFile>),
}

impl RecordFile {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(file: AtomicFile, format: Format, columns: Columns) -> Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(file, columns),
            #[cfg(feature = "parquet")]
            Format::Parquet => Self::Parquet(Box::new(ParquetFile::new(file, columns)?)),
        })
    }

    /// Adds records.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, records: &[Record]) -> Result<()> {
        match self {
            Self::Jsonl(file, columns) => {
                for record in records {
                    file.write_all(&json_line(record, *columns)?)
                        .context("records cannot be written")?;
                }
                Ok(())
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => file.write(records),
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the last of it cannot be written.
    pub fn commit(self) -> Result<()> {
        match self {
            Self::Jsonl(file, _) => file.commit(),
            #[cfg(feature = "parquet")]
            Self::Parquet(file) => file.commit(),
        }
    }
}

/// A record as one line of JSON. A float32 is the shortest text that reads back as it.
fn json_line(record: &Record, columns: Columns) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("key", &record.key)?;
    map.serialize_entry("member", &record.member)?;
    match columns {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            let (rank, caption) = match &record.content {
                Content::Caption { rank, caption } => (Some(rank), Some(caption)),
                _ => (None, None),
            };
            map.serialize_entry("rank", &rank)?;
            map.serialize_entry("caption", &caption.map(|found| &found.caption))?;
            map.serialize_entry("score", &caption.map(|found| found.score))?;
            if similarity {
                map.serialize_entry("similarity", &caption.and_then(|found| found.similarity))?;
            }
            if consensus {
                map.serialize_entry("consensus", &caption.and_then(|found| found.consensus))?;
            }
        }
        Columns::Embedding { .. } => {
            let embedding = match &record.content {
                Content::Embedding(embedding) => Some(embedding),
                _ => None,
            };
            map.serialize_entry("embedding", &embedding)?;
        }
    }
    let error = match &record.content {
        Content::Error(refused) => Some(&refused.reason),
        _ => None,
    };
    map.serialize_entry("error", &error)?;
    map.end()?;
    line.push(b'\n');
    Ok(line)
}
