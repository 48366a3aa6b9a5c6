//! Captioned pictures, in the formats that people have them in. Which one it is is seen by looking, not told.
//!
//! | what `--data` names | read as |
//! | --- | --- |
//! | `.json`, an object with `annotations` | COCO caption annotations |
//! | `.json`, an object whose images have `sentences` | Karpathy's splits (COCO, Flickr8k, Flickr30k), with their parts |
//! | `.json`, a list | rows of image and caption, ClipCap's `train_caption.json` among them |
//! | `.jsonl` | one such row a line |
//! | `.csv`, `.tsv`, or text with a header that names an image and a caption column | a table |
//! | text whose lines begin `name#0<tab>` | Flickr's token files |
//! | a folder with `.tar` files, or one `.tar` | WebDataset shards |
//! | another folder | pictures with a `.txt` beside each, one caption a line |
//! | other text | captions alone, one a line |

mod folder;
mod json;
mod shards;
mod table;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::coco::ImageId;
use super::picture_source::PictureSource;
use super::scenes::Kind;
use super::split::Part;

/// How many of the entries that were left out are named.
const NAMED: usize = 10;

/// A data set as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionData {
    pub format: Format,
    /// At least one, in the order of the file.
    pub images: Vec<CaptionedImage>,
    pub left_out: LeftOut,
}

/// A picture and what people said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionedImage {
    pub id: ImageId,
    /// The name the data set calls it by.
    pub file_name: String,
    /// Where its pixels are; `None` when there are captions only.
    pub picture: Option<PictureSource>,
    /// At least one, with white space collapsed.
    pub captions: Vec<String>,
    /// The part the data set puts it in.
    pub part: Option<Part>,
    /// What the picture is of, where the annotation says so (the generated scenes' does).
    pub main: Option<Kind>,
}

/// Entries that say too little to be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeftOut {
    pub count: usize,
    /// The first of them, a line each.
    pub named: Vec<String>,
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
            Self::Folder => "pictures with texts beside them",
            Self::Captions => "captions alone",
        })
    }
}

impl LeftOut {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(line());
        }
        self.count += 1;
    }
}

/// Reads a data set. `folders` is where files that it names are looked for; without one, beside `data`.
///
/// Pictures are not opened here. The same image in several rows is one image with several captions.
///
/// # Errors
/// When the file cannot be read or is none of the formats, an image is put into two parts, or there is no caption.
pub fn load(data: &Path, folders: &[PathBuf]) -> Result<CaptionData> {
    let beside = [data.parent().unwrap_or(Path::new(".")).to_path_buf()];
    let folders = if folders.is_empty() { &beside } else { folders };
    let mut collector = Collector::default();
    let format = read(data, folders, &mut collector).with_context(|| data.display().to_string())?;
    collector
        .finish(format)
        .with_context(|| data.display().to_string())
}

fn read(data: &Path, folders: &[PathBuf], collector: &mut Collector) -> Result<Format> {
    if data.is_dir() {
        let shards = shards::shards_in(data)?;
        if shards.is_empty() {
            folder::read(data, collector)?;
            return Ok(Format::Folder);
        }
        shards::read(&shards, collector)?;
        return Ok(Format::WebDataset);
    }
    let ending = data
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    match ending.to_lowercase().as_str() {
        "tar" => {
            shards::read(&[data.to_path_buf()], collector)?;
            Ok(Format::WebDataset)
        }
        "json" => json::read(open(data)?, folders, collector),
        "jsonl" | "ndjson" => {
            json::read_lines(open(data)?, folders, collector)?;
            Ok(Format::JsonRows)
        }
        _ => read_text(data, ending, folders, collector),
    }
}

