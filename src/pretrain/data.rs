//! What CLIP and GPT-2 are pretrained on: generated scenes, or captioned images in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::clip::Pairs;
use crate::data::source::CaptionedImage;
use crate::data::split::Split;
use crate::data::split_lists;
use crate::data::unreadable;
use crate::datasets::scenes;
use crate::images::OpenError;

/// One in this many scenes is for validation.
const VALIDATION: usize = 20;
/// Seed of the scenes that sample models are pretrained on: another than the sample set's, so that its test part stays
/// unseen.
const SCENE_SEED: u64 = 1_000_003;

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PretrainData {
    /// Generated scenes.
    Scenes { count: usize },
    /// A data set in any of the formats of [`crate::data::source`]. It is dealt out as [`crate::train`] does: what is learned
    /// from is its training part, and its test part is never looked at.
    Files {
        captions: PathBuf,
        /// The folders that its images are looked for in.
        images: Vec<PathBuf>,
        #[serde(default)]
        split: Split,
        #[serde(default = "first_seed")]
        split_seed: u64,
    },
}

/// The captions of each image.
type Captions = Vec<Vec<String>>;

impl PretrainData {
    /// Captions by image, for training and for validation.
    ///
    /// # Errors
    /// When the data set cannot be read or dealt out.
    pub(super) fn captions(&self, report: &dyn Fn(&str)) -> Result<(Captions, Captions)> {
        match self {
            Self::Scenes { count } => {
                let captions = |index| scenes::scene(SCENE_SEED, index).captions.to_vec();
                let mut train: Vec<_> = (0..*count as u64).map(captions).collect();
                let valid = train.split_off(count - count / VALIDATION);
                Ok((train, valid))
            }
            Self::Files { .. } => {
                let (train, valid) = self.files(report)?;
                let captions = |images: Vec<CaptionedImage>| {
                    images.into_iter().map(|image| image.captions).collect()
                };
                Ok((captions(train), captions(valid)))
            }
        }
    }

    /// Images with captions, for training and for validation.
    ///
    /// # Errors
    /// When the data set cannot be read or dealt out, or too many of its images cannot.
    pub(super) fn pairs(&self, report: &dyn Fn(&str)) -> Result<(Pairs, Pairs)> {
        match self {
            Self::Scenes { count } => {
                let count = count / scenes::SIBLINGS;
                let valid = count / VALIDATION;
                let scenes = |first: usize, count| Pairs::Scenes {
                    seed: SCENE_SEED,
                    first: first as u64,
                    count,
                };
                Ok((scenes(0, count - valid), scenes(count - valid, valid)))
            }
            Self::Files { .. } => {
                let (train, valid) = self.files(report)?;
                let pairs = |images: Vec<CaptionedImage>| {
                    let files = (images.into_iter())
                        .filter_map(|image| Some((image.source?, image.captions)))
                        .collect();
                    Pairs::Files(Arc::new(files))
                };
                Ok((pairs(train), pairs(valid)))
            }
        }
    }

    /// The training and the validation part of a data set in files.
    fn files(&self, report: &dyn Fn(&str)) -> Result<(Vec<CaptionedImage>, Vec<CaptionedImage>)> {
        let Self::Files {
            captions,
            images,
            split,
            split_seed,
        } = self
        else {
            return Ok((Vec::new(), Vec::new()));
        };
        let mut images = split_lists::load(captions, images, split, report)?.images;
        // Before they are dealt out, as in `train`: shares of the others are other shares.
        keep_readable(&mut images, captions, report)?;
        let parts = split
            .split(&images, *split_seed)
            .map_err(|error| anyhow!(error))?;
        report(&format!(
            "{} images to train on, {} for validation ({}); {} for testing are not looked at",
            parts.train.len(),
            parts.val.len(),
            split.describe(&images, *split_seed),
            parts.test.len(),
        ));
        let mut images: Vec<Option<CaptionedImage>> = images.into_iter().map(Some).collect();
        let mut part = |places: Vec<usize>| {
            places
                .into_iter()
                .filter_map(|place| images[place].take())
                .collect()
        };
        Ok((part(parts.train), part(parts.val)))
    }
}

fn first_seed() -> u64 {
    1
}

/// Takes out the images that cannot be read, each of which is opened for it and named; captions without an image stay.
///
/// # Errors
/// When there are too many of them; see [`unreadable`].
fn keep_readable(
    images: &mut Vec<CaptionedImage>,
    data: &Path,
    report: &dyn Fn(&str),
) -> Result<()> {
    let error = |image: &CaptionedImage| image.source.as_ref()?.open().err();
    let errors: Vec<Option<OpenError>> = images.par_iter().map(error).collect();
    let unreadable: Vec<&OpenError> = errors.iter().flatten().collect();
    unreadable::check(&unreadable, images.len(), data.display(), report)?;
    let mut errors = errors.iter();
    images.retain(|_| errors.next().is_some_and(Option::is_none));
    Ok(())
}
