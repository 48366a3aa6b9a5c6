//! Images in a Parquet file: their bytes in a column, or their paths.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::data::shard_members::place;
use crate::images::OpenError;
use crate::inputs::{Content, Input};
use crate::shards::samples::{Others, Refused, Sample};

/// Names of the column with the images' bytes or, of text, their paths; the first that is there.
const IMAGES: [&str; 10] = [
    "image",
    "image_bytes",
    "bytes",
    "jpg",
    "png",
    "webp",
    "content",
    "image_path",
    "path",
    "file_name",
];
/// Names of the column that rows are called by, without which they are called by their number.
const KEYS: [&str; 4] = ["key", "__key__", "id", "image_id"];
/// Rows decoded at once: a row may be a large image.
const ROWS: usize = 16;

/// Reads a Parquet file and gives `emit` the image of each row.
///
/// # Errors
/// When it cannot be read to its end, has no column of images, or `emit` fails.
pub(in crate::shards) fn read(
    shard: &Path,
    emit: &mut dyn FnMut(Sample) -> Result<()>,
) -> Result<Others> {
    let file = File::open(shard).context("cannot be opened")?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).context("is not a whole Parquet file")?;
    let schema = builder.schema().clone();
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let find = |wanted: &[&str]| {
        wanted
            .iter()
            .find_map(|name| names.iter().position(|n| n == name))
    };
    let Some(images) = find(&IMAGES) else {
        bail!(
            "has no column of images ({}), but {}: name one so",
            IMAGES.join(", "),
            names.join(", ")
        );
    };
    let keys = find(&KEYS);
    let columns = [Some(images), keys].into_iter().flatten();
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    let rows = builder
        .with_projection(mask)
        .with_batch_size(ROWS)
        .build()?;
    let table = Table {
        name: Path::new(shard.file_name().unwrap_or_default()),
        folder: shard.parent().unwrap_or(Path::new("")),
        image: names[images],
        key: keys.map(|key| names[key]),
    };
    let mut others = Others::default();
    let mut first = 0;
    for batch in rows {
        let batch = batch.context("is not a whole Parquet file")?;
        for row in 0..batch.num_rows() {
            match table.sample(&batch, row, first + row)? {
                Some(sample) => emit(sample)?,
                None => others.without_image += 1,
            }
        }
        first += batch.num_rows();
    }
    Ok(others)
}

struct Table<'a> {
    /// The file's name, and the folder that paths are relative to.
    name: &'a Path,
    folder: &'a Path,
    image: &'a str,
    key: Option<&'a str>,
}

impl Table<'_> {
    /// The image of a row, `number` of the file; `None` when it has none.
    fn sample(&self, batch: &RecordBatch, row: usize, number: usize) -> Result<Option<Sample>> {
        let column = batch
            .column_by_name(self.image)
            .context("a column is missing")?;
        let key = match self.key.and_then(|key| batch.column_by_name(key)) {
            Some(keys) => text(keys, row),
            None => None,
        };
        let member = format!("row {number}");
        let place = place(self.name, Path::new(&member));
        let image = match bytes(column, row) {
            Some(bytes) => Ok(Input {
                path: place,
                root: None,
                content: Content::Bytes(Arc::new(bytes.to_vec())),
            }),
            None => match path(column, row) {
                Some(path) => self.file(&path, place),
                None if is_null(column, row) => return Ok(None),
                None => bail!(
                    "column {} is {}, and not bytes, text, or a struct with bytes or path",
                    self.image,
                    column.data_type()
                ),
            },
        };
        Ok(Some(Sample {
            key: key.unwrap_or_else(|| number.to_string()),
            member,
            image,
        }))
    }

    /// A file that a row names.
    fn file(&self, path: &str, place: PathBuf) -> Result<Input, Refused> {
        let path = self.folder.join(path);
        if !path.exists() {
            return Err(Refused {
                kind: "missing",
                reason: format!("{}: {}", place.display(), OpenError::Missing(path)),
            });
        }
        Ok(Input::file(path, None))
    }
}

/// The field of a struct, as Hugging Face's data sets have images.
fn field(column: &ArrayRef, name: &str) -> Option<ArrayRef> {
    let fields = column.as_any().downcast_ref::<StructArray>()?;
    fields.column_by_name(name).cloned()
}

fn is_null(column: &ArrayRef, row: usize) -> bool {
    let is_null = |name| field(column, name).is_none_or(|inner: ArrayRef| inner.is_null(row));
    match column.data_type() {
        DataType::Struct(_) => column.is_null(row) || (is_null("bytes") && is_null("path")),
        DataType::Binary | DataType::LargeBinary | DataType::Utf8 | DataType::LargeUtf8 => {
            column.is_null(row)
        }
        _ => false,
    }
}

fn bytes(column: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if let Some(inner) = field(column, "bytes") {
        return bytes(&inner, row);
    }
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => Some(column.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Some(column.as_binary::<i64>().value(row).to_vec()),
        _ => None,
    }
}

fn path(column: &ArrayRef, row: usize) -> Option<String> {
    match field(column, "path") {
        Some(inner) => path(&inner, row),
        None => matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8)
            .then(|| text(column, row))
            .flatten(),
    }
}

/// A value as text: texts and whole numbers.
fn text(column: &ArrayRef, row: usize) -> Option<String> {
    use arrow_array::types::{Int32Type, Int64Type};
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_string()),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row).to_string()),
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Int32 => Some(column.as_primitive::<Int32Type>().value(row).to_string()),
        _ => None,
    }
}
