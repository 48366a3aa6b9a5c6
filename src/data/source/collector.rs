//! Captions gathered by image, and what becomes of entries that cannot be used.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{CaptionData, CaptionedImage, Format, LeftOut};
use crate::data::coco::ImageId;
use crate::data::image_source::ImageSource;
use crate::data::split::Part;
use crate::data::text::cell::{Fields, IMAGE_ID, PART, URL, shorten};
use crate::data::text::clean;
use crate::inputs::FileKinds;

/// What to do about entries that cannot be used.
const FIX: &str = "correct them or take them out";

/// Images with their captions so far.
pub(super) struct Collector {
    /// What the data set is called.
    file: String,
    index: HashMap<ImageId, usize>,
    pub(super) images: Vec<CaptionedImage>,
    left_out: LeftOut,
    other_files: FileKinds,
    /// Entries so far: captions, and what was left out.
    entries: usize,
    /// Images that lost a caption: that they have none has been said already.
    lost: HashSet<usize>,
}

impl Collector {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            file: data.display().to_string(),
            index: HashMap::new(),
            images: Vec::new(),
            left_out: LeftOut::default(),
            other_files: FileKinds::default(),
            entries: 0,
            lost: HashSet::new(),
        }
    }

    /// Leaves out an entry at a place of the data set.
    pub(super) fn leave_out(&mut self, place: &str, reason: &dyn Display) {
        let file = &self.file;
        self.entries += 1;
        self.left_out.note(|| format!("{file}: {place}: {reason}"));
    }

    /// Leaves out an entry that is a file of its own; `line` begins with its name.
    pub(super) fn leave_out_file(&mut self, line: impl FnOnce() -> String) {
        self.entries += 1;
        self.left_out.note(line);
    }

    /// Passes over a file that is no part of the data set.
    pub(super) fn pass_over(&mut self, file: &Path) {
        self.other_files.note_ending(file);
    }

    /// The place of an id's image, made on first sight by `new`.
    pub(super) fn image(
        &mut self,
        id: ImageId,
        new: impl FnOnce() -> (String, Option<ImageSource>),
    ) -> usize {
        let next = self.images.len();
        match self.index.entry(id.clone()) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let (file_name, source) = new();
                self.images.push(CaptionedImage {
                    id,
                    file_name,
                    source,
                    captions: Vec::new(),
                    part: None,
                });
                *entry.insert(next)
            }
        }
    }

    /// Where the image of an id is, if it is known.
    pub(super) fn place(&self, id: &ImageId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// Makes another id stand for an image.
    pub(super) fn also_called(&mut self, id: ImageId, image: usize) {
        self.index.insert(id, image);
    }

    /// One caption of an image, or why it is none.
    pub(super) fn caption(&mut self, image: usize, place: &str, caption: Result<&str, String>) {
        let caption =
            caption.and_then(|text| clean(text).ok_or_else(|| "has an empty caption".to_string()));
        match caption {
            Ok(caption) => {
                self.entries += 1;
                self.images[image].captions.push(caption);
            }
            Err(reason) => {
                self.lost.insert(image);
                self.leave_out(place, &reason);
            }
        }
    }

    /// Puts an image into a part.
    ///
    /// # Errors
    /// When it is in another.
    pub(super) fn put(&mut self, image: usize, place: &str, part: Option<Part>) -> Result<()> {
        let image = &mut self.images[image];
        match (image.part, part) {
            (Some(before), Some(now)) if before != now => bail!(
                "{place}: image {} is in two parts: each image must be in one",
                shorten(&image.file_name)
            ),
            (before, now) => image.part = before.or(now),
        }
        Ok(())
    }

    /// Leaves out a file with captions of an image; `line` begins with its name.
    pub(super) fn lose(&mut self, image: usize, line: String) {
        self.lost.insert(image);
        self.leave_out_file(|| line);
    }

    /// One row: an image by the name of its file or by COCO's id, captions, perhaps a part.
    ///
    /// # Errors
    /// When the image is in two parts.
    pub(super) fn add_row(
        &mut self,
        place: &str,
        fields: &Fields,
        folders: &[PathBuf],
    ) -> Result<()> {
        let image = match (part_of(fields), image_of(fields)) {
            (Ok(_), Ok(image)) => image,
            (Err(reason), _) | (_, Err(reason)) => {
                self.leave_out(place, &reason);
                return Ok(());
            }
        };
        if fields.captions().is_empty() {
            let image = self.place(&image.id());
            self.lost.extend(image);
            self.leave_out(place, &"has no caption");
            return Ok(());
        }
        let image = self.image(image.id(), move || image.find(folders));
        self.add_to(image, place, fields)
    }

    /// What a row says of an image that is known.
    ///
    /// # Errors
    /// When the image is in two parts.
    pub(super) fn add_to(&mut self, image: usize, place: &str, fields: &Fields) -> Result<()> {
        let captions = fields.captions();
        if captions.is_empty() {
            self.caption(image, place, Err("has no caption".into()));
        }
        match part_of(fields) {
            Ok(part) => self.put(image, place, part)?,
            Err(reason) => self.caption(image, place, Err(reason)),
        }
        for caption in captions {
            self.caption(image, place, caption);
        }
        Ok(())
    }

    /// A caption without an image; empty lines are passed over.
    pub(super) fn add_text(&mut self, caption: &str) {
        if clean(caption).is_some() {
            let number = self.images.len() as u64 + 1;
            let name = format!("line {number}");
            let image = self.image(ImageId::Number(number), || (name.clone(), None));
            self.caption(image, &name, Ok(caption));
        }
    }

    /// What is left of the images.
    ///
    /// # Errors
    /// When too much was left out, or nothing is left.
    pub(super) fn finish(mut self, format: Format) -> Result<CaptionData> {
        let file = &self.file;
        let listed = self.images.len();
        // Of folders and shards the images are the entries, and not the captions.
        let by_image = matches!(format, Format::Folder | Format::WebDataset);
        if by_image {
            self.entries = self.left_out.count + listed - self.lost.len();
        }
        let mut place = 0;
        self.images.retain_mut(|image| {
            place += 1;
            let lacks = match (&image.source, &image.captions[..]) {
                (_, []) => "caption",
                (None, _) if format == Format::WebDataset => "image",
                _ => {
                    drop_repeated(&mut image.captions);
                    return true;
                }
            };
            if !self.lost.contains(&(place - 1)) {
                self.entries += usize::from(!by_image);
                let name = &image.file_name;
                let kind = match format {
                    Format::WebDataset => "sample",
                    _ => "image",
                };
                self.left_out
                    .note(|| format!("{file}: {kind} {name} has no {lacks}"));
            }
            false
        });
        self.left_out.check(file, self.entries, FIX)?;
        if self.images.is_empty() {
            bail!("{file}: none of its {listed} images has a caption (it was read as {format})");
        }
        Ok(CaptionData {
            format,
            images: self.images,
            left_out: self.left_out,
            other_files: self.other_files,
        })
    }
}

