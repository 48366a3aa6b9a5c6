//! Records as rows of a Parquet file.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, StringBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::captioner::Caption;
use crate::files::AtomicFile;
use crate::shards::records::{Columns, Content, Record};

/// Rows of a group, which is in memory until it is whole.
const GROUP: usize = 4096;

/// A Parquet file that is there once it is whole.
pub(in crate::shards) struct ParquetFile {
    writer: ArrowWriter<AtomicFile>,
    schema: SchemaRef,
    columns: Columns,
}

impl ParquetFile {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(file: AtomicFile, columns: Columns) -> Result<Self> {
        let schema = Arc::new(schema(columns)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
        Ok(Self {
            writer,
            schema,
            columns,
        })
    }

    /// Adds records.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, records: &[Record]) -> Result<()> {
        let text = |get: &dyn Fn(&Record) -> Option<&str>| -> ArrayRef {
            let mut builder = StringBuilder::new();
            records
                .iter()
                .for_each(|record| builder.append_option(get(record)));
            Arc::new(builder.finish())
        };
        let mut arrays = vec![
            text(&|record| Some(&record.key)),
            text(&|record| Some(&record.member)),
        ];
        match self.columns {
            Columns::Captions {
                similarity,
                consensus,
            } => {
                let mut ranks = UInt32Builder::new();
                for record in records {
                    ranks.append_option(caption(record).map(|(rank, _)| rank as u32));
                }
                arrays.push(Arc::new(ranks.finish()));
                arrays.push(text(&|record| {
                    caption(record).map(|(_, found)| found.caption.as_str())
                }));
                arrays.push(numbers(records, |found| Some(found.score)));
                if similarity {
                    arrays.push(numbers(records, |found| found.similarity));
                }
                if consensus {
                    arrays.push(numbers(records, |found| found.consensus));
                }
            }
            Columns::Embedding { width } => arrays.push(embeddings(records, width)?),
        }
        arrays.push(text(&|record| match &record.content {
            Content::Error(refused) => Some(&refused.reason),
            _ => None,
        }));
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
        self.writer.write(&batch)?;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the last of it cannot be written.
    pub fn commit(self) -> Result<()> {
        self.writer.into_inner()?.commit()
    }
}

fn schema(columns: Columns) -> Result<Schema> {
    let field = |name: &str, kind, is_optional| Field::new(name, kind, is_optional);
    let mut fields = vec![
        field("key", DataType::Utf8, false),
        field("member", DataType::Utf8, false),
    ];
    match columns {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            fields.push(field("rank", DataType::UInt32, true));
            fields.push(field("caption", DataType::Utf8, true));
            fields.push(field("score", DataType::Float32, true));
            if similarity {
                fields.push(field("similarity", DataType::Float32, true));
            }
            if consensus {
                fields.push(field("consensus", DataType::Float32, true));
            }
        }
        Columns::Embedding { width } => {
            let width = i32::try_from(width).context("embeddings are too wide")?;
            let kind = DataType::FixedSizeList(item(), width);
            fields.push(field("embedding", kind, true));
        }
    }
    fields.push(field("error", DataType::Utf8, true));
    Ok(Schema::new(fields))
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

fn caption(record: &Record) -> Option<(usize, &Caption)> {
    match &record.content {
        Content::Caption { rank, caption } => Some((*rank, caption)),
        _ => None,
    }
}

fn numbers(records: &[Record], get: impl Fn(&Caption) -> Option<f32>) -> ArrayRef {
    let mut builder = Float32Builder::new();
    for record in records {
        builder.append_option(caption(record).and_then(|(_, found)| get(found)));
    }
    Arc::new(builder.finish())
}

fn embeddings(records: &[Record], width: usize) -> Result<ArrayRef> {
    let size = i32::try_from(width).context("embeddings are too wide")?;
    let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), size).with_field(item());
    for record in records {
        match &record.content {
            Content::Embedding(embedding) => builder.values().append_slice(embedding),
            _ => builder.values().append_nulls(width),
        }
        builder.append(matches!(record.content, Content::Embedding(_)));
    }
    Ok(Arc::new(builder.finish()))
}
