//! Candidates and references from files: COCO's formats, JSON Lines, tables, and what `infer` prints, of images and of shards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::entries::{Contents, FIX, Key, contents};
use super::references::FileNames;
pub use super::references::References;
use crate::data::coco::ImageId;
use crate::data::left_out::{LeftOut, MAX_SHARE, exceeds};
use crate::data::text::cell::shorten;
use caption_metrics::Sample;

/// An image with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatedImage {
    pub id: String,
    /// Its file, where the references name one.
    pub file_name: Option<String>,
    pub sample: Sample,
}

/// A model's captions, an image each, in the file's order.
#[derive(Clone, Debug)]
pub struct Candidates {
    path: PathBuf,
    captions: Vec<Candidate>,
    /// Images that could not be captioned.
    failed: usize,
    left_out: LeftOut,
    /// Entries of the file, those that failed apart.
    total: usize,
}

#[derive(Clone, Debug)]
struct Candidate {
    place: String,
    key: Key,
    caption: String,
}

/// Candidates beside their references, and what has none.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The file of candidates.
    pub file: PathBuf,
    /// In the references' order.
    pub images: Vec<EvaluatedImage>,
    /// Images with references and without a candidate.
    pub missing: usize,
    /// Images with references.
    pub referenced: usize,
    /// Images that could not be captioned, by the file of candidates.
    pub failed: usize,
    /// Candidates that could not be used.
    pub left_out: LeftOut,
}

impl Candidates {
    /// Reads COCO's results format (a list of `image_id` and `caption`), JSON Lines or a table with the same names, or
    /// what `infer` prints, or writes of a shard. The same entry twice is one.
    ///
    /// # Errors
    /// When the file cannot be read or holds no caption, an image has two, or too many entries have no id or caption.
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let mut items = match contents(path)? {
            Contents::Rows(items) => items,
            Contents::Coco(_) => bail!(
                "{file} is not a list of results: `[{{\"image_id\": 1, \"caption\": \"..\"}}]` is expected"
            ),
        };
        let mut captions: Vec<Candidate> = Vec::with_capacity(items.items.len());
        let mut first: HashMap<Key, usize> = HashMap::with_capacity(items.items.len());
        for item in std::mem::take(&mut items.items) {
            let caption = match &item.captions[..] {
                [caption] => caption.clone(),
                several => {
                    let reason = format!("has {} captions: give one", several.len());
                    let place = format!("{} (image {})", item.place, item.key);
                    items.total -= 1;
                    items.leave_out(&file, &place, &reason);
                    continue;
                }
            };
            match first.get(&item.key).map(|&place| &captions[place]) {
                None => {
                    first.insert(item.key.clone(), captions.len());
                    captions.push(Candidate {
                        place: item.place,
                        key: item.key,
                        caption,
                    });
                }
                Some(earlier) if earlier.caption == caption => {}
                Some(earlier) => bail!(
                    "{file}: {} is the second caption of image {} (after {}): give one for each image",
                    item.place,
                    item.key,
                    earlier.place
                ),
            }
        }
        items.left_out.check(&file, items.total, FIX)?;
        if captions.is_empty() {
            let failed = match items.failed {
                0 => String::new(),
                failed => format!(": all {failed} images failed"),
            };
            bail!("{file} holds no caption{failed}");
        }
        Ok(Self {
            path: path.to_path_buf(),
            captions,
            failed: items.failed,
            left_out: items.left_out,
            total: items.total,
        })
    }

    /// Captions that were made just now; `path` is what errors call them.
    pub fn new(path: &Path, captions: Vec<(ImageId, String)>) -> Self {
        let candidate = |(id, caption): (ImageId, String)| Candidate {
            place: format!("image {id}"),
            key: Key::Id(id),
            caption,
        };
        Self {
            path: path.to_path_buf(),
            total: captions.len(),
            captions: captions.into_iter().map(candidate).collect(),
            failed: 0,
            left_out: LeftOut::default(),
        }
    }
}

