//! The entries of a caption file, whatever its form: JSON, JSON Lines or a table.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::data::coco::ImageId;
use crate::data::left_out::LeftOut;
use crate::data::text::cell::{CAPTION, Cell, Entry, Fields, IMAGE, IMAGE_ID, shorten};
use crate::data::text::json::{begins_with_line, read_document, read_entry};
use crate::data::text::table::{Header, open};
use crate::data::text::{self, Lines};

/// What to do about entries that cannot be used.
pub(super) const FIX: &str = "correct them or take them out";

/// What an entry calls its image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Id(ImageId),
    /// A file's name or path, where there is no id.
    File(String),
    /// A member of a shard, and the sample that it is of.
    Member {
        member: String,
        sample: String,
    },
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(ImageId::Number(id)) => id.fmt(f),
            Self::Id(ImageId::Text(name)) | Self::File(name) => shorten(name).fmt(f),
            Self::Member { member, .. } => shorten(member).fmt(f),
        }
    }
}

/// The captions of one entry, with its place in the file for messages.
pub(super) struct Item {
    pub(super) place: String,
    pub(super) key: Key,
    pub(super) file_name: Option<String>,
    pub(super) captions: Vec<String>,
}

/// The entries of a file that can be used, and what became of the others.
#[derive(Default)]
pub(super) struct Items {
    pub(super) items: Vec<Item>,
    /// Images that `infer` could not caption.
    pub(super) failed: usize,
    pub(super) left_out: LeftOut,
    /// All entries but the failed ones and those of a lower rank.
    pub(super) total: usize,
}

/// An annotation file of COCO's form.
#[derive(Deserialize)]
pub(super) struct CocoFile {
    pub(super) images: Option<Vec<CocoImage>>,
    pub(super) annotations: Option<Vec<CocoAnnotation>>,
}

#[derive(Deserialize)]
#[serde(from = "Entry")]
pub(super) struct CocoImage {
    pub(super) id: Result<ImageId, String>,
    pub(super) file_name: Option<String>,
    /// Karpathy's form: the captions are here.
    pub(super) sentences: Vec<Result<String, String>>,
}

#[derive(Deserialize)]
#[serde(from = "Entry")]
pub(super) struct CocoAnnotation {
    /// The annotation's own.
    pub(super) id: Option<ImageId>,
    pub(super) image: Result<ImageId, String>,
    pub(super) caption: Result<String, String>,
}

impl From<Entry> for CocoImage {
    fn from(entry: Entry) -> Self {
        let fields = match entry {
            Entry::Fields(fields) => fields,
            Entry::Other(cell) => {
                return Self {
                    id: Err(not_an_object(&cell)),
                    file_name: None,
                    sentences: Vec::new(),
                };
            }
        };
        let id = fields.id(&["id", "cocoid", "imgid"]);
        let file_name = fields.first(&["file_name", "filename"]);
        Self {
            id: id.and_then(|id| id.ok_or_else(|| "has no `id`".to_string())),
            file_name: file_name.and_then(|name| name.text()).map(String::from),
            sentences: (fields.get("sentences").into_iter())
                .flat_map(|cell| cell.captions())
                .map(|caption| caption.map(String::from))
                .collect(),
        }
    }
}

impl From<Entry> for CocoAnnotation {
    fn from(entry: Entry) -> Self {
        let fields = match entry {
            Entry::Fields(fields) => fields,
            Entry::Other(cell) => {
                return Self {
                    id: None,
                    image: Err(not_an_object(&cell)),
                    caption: Ok(String::new()),
                };
            }
        };
        let image = fields.id(&IMAGE_ID);
        let captions = captions(&fields).and_then(|captions| match &captions[..] {
            [caption] => Ok(caption.clone()),
            _ => Err(format!("has {} captions: give one", captions.len())),
        });
        Self {
            id: fields.id(&["id"]).ok().flatten(),
            image: image.and_then(|id| id.ok_or_else(|| "has no `image_id`".to_string())),
            caption: captions,
        }
    }
}

fn not_an_object(cell: &Cell) -> String {
    format!("is {cell} and not an object with `image_id` and `caption`")
}

/// A file by its form.
pub(super) enum Contents {
    Coco(CocoFile),
    Rows(Items),
}

