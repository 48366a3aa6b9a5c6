//! JSON data sets: COCO caption annotations (<https://cocodataset.org/#format-data>), Karpathy's splits
//! (<https://cs.stanford.edu/people/karpathy/deepimagesent/>), and rows of image and caption.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Format;
use super::collector::{Collector, file_id, find};
use crate::data::coco::ImageId;
use crate::data::image_source::ImageSource;
use crate::data::split::Part;
use crate::data::text::cell::{CAPTION, Entry, Fields, IMAGE, IMAGE_ID, shorten};
use crate::data::text::json::{begins_with_line, read_document, read_entry};
use crate::data::text::{Lines, check};

/// COCO's or Karpathy's file.
#[derive(Deserialize)]
struct Annotations {
    images: Option<Vec<Entry>>,
    annotations: Option<Vec<Annotation>>,
}

/// An entry of COCO's annotations, or why it is none.
#[derive(Deserialize)]
#[serde(from = "Entry")]
struct Annotation {
    image: Result<ImageId, String>,
    caption: Result<String, String>,
}

impl From<Entry> for Annotation {
    fn from(entry: Entry) -> Self {
        let Entry::Fields(fields) = entry else {
            return Self {
                image: Err("is not an object".into()),
                caption: Ok(String::new()),
            };
        };
        let caption = match &fields.captions()[..] {
            [] => Err("has no `caption`".to_string()),
            [caption] => caption.clone().map(String::from),
            _ => Err("has several captions: one is expected".to_string()),
        };
        Self {
            image: (fields.id(&IMAGE_ID))
                .and_then(|id| id.ok_or_else(|| "has no `image_id`".to_string())),
            caption,
        }
    }
}

/// Whether a text is a JSON list.
pub fn is_list(head: &[u8]) -> bool {
    head.trim_ascii_start().first() == Some(&b'[')
}

/// Whether a text that may be anything begins as JSON data sets do.
pub fn is_json(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let next = |text: &[u8]| text[1..].trim_ascii_start().first().copied();
    match text.first() {
        Some(b'{') => next(text) == Some(b'"'),
        Some(b'[') => next(text) == Some(b'{'),
        _ => false,
    }
}