/// Puts candidates beside their references, by id or else by the last part of a file's name. Images without a candidate
/// are counted and not scored.
///
/// # Errors
/// When too many candidates are of images without references, two are of the same image, a file's name may be that of
/// several images, or, unless `allow_missing`, too many images have no candidate.
pub fn join(
    candidates: &Candidates,
    references: &References,
    allow_missing: bool,
) -> Result<Joined> {
    let file = candidates.path.display().to_string();
    let names = FileNames::new(references);
    let mut left_out = candidates.left_out.clone();
    let mut said: HashMap<usize, &Candidate> = HashMap::with_capacity(candidates.captions.len());
    for candidate in &candidates.captions {
        let Candidate {
            place,
            key,
            caption,
        } = candidate;
        let lacks = match find(key, references, &names) {
            Err(reason) => bail!("{file}: {place}: {reason}"),
            Ok(Some(image)) if !references.images[image].captions.is_empty() => {
                match said.insert(image, candidate) {
                    Some(earlier) if earlier.caption != *caption => bail!(
                        "{file}: {} and {place} are both of image {} ({} and {key}): give one for each image",
                        earlier.place,
                        shorten(&references.images[image].id.to_string()),
                        earlier.key,
                    ),
                    _ => continue,
                }
            }
            Ok(Some(_)) => "has no caption in",
            Ok(None) => "is not in",
        };
        let references = references.path.display();
        left_out.note(|| format!("{file}: {place}: image {key} {lacks} {references}"));
    }
    left_out.check(
        &file,
        candidates.total,
        "the results are of other images, or the ids are written otherwise",
    )?;
    let (images, referenced) = (beside(references, &said), references.count());
    let joined = Joined {
        file: candidates.path.clone(),
        missing: referenced - images.len(),
        referenced,
        images,
        failed: candidates.failed,
        left_out,
    };
    if !allow_missing && exceeds(joined.missing, joined.referenced) {
        bail!(
            "{file}: {} of the {} images of {} have no caption here, more than {:.0}%: caption them too, or give --allow-missing to score the others",
            joined.missing,
            joined.referenced,
            references.path.display(),
            100.0 * MAX_SHARE,
        );
    }
    Ok(joined)
}

fn find(key: &Key, references: &References, names: &FileNames) -> Result<Option<usize>, String> {
    match key {
        Key::Id(id) => match (references.index.get(id), id) {
            (Some(&place), _) => Ok(Some(place)),
            // Some write the name of the file where COCO has its id.
            (None, ImageId::Text(name)) => names.find(name, references),
            (None, ImageId::Number(_)) => Ok(None),
        },
        Key::File(name) => names.find(name, references),
        Key::Member { member, sample } => match names.find(member, references)? {
            None if !sample.is_empty() => names.find(sample, references),
            found => Ok(found),
        },
    }
}

fn beside(references: &References, said: &HashMap<usize, &Candidate>) -> Vec<EvaluatedImage> {
    let images = references.images.iter().enumerate();
    images
        .filter_map(|(place, image)| {
            Some(EvaluatedImage {
                id: image.id.to_string(),
                file_name: image.file_name.clone(),
                sample: Sample {
                    candidate: said.get(&place)?.caption.clone(),
                    references: image.captions.clone(),
                },
            })
        })
        .collect()
}

impl Joined {
    /// What is to be said of what was not scored, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.left_out.lines().collect();
        if self.failed > 0 {
            let file = self.file.display();
            remarks.push(format!(
                "{file}: {} images could not be captioned, and have no candidate",
                self.failed
            ));
        }
        if self.missing > 0 {
            remarks.push(format!(
                "{}: {} of {} images with references have no candidate; {} are scored",
                self.file.display(),
                self.missing,
                self.referenced,
                self.images.len()
            ));
        }
        remarks
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
