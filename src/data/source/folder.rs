//! A folder of images with texts beside them, or with Hugging Face's `metadata.jsonl` or `metadata.csv` in it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::collector::{Collector, file_id};
use super::table;
use crate::data::image_source::ImageSource;
use crate::data::text::cell::{Entry, Fields};
use crate::data::text::json::read_entry;
use crate::data::text::{self, Lines, clean, decode};
use crate::inputs::{self, is_image};
use crate::path_text;

/// Largest text beside an image that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// Endings of the texts beside images.
const TEXTS: [&str; 2] = ["txt", "caption"];

/// Endings of files that are no images, whatever they begin with.
const OTHERS: [&str; 9] = [
    "json",
    "jsonl",
    "csv",
    "tsv",
    "md",
    "parquet",
    "npz",
    "npy",
    "safetensors",
];

/// Names of the files with the captions of a folder's images.
const METADATA: [&str; 2] = ["metadata.jsonl", "metadata.csv"];

/// What a folder holds.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    /// Texts by their names without the last ending.
    texts: HashMap<PathBuf, Vec<PathBuf>>,
    metadata: Vec<PathBuf>,
}

/// Reads a folder and those in it. An image `a.jpg` has the captions of `a.txt`, `a.caption`, `a.jpg.txt` and
/// `a.jpg.caption`, one a line, and those that a metadata file in its folder or above it has of it.
///
/// # Errors
/// When a metadata file is of an unknown form or cannot be read, or an image is in two parts.
pub fn read(root: &Path, collector: &mut Collector) -> Result<()> {
    let mut found = list(root, collector);
    let mut used = HashSet::new();
    for image in &found.images {
        let name = name_in(root, image);
        let source = ImageSource::File(image.clone());
        let place = collector.image(file_id(&name), || (name, Some(source)));
        let stems = [image.with_extension(""), image.clone()];
        let texts = stems
            .iter()
            .filter_map(|stem| found.texts.get_key_value(stem));
        let texts = texts.flat_map(|(stem, texts)| {
            used.insert(stem.clone());
            texts
        });
        for text in texts {
            match read_text(text) {
                Ok(captions) => {
                    for caption in captions {
                        collector.caption(place, "", Ok(&caption));
                    }
                }
                Err(reason) => {
                    let line = format!("{}: {reason}", path_text::one_line(text));
                    collector.lose(place, line);
                }
            }
        }
    }
    found.texts.retain(|stem, _| !used.contains(stem));
    let mut alone: Vec<PathBuf> = found.texts.into_values().flatten().collect();
    alone.sort();
    alone.iter().for_each(|text| collector.pass_over(text));
    for metadata in &found.metadata {
        read_metadata(root, metadata, collector).with_context(|| metadata.display().to_string())?;
    }
    Ok(())
}

fn list(root: &Path, collector: &mut Collector) -> Found {
    let mut found = Found::default();
    for file in inputs::files(root, true) {
        let kind = file.and_then(|path| Ok((sort(&path)?, path)));
        match kind {
            Ok((Kind::Image, path)) => found.images.push(path),
            Ok((Kind::Text, path)) => {
                let texts = found.texts.entry(path.with_extension("")).or_default();
                texts.push(path);
            }
            Ok((Kind::Metadata, path)) => found.metadata.push(path),
            Ok((Kind::Other, path)) => collector.pass_over(&path),
            Err(error) => collector.leave_out_file(|| error.to_string()),
        }
    }
    found
}

enum Kind {
    Image,
    Text,
    Metadata,
    Other,
}

fn sort(path: &Path) -> Result<Kind, inputs::InputError> {
    let lower = |name: Option<&std::ffi::OsStr>| {
        name.map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default()
    };
    let (name, ending) = (lower(path.file_name()), lower(path.extension()));
    if METADATA.contains(&name.as_str()) {
        return Ok(Kind::Metadata);
    }
    if TEXTS.contains(&ending.as_str()) {
        return Ok(Kind::Text);
    }
    Ok(
        match !OTHERS.contains(&ending.as_str()) && is_image(path)? {
            true => Kind::Image,
            false => Kind::Other,
        },
    )
}

/// A file's name within a folder. Names that are no text stay different from each other.
fn name_in(root: &Path, file: &Path) -> String {
    path_text::text(file.strip_prefix(root).unwrap_or(file))
}

fn read_text(path: &Path) -> Result<Vec<String>, String> {
    let mut bytes = Vec::new();
    let size = File::open(path)
        .and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if size as u64 > MAX_TEXT {
        return Err(format!(
            "is too large for captions (above {MAX_TEXT} bytes)"
        ));
    }
    let text = decode(&bytes)?;
    Ok(text.split(['\n', '\r']).filter_map(clean).collect())
}

/// Reads the captions that a metadata file has of images in its folder.
fn read_metadata(root: &Path, path: &Path, collector: &mut Collector) -> Result<()> {
    let folder = path.parent().unwrap_or(root);
    let within = name_in(root, folder);
    let file = name_in(root, path);
    let mut add = |place: &str, row: Result<Fields, String>| {
        let place = format!("{file}: {place}");
        let row = row.and_then(|row| Ok((known_image(&within, &row, collector)?, row)));
        match row {
            Ok((image, row)) => collector.add_to(image, &place, &row),
            Err(reason) => {
                collector.leave_out(&place, &reason);
                Ok(())
            }
        }
    };
    if path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("csv"))
    {
        let (head, reader) = text::peek(text::open(path)?).context("cannot be read")?;
        if !table::is_table(&head)? {
            let first = Lines::new(&head[..])
                .next()
                .transpose()?
                .unwrap_or_default();
            return table::refuse_header(&String::from_utf8_lossy(&first));
        }
        return table::each_row(reader, |row| add(&row.place, row.fields));
    }
    for (i, line) in Lines::new(text::open(path)?).enumerate() {
        let line = line.context("cannot be read")?;
        if !line.trim_ascii().is_empty() {
            let row = text::check(&line)
                .and_then(read_entry)
                .and_then(|row| match row {
                    Entry::Fields(fields) => Ok(fields),
                    Entry::Other(cell) => Err(format!("is {cell} and not an object")),
                });
            add(&format!("line {}", i + 1), row)?;
        }
    }
    Ok(())
}

/// The image that a row of a metadata file in the folder `within` is about.
fn known_image(within: &str, row: &Fields, collector: &Collector) -> Result<usize, String> {
    let name = row.image()?.ok_or("has no `file_name`")?;
    let id = match within {
        "" => file_id(name),
        within => file_id(&format!("{within}/{name}")),
    };
    let image = collector.place(&id);
    image.ok_or_else(|| format!("is of {name}, which is not an image in its folder"))
}
