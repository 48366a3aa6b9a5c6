//! JSON data sets: COCO caption annotations (<https://cocodataset.org/#format-data>), Karpathy's splits
//! (<https://cs.stanford.edu/people/karpathy/deepimagesent/>), and rows of image and caption.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::{Collector, Format, clean, find};
use crate::data::coco::ImageId;
use crate::data::picture_source::PictureSource;
use crate::data::scenes::Kind;
use crate::data::split::Part;

/// COCO's or Karpathy's file.
#[derive(Deserialize)]
struct Annotations {
    images: Vec<ImageEntry>,
    #[serde(default)]
    annotations: Option<Vec<CaptionEntry>>,
}

#[derive(Deserialize)]
struct ImageEntry {
    /// COCO
    #[serde(default)]
    id: Option<ImageId>,
    /// COCO
    #[serde(default)]
    file_name: Option<String>,
    #[serde(default)]
    main: Option<Kind>,
    /// Karpathy; `cocoid` where the images are COCO's, else `imgid`.
    #[serde(default)]
    cocoid: Option<ImageId>,
    #[serde(default)]
    imgid: Option<ImageId>,
    #[serde(default)]
    filename: Option<String>,
    /// Karpathy's COCO file: the folder the file is in.
    #[serde(default)]
    filepath: Option<String>,
    #[serde(default)]
    split: Option<String>,
    #[serde(default)]
    sentences: Option<Vec<Sentence>>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

#[derive(Deserialize)]
struct CaptionEntry {
    image_id: ImageId,
    caption: String,
}

/// A row that names an image, by file or by COCO id, and says something of it.
#[derive(Deserialize)]
struct Row {
    #[serde(
        alias = "image_name",
        alias = "file_name",
        alias = "filename",
        alias = "image_path",
        alias = "path",
        alias = "filepath",
        default
    )]
    image: Option<String>,
    #[serde(default)]
    image_id: Option<ImageId>,
    #[serde(alias = "text", alias = "captions", alias = "sentences", default)]
    caption: Option<OneOrMore>,
    #[serde(default)]
    split: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// Reads a JSON file, whichever of the three it is.
pub fn read(
    mut reader: BufReader<impl Read>,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<Format> {
    if first_byte(&mut reader)? == Some(b'[') {
        let rows: Vec<Row> = serde_json::from_reader(reader)
            .context("is not a list of rows with an image and a caption each")?;
        for (i, row) in rows.into_iter().enumerate() {
            add(row, folders, collector).with_context(|| format!("entry {}", i + 1))?;
        }
        return Ok(Format::JsonRows);
    }
    let file: Annotations = serde_json::from_reader(reader)
        .context("is neither COCO caption annotations (`images` and `annotations`) nor a Karpathy split (`images` with `sentences`)")?;
    match file.annotations {
        Some(annotations) => {
            coco(file.images, annotations, folders, collector)?;
            Ok(Format::Coco)
        }
        None => {
            karpathy(file.images, folders, collector)?;
            Ok(Format::Karpathy)
        }
    }
}

/// Reads one row a line.
pub fn read_lines(
    reader: impl BufRead,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    for (i, line) in reader.lines().enumerate() {
        let place = || format!("line {}", i + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line)
            .map_err(|error| anyhow!("{error}"))
            .with_context(place)?;
        add(row, folders, collector).with_context(place)?;
    }
    Ok(())
}

fn first_byte(reader: &mut impl BufRead) -> Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf().context("cannot be read")?;
        if buffer.is_empty() {
            return Ok(None);
        }
        if let Some(&byte) = buffer.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(Some(byte));
        }
        let length = buffer.len();
        reader.consume(length);
    }
}

