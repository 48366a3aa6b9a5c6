//! What people said of images.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::entries::{CocoFile, Contents, contents, id, items, text};
use crate::metrics::Sample;

/// What people said, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub(super) path: PathBuf,
    pub(super) images: Vec<Described>,
    pub(super) index: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) id: String,
    pub(super) file_name: Option<String>,
    pub(super) captions: Vec<String>,
}

impl References {
    /// Reads COCO's annotation format, or JSON Lines or CSV with `image_id` and `caption` (or a list, `captions`), and
    /// `file_name` if they have it.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or an entry has no id or caption.
    pub fn load(path: &Path) -> Result<Self> {
        let mut references = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        let read = match contents(path)? {
            Contents::Coco(file) => references.add_whole(file),
            Contents::Json(Value::Object(file)) => references.add_coco(&file),
            Contents::Json(Value::Array(entries)) => references.add_all(entries.iter(), "entry"),
            Contents::Json(_) => bail!("it is neither an annotation file nor a list"),
            Contents::Lines(lines) => references.add_all(lines.iter(), "line"),
            Contents::Table(rows) => references.add_all(rows.iter(), "row"),
        };
        read.with_context(|| path.display().to_string())?;
        if references
            .images
            .iter()
            .all(|image| image.captions.is_empty())
        {
            bail!("{} holds no caption", path.display());
        }
        Ok(references)
    }

    /// References that are at hand: id, picture and captions of each image.
    pub fn new(path: &Path, images: Vec<(String, Option<String>, Vec<String>)>) -> Self {
        let mut references = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        for (id, file_name, captions) in images {
            references.image(&id, file_name).captions.extend(captions);
        }
        references
    }

    fn image(&mut self, id: &str, file_name: Option<String>) -> &mut Described {
        let place = match self.index.entry(id.to_string()) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                self.images.push(Described {
                    id: id.to_string(),
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

    fn add_whole(&mut self, file: CocoFile) -> Result<()> {
        for (i, image) in file.images.into_iter().enumerate() {
            self.list(i, image.id.to_string(), image.file_name)?;
        }
        for annotation in file.annotations {
            let image = self.image(&annotation.image_id.to_string(), None);
            image.captions.push(annotation.caption);
        }
        Ok(())
    }

    /// Adds an entry of `images`.
    fn list(&mut self, place: usize, id: String, file_name: Option<String>) -> Result<()> {
        if self.index.contains_key(&id) {
            bail!(
                "image {} of `images` has the id {id} a second time",
                place + 1
            );
        }
        self.image(&id, file_name);
        Ok(())
    }

    fn add_coco(&mut self, file: &serde_json::Map<String, Value>) -> Result<()> {
        let list = |name: &str| {
            (file.get(name).and_then(Value::as_array)).with_context(|| {
                format!("it is not a COCO annotation file: it has no list `{name}`")
            })
        };
        for (i, image) in list("images")?.iter().enumerate() {
            let id = id(image, &["id"]).with_context(|| format!("image {} of `images`", i + 1))?;
            self.list(i, id, text(image, "file_name"))?;
        }
        for item in items(list("annotations")?.iter(), "annotation")? {
            self.image(&item.id, None).captions.extend(item.captions);
        }
        Ok(())
    }

    fn add_all<'a>(&mut self, entries: impl Iterator<Item = &'a Value>, kind: &str) -> Result<()> {
        for item in items(entries, kind)? {
            self.image(&item.id, item.file_name)
                .captions
                .extend(item.captions);
        }
        Ok(())
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
