//! Records as rows of a Parquet file.

use std::sync::Arc;

use anyhow::Result;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::captioner::Caption;
use crate::files::AtomicFile;
use crate::shards::records::{Columns, Content, Record};

/// Rows of a group, which is in memory until it is whole.
const GROUP: usize = 4096;

/// A Parquet file that is there once it is whole.
pub(in crate::shards) struct ParquetFile {
    writer: SerializedFileWriter<AtomicFile>,
    kind: Columns,
    columns: Vec<Column>,
    /// Rows in the columns.
    rows: usize,
}

/// The values of a column so far. Where a value may be missing there is a level for each: 1 for one that is there, and of
/// lists 2 for each of their items.
enum Column {
    Texts(Vec<ByteArray>, Vec<i16>),
    Ranks(Vec<i32>, Vec<i16>),
    Numbers(Vec<f32>, Vec<i16>),
    Lists {
        items: Vec<f32>,
        levels: Vec<i16>,
        /// 0 for the first item of a list, 1 for the others.
        repetitions: Vec<i16>,
    },
}

impl ParquetFile {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(file: AtomicFile, kind: Columns) -> Result<Self> {
        let schema = Arc::new(parse_message_type(&schema(kind))?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Self {
            writer: SerializedFileWriter::new(file, schema, Arc::new(properties))?,
            kind,
            columns: columns(kind),
            rows: 0,
        })
    }

    /// Adds records.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, records: &[Record]) -> Result<()> {
        for record in records {
            self.columns
                .iter_mut()
                .zip(cells(record, self.kind))
                .for_each(|(column, cell)| column.push(cell));
            self.rows += 1;
            if self.rows == GROUP {
                self.write_group()?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.columns, columns(self.kind));
        self.rows = 0;
        let mut group = self.writer.next_row_group()?;
        for column in &full {
            let Some(mut writer) = group.next_column()? else {
                break;
            };
            column.write(writer.untyped())?;
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the last of it cannot be written.
    pub fn commit(mut self) -> Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.writer.into_inner()?.commit()
    }
}

fn schema(kind: Columns) -> String {
    let own = match kind {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            let mut own = String::from(
                "optional int32 rank; optional binary caption (STRING); optional float score;",
            );
            if similarity {
                own += " optional float similarity;";
            }
            if consensus {
                own += " optional float consensus;";
            }
            own
        }
        Columns::Embedding { .. } => {
            "optional group embedding (LIST) { repeated group list { required float element; } }"
                .to_string()
        }
    };
    format!(
        "message record {{ required binary key (STRING); required binary member (STRING); {own} optional binary error (STRING); }}"
    )
}

/// The columns of [`schema`], empty.
fn columns(kind: Columns) -> Vec<Column> {
    let texts = || Column::Texts(Vec::new(), Vec::new());
    let numbers = || Column::Numbers(Vec::new(), Vec::new());
    let mut columns = vec![texts(), texts()];
    match kind {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            columns.extend([Column::Ranks(Vec::new(), Vec::new()), texts(), numbers()]);
            columns.extend(similarity.then(numbers));
            columns.extend(consensus.then(numbers));
        }
        Columns::Embedding { .. } => columns.push(Column::Lists {
            items: Vec::new(),
            levels: Vec::new(),
            repetitions: Vec::new(),
        }),
    }
    columns.push(texts());
    columns
}

enum Cell<'a> {
    Text(Option<&'a str>),
    Rank(Option<usize>),
    Number(Option<f32>),
    List(Option<&'a [f32]>),
}

/// A record's values, in the order of [`columns`].
fn cells(record: &Record, kind: Columns) -> Vec<Cell<'_>> {
    let mut cells = vec![
        Cell::Text(Some(&record.key)),
        Cell::Text(Some(&record.member)),
    ];
    let caption: Option<(usize, &Caption)> = match &record.content {
        Content::Caption { rank, caption } => Some((*rank, caption)),
        _ => None,
    };
    match kind {
        Columns::Captions {
            similarity,
            consensus,
        } => {
            let found = caption.map(|(_, found)| found);
            cells.push(Cell::Rank(caption.map(|(rank, _)| rank)));
            cells.push(Cell::Text(found.map(|found| found.caption.as_str())));
            cells.push(Cell::Number(found.map(|found| found.score)));
            if similarity {
                cells.push(Cell::Number(found.and_then(|found| found.similarity)));
            }
            if consensus {
                cells.push(Cell::Number(found.and_then(|found| found.consensus)));
            }
        }
        Columns::Embedding { .. } => cells.push(Cell::List(match &record.content {
            Content::Embedding(embedding) => Some(embedding),
            _ => None,
        })),
    }
    cells.push(Cell::Text(match &record.content {
        Content::Error(refused) => Some(&refused.reason),
        _ => None,
    }));
    cells
}

impl Column {
    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Texts(values, levels), Cell::Text(text)) => {
                levels.push(text.is_some().into());
                values.extend(text.map(ByteArray::from));
            }
            (Self::Ranks(values, levels), Cell::Rank(rank)) => {
                levels.push(rank.is_some().into());
                values.extend(rank.map(|rank| rank as i32));
            }
            (Self::Numbers(values, levels), Cell::Number(number)) => {
                levels.push(number.is_some().into());
                values.extend(number);
            }
            (
                Self::Lists {
                    items,
                    levels,
                    repetitions,
                },
                Cell::List(list),
            ) => {
                let list = list.unwrap_or_default();
                items.extend(list);
                // A record without a list has one entry that says so.
                levels.extend(list.iter().map(|_| 2));
                levels.extend(list.is_empty().then_some(0));
                repetitions.push(0);
                repetitions.extend(list.iter().skip(1).map(|_| 1));
            }
            _ => unreachable!("cells come in the order of columns"),
        }
    }

    fn write(&self, writer: &mut ColumnWriter<'_>) -> Result<()> {
        match (self, writer) {
            (Self::Texts(values, levels), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                // What is never missing has no levels.
                let levels = (writer.get_descriptor().max_def_level() > 0).then_some(&levels[..]);
                writer.write_batch(values, levels, None)?;
            }
            (Self::Ranks(values, levels), ColumnWriter::Int32ColumnWriter(writer)) => {
                writer.write_batch(values, Some(levels), None)?;
            }
            (Self::Numbers(values, levels), ColumnWriter::FloatColumnWriter(writer)) => {
                writer.write_batch(values, Some(levels), None)?;
            }
            (
                Self::Lists {
                    items,
                    levels,
                    repetitions,
                },
                ColumnWriter::FloatColumnWriter(writer),
            ) => {
                writer.write_batch(items, Some(levels), Some(repetitions))?;
            }
            _ => unreachable!("columns come in the order of the schema"),
        }
        Ok(())
    }
}