fn coco(
    images: Vec<ImageEntry>,
    annotations: Vec<CaptionEntry>,
    folders: &[PathBuf],
    collector: &mut Collector,
) -> Result<()> {
    for (i, entry) in images.into_iter().enumerate() {
        let (Some(id), Some(name)) = (entry.id, entry.file_name) else {
            bail!("image {} of the list has no `id` or no `file_name`", i + 1);
        };
        let (image, is_new) = collector.image(id, || {
            let path = find(&name, folders);
            (name, Some(PictureSource::File(path)))
        });
        if !is_new {
            bail!("image id {} is listed twice", image.id);
        }
        image.main = entry.main;
    }
    for entry in annotations {
        match collector.index.get(&entry.image_id) {
            Some(&place) => collector.images[place]
                .captions
                .extend(clean(&entry.caption)),
            None => collector.left_out.note(|| {
                format!(
                    "a caption of image {}, which the file does not list",
                    entry.image_id
                )
            }),
        }
    }
    Ok(())
}

fn karpathy(images: Vec<ImageEntry>, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    for (i, entry) in images.into_iter().enumerate() {
        let (Some(name), Some(sentences)) = (entry.filename, entry.sentences) else {
            bail!(
                "image {} of the list has no `filename` or no `sentences`, and the file has no `annotations`",
                i + 1
            );
        };
        let id = entry
            .cocoid
            .or(entry.imgid)
            .unwrap_or_else(|| ImageId::Text(name.clone()));
        let part = entry
            .split
            .map(|split| split.parse())
            .transpose()
            .map_err(|error: String| anyhow!(error))
            .with_context(|| format!("image {id}"))?;
        let nested = entry.filepath.map(|folder| format!("{folder}/{name}"));
        let (image, is_new) = collector.image(id, || {
            let flat = find(&name, folders);
            let path = match nested {
                Some(nested) if !flat.is_file() => find(&nested, folders),
                _ => flat,
            };
            (name, Some(PictureSource::File(path)))
        });
        if !is_new {
            bail!("image id {} is listed twice", image.id);
        }
        image.part = part;
        image
            .captions
            .extend(sentences.iter().filter_map(|sentence| clean(&sentence.raw)));
    }
    Ok(())
}

fn add(row: Row, folders: &[PathBuf], collector: &mut Collector) -> Result<()> {
    let captions = match row.caption.context("it has no `caption`")? {
        OneOrMore::One(caption) => vec![caption],
        OneOrMore::More(captions) => captions,
    };
    let part: Option<Part> = row
        .split
        .map(|split| split.parse())
        .transpose()
        .map_err(|error: String| anyhow!(error))?;
    if let Some(name) = row.image {
        return collector.add_row(&name, captions, part, folders);
    }
    let id = row
        .image_id
        .context("it has no `image` and no `image_id`")?;
    let (image, _) = collector.image(id.clone(), || {
        let (name, path) = coco_file(&id, folders);
        (name, Some(PictureSource::File(path)))
    });
    image.part = part;
    image
        .captions
        .extend(captions.iter().filter_map(|caption| clean(caption)));
    Ok(())
}

/// Where COCO's image of an id is: ClipCap's captions name no file (`parse_coco.py` at 1ad805a looks in train2014, then
/// in val2014). The first that exists, else 2014's training name in the first folder.
fn coco_file(id: &ImageId, folders: &[PathBuf]) -> (String, PathBuf) {
    let id = format!("{:0>12}", id.to_string());
    let names = [
        format!("COCO_train2014_{id}.jpg"),
        format!("COCO_val2014_{id}.jpg"),
        format!("train2014/COCO_train2014_{id}.jpg"),
        format!("val2014/COCO_val2014_{id}.jpg"),
        format!("{id}.jpg"),
    ];
    let exists = |name: &String| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    };
    match names
        .iter()
        .find_map(|name| Some((name.clone(), exists(name)?)))
    {
        Some(found) => found,
        None => (
            names[0].clone(),
            folders
                .first()
                .map_or(Path::new("."), |folder| folder)
                .join(&names[0]),
        ),
    }
}
