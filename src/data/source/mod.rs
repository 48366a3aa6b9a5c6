//! Captioned images, in the formats that people have them in. The format is detected automatically.
//!
//! | what `--data` names | read as |
//! | --- | --- |
//! | `.json`, an object with `annotations` | COCO caption annotations |
//! | `.json`, an object whose images have `sentences` | Karpathy's splits (COCO, Flickr8k, Flickr30k), with their parts |
//! | `.json`, a list | rows of image and caption, ClipCap's `train_caption.json` among them |
//! | `.jsonl`, or JSON with an object a line | one such row a line |
//! | `.csv`, `.tsv`, or text with a header that names an image and a caption column | a table |
//! | text whose lines begin `name#0<tab>` | Flickr's token files |
//! | a folder with `.tar`, `.tar.gz` or `.tar.zst` files, or one of them | WebDataset shards |
//! | another folder | images with texts beside them, or with Hugging Face's `metadata.jsonl` or `metadata.csv` |
//! | other text | captions alone, one a line |
//!
//! An entry that cannot be used is named and left out; more than a share of them is an error ([`LeftOut`]). What could be
//! read in two ways, such as an image in two parts, is an error.

mod collector;
mod folder;
mod json;
mod shards;
mod table;

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use self::collector::Collector;
use super::coco::ImageId;
use super::image_source::ImageSource;
pub use super::left_out::LeftOut;
use super::shard_members;
use super::split::Part;
use super::text::cell::printable;
use super::text::{self, Lines};
use crate::inputs::FileKinds;

/// A data set as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionData {
    pub format: Format,
    /// At least one, in the order of the file.
    pub images: Vec<CaptionedImage>,
    pub left_out: LeftOut,
    /// Files that are no part of the data set: neither an image nor captions of one.
    pub other_files: FileKinds,
}

/// An image and its reference captions.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionedImage {
    pub id: ImageId,
    /// The name the data set calls it by.
    pub file_name: String,
    /// Where its pixels are; `None` when there are captions only.
    pub source: Option<ImageSource>,
    /// At least one, with white space collapsed, none twice.
    pub captions: Vec<String>,
    /// The part the data set puts it in.
    pub part: Option<Part>,
}

/// What the files were read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Coco,
    Karpathy,
    JsonRows,
    Table,
    FlickrTokens,
    WebDataset,
    Folder,
    Captions,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coco => "COCO caption annotations",
            Self::Karpathy => "a Karpathy split",
            Self::JsonRows => "JSON rows",
            Self::Table => "a table",
            Self::FlickrTokens => "Flickr tokens",
            Self::WebDataset => "WebDataset shards",
            Self::Folder => "images with texts beside them",
            Self::Captions => "captions alone",
        })
    }
}

/// Reads a data set. `folders` is where files that it names are looked for; without one, beside `data`.
///
/// Images are not opened here. The same image in several rows is one image with several captions.
///
/// # Errors
/// When the file cannot be read or is none of the formats, too many of its entries cannot be used, an image is put into
/// two parts, or there is no caption. The error is one line, whatever it quotes of the file.
pub fn load(data: &Path, folders: &[PathBuf]) -> Result<CaptionData> {
    let beside = [data.parent().unwrap_or(Path::new(".")).to_path_buf()];
    let folders = if folders.is_empty() { &beside } else { folders };
    let mut collector = Collector::new(data);
    read(data, folders, &mut collector)
        .with_context(|| data.display().to_string())
        .and_then(|format| collector.finish(format))
        .map_err(one_line)
}

/// Reads a data set as [`load`] does, and tells what it was read as, and of each entry that was left out, or of the first of many.
///
/// # Errors
/// As [`load`].
pub fn load_and_report(
    data: &Path,
    folders: &[PathBuf],
    report: &dyn Fn(&str),
) -> Result<CaptionData> {
    let found = load(data, folders)?;
    report(&format!("{}: read as {}", data.display(), found.format));
    found.left_out.lines().for_each(|line| report(&line));
    let others = found.other_files.left_out(
        "neither an image nor captions of one",
        "neither images nor captions of one",
    );
    others.iter().for_each(|line| report(line));
    Ok(found)
}

/// An error as one line: what a reader of foreign formats says may quote any bytes.
fn one_line(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match text.contains(char::is_control) {
        true => anyhow!(printable(&text)),
        false => error,
    }
}

fn read(data: &Path, folders: &[PathBuf], collector: &mut Collector) -> Result<Format> {
    if data.is_dir() {
        let shards = shard_members::shards_in(data)?;
        if shards.is_empty() {
            folder::read(data, collector)?;
            return Ok(Format::Folder);
        }
        shards::note_others(data, collector)?;
        shards::read(&shards, collector)?;
        return Ok(Format::WebDataset);
    }
    if shard_members::is_shard(data) {
        shards::read(&[data.to_path_buf()], collector)?;
        return Ok(Format::WebDataset);
    }
    let ending = data
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default()
        .to_lowercase();
    let (head, reader) = text::peek(text::open(data)?).context("cannot be read")?;
    match ending.as_str() {
        "json" => json::read(&head, reader, folders, collector),
        "jsonl" | "ndjson" if !json::is_list(&head) => {
            json::read_lines(reader, folders, collector)?;
            Ok(Format::JsonRows)
        }
        "jsonl" | "ndjson" => json::read(&head, reader, folders, collector),
        _ if json::is_json(&head) => json::read(&head, reader, folders, collector),
        _ => read_text(&head, reader, &ending, folders, collector),
    }
}

/// Tables, Flickr's tokens and bare captions all come as text: the first line tells which.
fn read_text(
    head: &[u8],
    reader: impl BufRead,
    ending: &str,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<Format> {
    let line = Lines::new(head).next().transpose()?.unwrap_or_default();
    if line.contains(&0) {
        bail!(
            "is not text, or is UTF-16 without a byte-order mark: give captions, a table or JSON in UTF-8, a folder or .tar shards"
        );
    }
    let first = String::from_utf8_lossy(&line);
    if table::is_flickr_tokens(&first) {
        table::read_flickr_tokens(reader, folders, collector)?;
        return Ok(Format::FlickrTokens);
    }
    if table::is_table(head)? {
        table::read(reader, folders, collector)?;
        return Ok(Format::Table);
    }
    if matches!(ending, "csv" | "tsv") {
        table::refuse_header(&first)?;
    }
    for (i, line) in Lines::new(reader).enumerate() {
        match text::check(&line.context("cannot be read")?) {
            Ok(line) => collector.add_text(line),
            Err(reason) => collector.leave_out(&format!("line {}", i + 1), &reason),
        }
    }
    Ok(Format::Captions)
}
