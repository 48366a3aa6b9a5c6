//! Tables of image and caption, and Flickr8k's and Flickr30k's token files.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use super::Collector;
use crate::data::split::Part;

const IMAGE: [&str; 8] = [
    "image",
    "image_name",
    "file_name",
    "filename",
    "image_path",
    "path",
    "filepath",
    "file",
];
const CAPTION: [&str; 6] = ["caption", "comment", "text", "raw", "captions", "title"];
const PART: [&str; 2] = ["split", "part"];

/// Where a table's columns are.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    delimiter: u8,
    image: usize,
    caption: usize,
    part: Option<usize>,
}

impl Columns {
    /// Reads a header, with commas, tabs or bars between its names; `None` when it names no image and caption.
    pub fn find(header: &str) -> Option<Self> {
        [b',', b'\t', b'|'].into_iter().find_map(|delimiter| {
            let names: Vec<String> = header
                .split(char::from(delimiter))
                .map(|name| name.trim().trim_matches(['"', '\u{feff}']).to_lowercase())
                .collect();
            let place = |wanted: &[&str]| {
                wanted
                    .iter()
                    .find_map(|wanted| names.iter().position(|name| name == wanted))
            };
            Some(Self {
                delimiter,
                image: place(&IMAGE)?,
                caption: place(&CAPTION)?,
                part: place(&PART),
            })
        })
    }
}

/// Reads a table whose first line is its header. A row without an image or a caption is left out.
pub fn read(
    reader: impl Read,
    columns: &Columns,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(columns.delimiter)
        // Flickr30k's table with bars writes quotation marks as they are.
        .quoting(columns.delimiter == b',')
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(reader);
    for (i, record) in reader.records().enumerate() {
        let place = || format!("row {}", i + 2);
        let record = record.with_context(place)?;
        let cell = |column: usize| record.get(column).filter(|cell| !cell.is_empty());
        let (Some(image), Some(caption)) = (cell(columns.image), cell(columns.caption)) else {
            collector
                .left_out
                .note(|| format!("{} has no image or no caption", place()));
            continue;
        };
        let part: Option<Part> = match columns.part.and_then(cell) {
            Some(part) => Some(
                part.parse()
                    .map_err(|error: String| anyhow!(error))
                    .with_context(place)?,
            ),
            None => None,
        };
        collector
            .add_row(image, captions(caption), part, folders)
            .with_context(place)?;
    }
    Ok(())
}

/// A cell's captions: some tables hold all of an image's in one cell, as a JSON list.
fn captions(cell: &str) -> Vec<String> {
    match cell.starts_with('[').then(|| serde_json::from_str(cell)) {
        Some(Ok(list)) => list,
        _ => vec![cell.to_string()],
    }
}

/// Whether a line is of a token file: `name.jpg#0<tab>caption`.
pub fn is_flickr_tokens(line: &str) -> bool {
    flickr_token(line).is_some()
}

fn flickr_token(line: &str) -> Option<(&str, &str)> {
    let (image, caption) = line.split_once('\t')?;
    let (name, number) = image.rsplit_once('#')?;
    number
        .chars()
        .all(|c| c.is_ascii_digit())
        .then_some((name, caption))
}

/// Reads `name.jpg#0<tab>caption` lines.
pub fn read_flickr_tokens(
    reader: impl BufRead,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    for (i, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("line {} is not UTF-8 text", i + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let Some((name, caption)) = flickr_token(&line) else {
            bail!("line {} is not `name.jpg#0<tab>caption`: `{line}`", i + 1);
        };
        collector.add_row(name, [caption.to_string()], None, folders)?;
    }
    Ok(())
}