/// Reads a JSON file, whichever of the forms it has; `head` is its beginning.
///
/// # Errors
/// When it is not JSON, has none of the forms, or says two things of an image.
pub fn read(
    head: &[u8],
    reader: impl BufRead,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<Format> {
    if is_list(head) {
        let rows: Vec<Entry> = read_document(reader)
            .context("is not a list of rows with an image and a caption each")?;
        for (i, row) in rows.into_iter().enumerate() {
            add(&format!("entry {}", i + 1), row, folders, collector)?;
        }
        return Ok(Format::JsonRows);
    }
    if begins_with_row(head) {
        read_lines(reader, folders, collector)?;
        return Ok(Format::JsonRows);
    }
    let form = "is neither COCO caption annotations (`images` and `annotations`) nor a Karpathy split (`images` with `sentences`)";
    let file: Annotations = read_document(reader).context(form)?;
    match (file.images, file.annotations) {
        (Some(images), Some(annotations)) => {
            coco(images, annotations, folders, collector)?;
            Ok(Format::Coco)
        }
        (Some(images), None) => {
            karpathy(images, folders, collector)?;
            Ok(Format::Karpathy)
        }
        (None, _) => bail!("{form}: it has no list `images`"),
    }
}

/// Whether a text is JSON Lines, whatever its ending says.
fn begins_with_row(head: &[u8]) -> bool {
    match begins_with_line(head) {
        Some(Entry::Fields(row)) => [&CAPTION[..], &IMAGE, &IMAGE_ID]
            .into_iter()
            .any(|names| row.first(names).is_some()),
        _ => false,
    }
}

/// Reads one row a line.
///
/// # Errors
/// When it cannot be read, or says two things of an image.
pub fn read_lines(
    reader: impl BufRead,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    for (i, line) in Lines::new(reader).enumerate() {
        let line = line.context("cannot be read")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("line {}", i + 1);
        match check(&line).and_then(read_entry) {
            Ok(row) => add(&place, row, folders, collector)?,
            Err(reason) => collector.leave_out(&place, &reason),
        }
    }
    Ok(())
}

fn add(place: &str, row: Entry, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    match row {
        Entry::Fields(fields) => collector.add_row(place, &fields, folders)?,
        Entry::Other(cell) => collector.leave_out(place, &format!("is {cell} and not an object")),
    }
    Ok(())
}

fn coco(
    images: Vec<Entry>,
    annotations: Vec<Annotation>,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    list_coco(images, folders, collector)?;
    for (i, entry) in annotations.into_iter().enumerate() {
        let place = || format!("annotation {}", i + 1);
        let id = match entry.image {
            Ok(id) => id,
            Err(reason) => {
                collector.leave_out(&place(), &reason);
                continue;
            }
        };
        match (collector.place(&id), entry.caption) {
            (Some(image), Ok(caption)) => collector.caption(image, &place(), Ok(&caption)),
            (Some(image), Err(reason)) => {
                collector.caption(image, &format!("{} (image {id})", place()), Err(reason));
            }
            (None, _) => collector.leave_out(
                &place(),
                &format!("is of image {id}, which the file does not list"),
            ),
        }
    }
    Ok(())
}

/// Reads COCO's `images`.
fn list_coco(images: Vec<Entry>, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    let mut files: HashMap<ImageId, usize> = HashMap::with_capacity(images.len());
    for (i, entry) in images.into_iter().enumerate() {
        let place = format!("image {} of the list", i + 1);
        let (id, name) = match coco_image(&entry) {
            Ok(image) => image,
            Err(reason) => {
                collector.leave_out(&place, &reason);
                continue;
            }
        };
        let file = file_id(&name);
        match (collector.place(&id), files.get(&file)) {
            // The same entry again.
            (Some(before), Some(same)) if before == *same => {}
            (Some(before), _) => bail!(
                "{place}: image id {} is listed twice, for {} and for {}",
                shorten(&id.to_string()),
                shorten(&collector.images[before].file_name),
                shorten(&name)
            ),
            // One image under two ids must not come into two parts.
            (None, Some(&same)) => collector.also_called(id, same),
            (None, None) => {
                let path = find(&name, folders);
                let image = collector.image(id, || (name, Some(ImageSource::File(path))));
                files.insert(file, image);
            }
        }
    }
    Ok(())
}

fn coco_image(entry: &Entry) -> Result<(ImageId, String), String> {
    let Entry::Fields(fields) = entry else {
        return Err("is not an object".into());
    };
    let id = fields.id(&["id"])?.ok_or("has no `id`")?;
    let name = fields.first(&["file_name", "filename"]);
    let name = name
        .and_then(|name| name.text())
        .ok_or("has no `file_name`")?;
    Ok((id, name.to_string()))
}

fn karpathy(images: Vec<Entry>, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    for (i, entry) in images.into_iter().enumerate() {
        let place = format!("image {} of the list", i + 1);
        let read = match &entry {
            Entry::Fields(fields) => KarpathyImage::read(fields),
            Entry::Other(_) => Err("is not an object".to_string()),
        };
        match read {
            Ok(image) => image.add(&place, folders, collector)?,
            Err(reason) => collector.leave_out(&place, &reason),
        }
    }
    Ok(())
}

/// An entry of Karpathy's list: one image with its sentences.
struct KarpathyImage<'a> {
    /// `cocoid` where the images are COCO's, else `imgid`, else the name.
    id: ImageId,
    name: &'a str,
    /// Karpathy's COCO file: the folder the file is in.
    folder: Option<&'a str>,
    part: Option<Part>,
    sentences: Vec<Result<&'a str, String>>,
}

impl<'a> KarpathyImage<'a> {
    fn read(fields: &'a Fields) -> Result<Self, String> {
        let text = |name| fields.get(name).and_then(|cell| cell.text());
        let (Some(name), Some(_)) = (text("filename"), fields.get("sentences")) else {
            return Err(
                "has no `filename` or no `sentences`, and the file has no `annotations`".into(),
            );
        };
        let id = fields.id(&["cocoid", "imgid"])?;
        Ok(Self {
            id: id.unwrap_or_else(|| ImageId::Text(name.to_string())),
            name,
            folder: text("filepath"),
            part: text("split").map(str::parse).transpose()?,
            sentences: fields.captions(),
        })
    }

    fn add(self, place: &str, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
        if let Some(before) = collector.place(&self.id) {
            let before = &collector.images[before].file_name;
            if *before != self.name {
                bail!(
                    "{place}: image id {} is listed twice, for {} and for {}",
                    shorten(&self.id.to_string()),
                    shorten(before),
                    shorten(self.name)
                );
            }
        }
        let image = collector.image(self.id, || {
            let flat = find(self.name, folders);
            let path = match self.folder {
                Some(folder) if !flat.is_file() => {
                    find(&format!("{folder}/{}", self.name), folders)
                }
                _ => flat,
            };
            (self.name.to_string(), Some(ImageSource::File(path)))
        });
        collector.put(image, place, self.part)?;
        for sentence in self.sentences {
            collector.caption(image, place, sentence);
        }
        Ok(())
    }
}
