//! What is written of each image of a shard.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

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
                let mut lines = String::new();
                for record in records {
                    lines += &json_line(record, *columns)?;
                    lines.push('\n');
                }
                file.write_all(lines.as_bytes())
                    .context("records cannot be written")
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

fn json_line(record: &Record, columns: Columns) -> Result<String> {
    let mut line = Map::new();
    line.insert("key".into(), record.key.as_str().into());
    line.insert("member".into(), record.member.as_str().into());
    match columns {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            let caption = match &record.content {
                Content::Caption { rank, caption } => Some((*rank, caption)),
                _ => None,
            };
            let mut add = |name: &str, value: Option<Value>| {
                line.insert(name.into(), value.unwrap_or_default());
            };
            add("rank", caption.map(|(rank, _)| rank.into()));
            add(
                "caption",
                caption.map(|(_, found)| found.caption.as_str().into()),
            );
            add("score", caption.map(|(_, found)| json!(found.score)));
            if similarity {
                add(
                    "similarity",
                    caption.map(|(_, found)| json!(found.similarity)),
                );
            }
            if consensus {
                add(
                    "consensus",
                    caption.map(|(_, found)| json!(found.consensus)),
                );
            }
        }
        Columns::Embedding { .. } => {
            let embedding = match &record.content {
                Content::Embedding(embedding) => json!(embedding),
                _ => Value::Null,
            };
            line.insert("embedding".into(), embedding);
        }
    }
    let error = match &record.content {
        Content::Error(refused) => refused.reason.as_str().into(),
        _ => Value::Null,
    };
    line.insert("error".into(), error);
    serde_json::to_string(&Value::Object(line)).context("a record cannot be written as JSON")
}