/// Keeps the first of equal captions.
fn drop_repeated(captions: &mut Vec<String>) {
    if captions.len() > 1 {
        let mut seen = HashSet::with_capacity(captions.len());
        captions.retain(|caption| seen.insert(caption.clone()));
    }
}

fn part_of(fields: &Fields) -> Result<Option<Part>, String> {
    let Some(cell) = fields.first(&PART) else {
        return Ok(None);
    };
    match cell.text() {
        Some(text) => text.trim().parse().map(Some),
        None => Err(format!("has the part {cell}: train, val and test are")),
    }
}

/// What a row calls its image.
enum Named {
    File(String),
    Coco(ImageId),
}

fn image_of(fields: &Fields) -> Result<Named, String> {
    let is_url = |name: &str| name.starts_with("http://") || name.starts_with("https://");
    let named = match fields.image()? {
        Some(name) => Some(Named::File(name.to_string())),
        None => fields.id(&IMAGE_ID)?.map(|id| match id {
            // Some write the name of the file where COCO has its id.
            ImageId::Text(name) if Path::new(&name).extension().is_some() => Named::File(name),
            id => Named::Coco(id),
        }),
    };
    match named {
        Some(Named::File(name)) if is_url(&name) => Err(on_the_web(&name)),
        Some(named) => Ok(named),
        None => match fields.first(&URL).and_then(|url| url.text()) {
            Some(url) => Err(on_the_web(url)),
            None => Err("has no image".into()),
        },
    }
}

fn on_the_web(url: &str) -> String {
    format!(
        "has its image on the web ({}): download it, and name its file",
        shorten(url)
    )
}

impl Named {
    fn id(&self) -> ImageId {
        match self {
            Self::File(name) => file_id(name),
            Self::Coco(id) => id.clone(),
        }
    }

    fn find(self, folders: &[PathBuf]) -> (String, Option<ImageSource>) {
        let (name, path) = match self {
            Self::File(name) => {
                let path = find(&name, folders);
                (name, path)
            }
            Self::Coco(id) => coco_file(&id, folders),
        };
        (name, Some(ImageSource::File(path)))
    }
}

/// The id of an image that is known by its file: `./a.png` and `a.png` are one, as are `b/a.png` and Windows' `b\a.png`.
pub(super) fn file_id(name: &str) -> ImageId {
    let name = name.replace('\\', "/");
    let mut rest = name.as_str();
    while let Some(inside) = rest.strip_prefix("./") {
        rest = inside.trim_start_matches('/');
    }
    ImageId::Text(rest.to_string())
}

/// A file that a data set names, in the first of the folders that has it. Where none has, the first is taken: that it
/// is missing is said when it is opened.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> PathBuf {
    let paths = folders.iter().map(|folder| folder.join(name));
    // As Windows writes it.
    let unix = name.contains('\\').then(|| name.replace('\\', "/"));
    if let ([only], None) = (folders, &unix) {
        return only.join(name);
    }
    let slashed = unix
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths
        .chain(slashed)
        .find(|path| path.is_file())
        .unwrap_or_else(|| folders[0].join(name))
}

/// Where COCO's image of an id is: ClipCap's captions name no file (`parse_coco.py` at 1ad805a looks in train2014, then
/// in val2014). The first that exists, else 2014's training name in the first folder.
fn coco_file(id: &ImageId, folders: &[PathBuf]) -> (String, PathBuf) {
    let padded = format!("{:0>12}", id.to_string());
    let names = [
        format!("COCO_train2014_{padded}.jpg"),
        format!("COCO_val2014_{padded}.jpg"),
        format!("train2014/COCO_train2014_{padded}.jpg"),
        format!("val2014/COCO_val2014_{padded}.jpg"),
        format!("{padded}.jpg"),
        format!("{id}.jpg"),
        format!("{id}.png"),
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
        None => (names[0].clone(), folders[0].join(&names[0])),
    }
}
