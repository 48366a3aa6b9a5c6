//! Images in a Parquet file: their bytes in a column, or their paths.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::TreeBuilder;
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};

use crate::data::shard_members::place;
use crate::images::OpenError;
use crate::inputs::{Content, Input};
use crate::path_text::one_line;
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
    let reader = SerializedFileReader::new(file).context("is not a whole Parquet file")?;
    let (descriptor, names) = columns(&reader)?;
    let table = Table {
        name: Path::new(shard.file_name().unwrap_or_default()),
        folder: shard.parent().unwrap_or(Path::new("")),
        names,
    };
    let mut others = Others::default();
    let mut number = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let rows = TreeBuilder::new()
            .with_batch_size(ROWS)
            .as_iter(descriptor.clone(), &*group)?;
        for row in rows {
            let row = row.context("is not a whole Parquet file")?;
            match table.sample(row, number)? {
                Some(sample) => emit(sample)?,
                None => others.without_image += 1,
            }
            number += 1;
        }
    }
    Ok(others)
}

/// Names of the columns of images and, if there is one, of keys.
struct Names {
    image: String,
    key: Option<String>,
}

/// The columns that are read.
fn columns(reader: &SerializedFileReader<File>) -> Result<(Arc<SchemaDescriptor>, Names)> {
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields();
    let find = |wanted: &[&str]| {
        let find = |name: &&str| fields.iter().find(|field| field.name() == *name);
        wanted.iter().find_map(find).cloned()
    };
    let Some(image) = find(&IMAGES) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        bail!(
            "has no column of images ({}), but {}: name one so",
            IMAGES.join(", "),
            names.join(", ")
        );
    };
    let key = find(&KEYS);
    let names = Names {
        image: image.name().to_string(),
        key: key.as_ref().map(|key| key.name().to_string()),
    };
    let wanted = Type::group_type_builder("row")
        .with_fields([Some(image), key].into_iter().flatten().collect())
        .build()?;
    Ok((Arc::new(SchemaDescriptor::new(Arc::new(wanted))), names))
}

struct Table<'a> {
    /// The file's name, and the folder that paths are relative to.
    name: &'a Path,
    folder: &'a Path,
    names: Names,
}

impl Table<'_> {
    /// The image of a row, `number` of the file; `None` when it has none.
    fn sample(&self, row: Row, number: usize) -> Result<Option<Sample>> {
        let (mut image, mut key) = (Field::Null, None);
        for (name, value) in row.into_columns() {
            if name == self.names.image {
                image = value;
            } else if Some(&name) == self.names.key.as_ref() {
                key = text(value);
            }
        }
        let member = format!("row {number}");
        let place = place(self.name, Path::new(&member));
        let image = match found(image) {
            Found::Nothing => return Ok(None),
            Found::Bytes(bytes) => Ok(Input {
                path: place,
                root: None,
                content: Content::Bytes(Arc::new(bytes)),
            }),
            Found::Path(path) => self.file(&path, &place),
            Found::Other => bail!(
                "its column {} is neither bytes, nor text, nor a struct with bytes or path",
                self.names.image
            ),
        };
        Ok(Some(Sample {
            key: key.unwrap_or_else(|| number.to_string()),
            member,
            image,
        }))
    }

    /// A file that a row names.
    fn file(&self, path: &str, place: &Path) -> Result<Input, Refused> {
        let path: PathBuf = self.folder.join(path);
        if path.exists() {
            return Ok(Input::file(path, None));
        }
        Err(Refused {
            kind: "missing",
            reason: format!("{}: {}", one_line(place), OpenError::Missing(path)),
        })
    }
}

/// What a value of a column of images is.
enum Found {
    Nothing,
    Bytes(Vec<u8>),
    Path(String),
    Other,
}

fn found(value: Field) -> Found {
    match value {
        Field::Null => Found::Nothing,
        Field::Bytes(bytes) => Found::Bytes(bytes.data().to_vec()),
        Field::Str(path) => Found::Path(path),
        // As Hugging Face's data sets have images.
        Field::Group(fields) => {
            let mut found_fields = [Field::Null, Field::Null];
            for (name, value) in fields.into_columns() {
                match name.as_str() {
                    "bytes" => found_fields[0] = value,
                    "path" => found_fields[1] = value,
                    _ => {}
                }
            }
            match found_fields {
                [Field::Null, Field::Null] => Found::Nothing,
                [Field::Null, Field::Str(path)] => Found::Path(path),
                [Field::Bytes(bytes), _] => Found::Bytes(bytes.data().to_vec()),
                _ => Found::Other,
            }
        }
        _ => Found::Other,
    }
}

/// A value as text: texts and whole numbers.
fn text(value: Field) -> Option<String> {
    match value {
        Field::Str(text) => Some(text),
        Field::Int(number) => Some(number.to_string()),
        Field::Long(number) => Some(number.to_string()),
        _ => None,
    }
}
