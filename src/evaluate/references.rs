//! Reference captions of images.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::entries::{CocoFile, Contents, FIX, Items, Key, contents};
use crate::data::coco::ImageId;
use crate::data::left_out::LeftOut;
use crate::data::text::cell::shorten;
use caption_metrics::Sample;

/// Reference captions, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub(super) path: PathBuf,
    pub(super) images: Vec<Described>,
    pub(super) index: HashMap<ImageId, usize>,
    /// Entries that could not be used.
    pub left_out: LeftOut,
}

#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) id: ImageId,
    pub(super) file_name: Option<String>,
    pub(super) captions: Vec<String>,
}

impl References {
    /// Reads COCO's annotation format, Karpathy's splits, or JSON Lines or a table with `image_id` (or `image`) and
    /// `caption` (or a list, `captions`), and `file_name` if they have it.
    ///
    /// # Errors
    /// When the file cannot be read, holds no caption, or too many of its entries cannot be used.
    pub fn load(path: &Path) -> Result<Self> {
        let mut references = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        let file = path.display().to_string();
        let items = match contents(path)? {
            Contents::Coco(coco) => references
                .add_coco(coco, &file)
                .with_context(|| file.clone())?,
            Contents::Rows(items) => references.add_rows(items),
        };
        items.left_out.check(&file, items.total, FIX)?;
        references.left_out = items.left_out;
        if references
            .images
            .iter()
            .all(|image| image.captions.is_empty())
        {
            bail!("{file} holds no caption");
        }
        Ok(references)
    }

    /// Reads the images of such a file, whatever is said of them; each must have a file's name.
    ///
    /// # Errors
    /// When the file cannot be read, names no files, or too many of its entries cannot be used.
    pub(super) fn load_images(path: &Path) -> Result<Self> {
        let mut references = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        let file = path.display().to_string();
        let items = match contents(path)? {
            Contents::Coco(coco) => {
                let images =
                    (coco.images).with_context(|| format!("{file}: {}", no_list("images")))?;
                let mut items = Items::default();
                for (i, image) in images.into_iter().enumerate() {
                    let place = format!("image {} of `images`", i + 1);
                    let listed = references
                        .list(&place, image.id, image.file_name, &file, &mut items)
                        .with_context(|| file.clone())?;
                    items.total += usize::from(listed.is_some());
                }
                items
            }
            Contents::Rows(items) => references.add_rows(items),
        };
        items.left_out.check(&file, items.total, FIX)?;
        if references
            .images
            .iter()
            .all(|image| image.file_name.is_none())
        {
            bail!("{file} names no files: give one that has a `file_name` for each id");
        }
        Ok(references)
    }

    /// References that are at hand: id, file and captions of each image.
    pub fn new(path: &Path, images: Vec<(ImageId, Option<String>, Vec<String>)>) -> Self {
        let mut references = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        for (id, file_name, captions) in images {
            references.image(id, file_name).captions.extend(captions);
        }
        references
    }