/// Tables, Flickr's tokens and bare captions all come as text: the first line tells which.
fn read_text(
    data: &Path,
    ending: &str,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<Format> {
    let mut first = String::new();
    open(data)?
        .read_line(&mut first)
        .context("is not text: give captions, a table, JSON, a folder or .tar shards")?;
    if table::is_flickr_tokens(&first) {
        table::read_flickr_tokens(open(data)?, folders, collector)?;
        return Ok(Format::FlickrTokens);
    }
    if let Some(columns) = table::Columns::find(&first) {
        table::read(open(data)?, &columns, folders, collector)?;
        return Ok(Format::Table);
    }
    if matches!(ending, "csv" | "tsv") {
        bail!(
            "its first line names no image and caption columns: give it a header such as `image,caption`, not `{}`",
            first.trim_end()
        );
    }
    for line in open(data)?.lines() {
        collector.add_text(&line.context("is not UTF-8 text")?);
    }
    Ok(Format::Captions)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(
        1 << 16,
        File::open(path).context("cannot be opened")?,
    ))
}

/// White space collapsed; `None` when nothing is left.
fn clean(caption: &str) -> Option<String> {
    let caption = caption.split_whitespace().collect::<Vec<_>>().join(" ");
    (!caption.is_empty()).then_some(caption)
}

/// A file that a data set names, in the first of the folders that has it. Where none has, the first is taken: that it
/// is missing is said when it is opened.
fn find(name: &str, folders: &[PathBuf]) -> PathBuf {
    let paths = folders.iter().map(|folder| folder.join(name));
    match folders {
        [only] => only.join(name),
        _ => paths
            .clone()
            .find(|path| path.is_file())
            .unwrap_or_else(|| folders[0].join(name)),
    }
}

/// Gathers captions by image.
#[derive(Default)]
struct Collector {
    index: HashMap<ImageId, usize>,
    images: Vec<CaptionedImage>,
    left_out: LeftOut,
}

impl Collector {
    /// The image of an id, made on first sight by `new`; whether it was new.
    fn image(
        &mut self,
        id: ImageId,
        new: impl FnOnce() -> (String, Option<PictureSource>),
    ) -> (&mut CaptionedImage, bool) {
        let next = self.images.len();
        let (place, is_new) = match self.index.entry(id.clone()) {
            Entry::Occupied(entry) => (*entry.get(), false),
            Entry::Vacant(entry) => (*entry.insert(next), true),
        };
        if is_new {
            let (file_name, picture) = new();
            self.images.push(CaptionedImage {
                id,
                file_name,
                picture,
                captions: Vec::new(),
                part: None,
                main: None,
            });
        }
        (&mut self.images[place], is_new)
    }

    /// One row: an image by the name of its file, captions, perhaps a part.
    fn add_row(
        &mut self,
        name: &str,
        captions: impl IntoIterator<Item = String>,
        part: Option<Part>,
        folders: &[PathBuf],
    ) -> Result<()> {
        let (image, is_new) = self.image(ImageId::Text(name.to_string()), || {
            (
                name.to_string(),
                Some(PictureSource::File(find(name, folders))),
            )
        });
        image
            .captions
            .extend(captions.into_iter().filter_map(|caption| clean(&caption)));
        if is_new {
            image.part = part;
        } else if image.part != part {
            bail!("image {name} is in two parts: each image must be in one");
        }
        Ok(())
    }

    /// A caption without a picture; empty lines are passed over.
    fn add_text(&mut self, caption: &str) {
        if let Some(caption) = clean(caption) {
            let number = self.images.len() as u64 + 1;
            let (image, _) =
                self.image(ImageId::Number(number), || (format!("line {number}"), None));
            image.captions.push(caption);
        }
    }

    fn finish(mut self, format: Format) -> Result<CaptionData> {
        let listed = self.images.len();
        let left_out = &mut self.left_out;
        self.images.retain(|image| {
            let lacks = match (&image.picture, &image.captions[..]) {
                (_, []) => "caption",
                (None, _) if format == Format::WebDataset => "picture",
                _ => return true,
            };
            left_out.note(|| format!("image {} has no {lacks}", image.file_name));
            false
        });
        if self.images.is_empty() {
            bail!("none of its {listed} images has a caption (it was read as {format})");
        }
        Ok(CaptionData {
            format,
            images: self.images,
            left_out: self.left_out,
        })
    }
}