/// Reads a file, whose form is detected automatically.
///
/// # Errors
/// When it cannot be read, is empty, or has none of the forms.
pub(super) fn contents(path: &Path) -> Result<Contents> {
    read(path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Contents> {
    let (head, reader) = text::peek(text::open(path)?).context("cannot be read")?;
    let start = head.trim_ascii_start();
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    let mut items = Items::default();
    let file = path.display().to_string();
    if start.is_empty() {
        bail!("is empty");
    }
    if start[0] == b'[' {
        let rows: Vec<Entry> = read_document(reader).context("is not JSON")?;
        for (i, row) in rows.into_iter().enumerate() {
            items.add(&file, format!("entry {}", i + 1), fields(row));
        }
    } else if ending == "jsonl" || ending == "ndjson" || begins_with_line(&head).is_some() {
        for (i, line) in Lines::new(reader).enumerate() {
            let line = line.context("cannot be read")?;
            if !line.trim_ascii().is_empty() {
                let row = text::check(&line).and_then(read_entry).and_then(fields);
                items.add(&file, format!("line {}", i + 1), row);
            }
        }
    } else if start[0] == b'{' {
        return Ok(Contents::Coco(
            read_document(reader).context("is not JSON")?,
        ));
    } else {
        let Some(mut rows) = open(reader, is_enough).context("cannot be read")? else {
            bail!(
                "is neither JSON, JSON Lines nor a table whose header names an image and a caption"
            );
        };
        while let Some(row) = rows.next_row().context("cannot be read")? {
            items.add(&file, row.place, row.fields);
        }
    }
    Ok(Contents::Rows(items))
}

fn is_enough(header: &Header) -> bool {
    let ids = [&IMAGE_ID[..], &["id"], &IMAGE];
    header.has(&CAPTION) && ids.iter().any(|names| header.has(names))
}

fn fields(entry: Entry) -> Result<Fields, String> {
    match entry {
        Entry::Fields(fields) => Ok(fields),
        Entry::Other(cell) => Err(not_an_object(&cell)),
    }
}

impl Items {
    /// Leaves out an entry of a file.
    pub(super) fn leave_out(&mut self, file: &str, place: &str, reason: &str) {
        self.total += 1;
        self.left_out.note(|| format!("{file}: {place}: {reason}"));
    }

    fn add(&mut self, file: &str, place: String, row: Result<Fields, String>) {
        let row = match row {
            Ok(row) => row,
            Err(reason) => return self.leave_out(file, &place, &reason),
        };
        if row.get("error").is_some() {
            self.failed += 1;
            return;
        }
        // `infer` gives several captions an image if asked to, the best with rank 0.
        if row
            .get("rank")
            .and_then(Cell::whole)
            .is_some_and(|rank| rank > 0)
        {
            return;
        }
        let key = match key(&row) {
            Ok(key) => key,
            Err(reason) => return self.leave_out(file, &place, &reason),
        };
        match captions(&row) {
            Ok(captions) => {
                self.total += 1;
                self.items.push(Item {
                    place,
                    key,
                    file_name: row.image().ok().flatten().map(String::from),
                    captions,
                });
            }
            Err(reason) => {
                let place = format!("{place} (image {key})");
                self.leave_out(file, &place, &reason);
            }
        }
    }
}

/// The image of a row: its id where it has one, else its file, in a shard or not.
fn key(row: &Fields) -> Result<Key, String> {
    if let Some(id) = row.id(&["image_id", "cocoid"])? {
        return Ok(Key::Id(id));
    }
    let text = |name: &str| row.get(name).and_then(Cell::text).map(String::from);
    if let (None, Some(member)) = (row.image()?, text("member")) {
        // As `infer` writes captions of shards.
        let sample = text("key").unwrap_or_default();
        return Ok(Key::Member { member, sample });
    }
    // With a file's name an `id` is the annotation's.
    match (row.image()?, row.id(&["id"])?) {
        (Some(name), _) => Ok(Key::File(name.trim().to_string())),
        (None, Some(id)) => Ok(Key::Id(id)),
        (None, None) => Err("has no `image_id`".into()),
    }
}

/// The captions of a row, all of them good.
fn captions(row: &Fields) -> Result<Vec<String>, String> {
    let captions: Vec<String> = row
        .captions()
        .into_iter()
        .map(|caption| caption.map(String::from))
        .collect::<Result<_, _>>()?;
    match captions.is_empty() {
        true => Err("has no `caption`".into()),
        false => Ok(captions),
    }
}