    fn image(&mut self, id: ImageId, file_name: Option<String>) -> &mut Described {
        let place = match self.index.entry(id.clone()) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                self.images.push(Described {
                    id,
                    file_name: None,
                    captions: Vec::new(),
                });
                *vacant.insert(self.images.len() - 1)
            }
        };
        let image = &mut self.images[place];
        image.file_name = image.file_name.take().or(file_name);
        image
    }

    fn add_coco(&mut self, file: CocoFile, path: &str) -> Result<Items> {
        let images = file.images.with_context(|| no_list("images"))?;
        let has_sentences = images.iter().any(|image| !image.sentences.is_empty());
        if file.annotations.is_none() && !has_sentences {
            bail!(no_list("annotations"));
        }
        let mut items = Items::default();
        for (i, image) in images.into_iter().enumerate() {
            let place = format!("image {} of `images`", i + 1);
            let Some(id) = self.list(&place, image.id, image.file_name, path, &mut items)? else {
                continue;
            };
            for sentence in image.sentences {
                match sentence {
                    Ok(caption) => self.add(&id, caption, &mut items),
                    Err(reason) => items.leave_out(path, &place, &reason),
                }
            }
        }
        // Annotations that are there twice; people may well have said the same of an image.
        let mut seen = HashSet::new();
        for (i, annotation) in file.annotations.unwrap_or_default().into_iter().enumerate() {
            let place = || format!("annotation {}", i + 1);
            match (annotation.image, annotation.caption) {
                (Ok(image), Ok(caption)) => {
                    let is_new = (annotation.id).is_some_and(|id| seen.insert((id, image.clone())));
                    if is_new || !self.has(&image, &caption) {
                        self.add(&image, caption, &mut items);
                    }
                }
                (Ok(image), Err(reason)) => {
                    items.leave_out(path, &format!("{} (image {image})", place()), &reason);
                }
                (Err(reason), _) => items.leave_out(path, &place(), &reason),
            }
        }
        Ok(items)
    }

    /// Adds an entry of `images`; `None` when it cannot be used.
    fn list(
        &mut self,
        place: &str,
        id: Result<ImageId, String>,
        file_name: Option<String>,
        path: &str,
        items: &mut Items,
    ) -> Result<Option<ImageId>> {
        let id = match id {
            Ok(id) => id,
            Err(reason) => {
                items.leave_out(path, place, &reason);
                return Ok(None);
            }
        };
        if let Some(&before) = self.index.get(&id)
            && self.images[before].file_name != file_name
        {
            bail!(
                "{place} has the id {} a second time",
                shorten(&id.to_string())
            );
        }
        self.image(id.clone(), file_name);
        Ok(Some(id))
    }

    fn add(&mut self, id: &ImageId, caption: String, items: &mut Items) {
        items.total += 1;
        self.image(id.clone(), None).captions.push(caption);
    }

    fn has(&self, id: &ImageId, caption: &str) -> bool {
        let image = self.index.get(id).map(|&place| &self.images[place]);
        image.is_some_and(|image| image.captions.iter().any(|known| known == caption))
    }

    fn add_rows(&mut self, mut items: Items) -> Items {
        for item in std::mem::take(&mut items.items) {
            let id = match item.key {
                Key::Id(id) => id,
                Key::File(name) | Key::Member { member: name, .. } => ImageId::parse(&name),
            };
            self.image(id.clone(), item.file_name);
            for caption in item.captions {
                if !self.has(&id, &caption) {
                    self.image(id.clone(), None).captions.push(caption);
                }
            }
        }
        items
    }

    /// Number of images that have captions.
    pub fn count(&self) -> usize {
        let images = self.images.iter();
        images.filter(|image| !image.captions.is_empty()).count()
    }

    /// Every image that has captions, as samples without a candidate: to count n-grams in.
    pub fn samples(&self) -> Vec<Sample> {
        (self.images.iter())
            .filter(|image| !image.captions.is_empty())
            .map(|image| Sample {
                candidate: String::new(),
                references: image.captions.clone(),
            })
            .collect()
    }
}

fn no_list(name: &str) -> String {
    format!("it is not a COCO annotation file: it has no list `{name}`")
}

/// Images of references by the last part of their files' names.
#[derive(Clone, Debug)]
pub(super) struct FileNames {
    by_base: HashMap<String, Vec<usize>>,
}

impl FileNames {
    pub(super) fn new(references: &References) -> Self {
        let mut by_base: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, image) in references.images.iter().enumerate() {
            if let Some(name) = &image.file_name {
                let places = by_base.entry(base(name).to_string()).or_default();
                places.push(place);
            }
        }
        Self { by_base }
    }

    /// The place of an image of these references by its id, or by its file's name, or by the number in COCO's name of it
    /// where the references name no files.
    ///
    /// # Errors
    /// When several files may be meant.
    pub(super) fn find(
        &self,
        path: &str,
        references: &References,
    ) -> Result<Option<usize>, String> {
        let index = &references.index;
        if let Some(&place) = index.get(&ImageId::parse(path)) {
            return Ok(Some(place));
        }
        if self.by_base.is_empty() {
            let id = ImageId::of_coco_file(path);
            return Ok(id.and_then(|id| index.get(&id).copied()));
        }
        let Some(places) = self.by_base.get(base(path)) else {
            return Ok(None);
        };
        if let [place] = places[..] {
            return Ok(Some(place));
        }
        let name = |place: usize| {
            let name = references.images[place].file_name.as_deref();
            name.unwrap_or_default()
        };
        let fitting: Vec<usize> = (places.iter().copied())
            .filter(|&place| end_alike(path, name(place)))
            .collect();
        match fitting[..] {
            [place] => Ok(Some(place)),
            _ => Err(format!(
                "{} may be {} or {}: give the image's id instead",
                shorten(path),
                shorten(name(places[0])),
                shorten(name(places[1]))
            )),
        }
    }
}

/// The last part of a path, as Unix or Windows writes it.
fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Whether one of two paths is the end of the other.
fn end_alike(a: &str, b: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.rsplit(['/', '\\']).map(String::from);
        parts
            .filter(|part| !part.is_empty() && part != ".")
            .collect()
    };
    parts(a).iter().zip(&parts(b)).all(|(a, b)| a == b)
}
