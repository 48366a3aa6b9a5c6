//! What CLIP and GPT-2 are pretrained on: generated scenes, or captioned images in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::clip::Pairs;
use crate::data::image_source::ImageSource;
use crate::data::source;
use crate::data::unreadable;
use crate::datasets::scenes;
use crate::images::OpenError;
use crate::trainer::dashboard::LogFn;

/// One in this many images is for validation.
pub(super) const VALIDATION: usize = 20;
/// Seed of the scenes that sample models are pretrained on: another than the sample set's, so that its test part stays
/// unseen.
const SCENE_SEED: u64 = 1_000_003;

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PretrainData {
    /// Generated scenes.
    Scenes { count: usize },
    /// A data set in any of the formats of [`crate::data::source`], and the folders its images are looked for in.
    Files {
        captions: PathBuf,
        images: Vec<PathBuf>,
    },
}

impl PretrainData {
    /// Captions by image.
    pub(super) fn captions(&self, report: &LogFn) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Scenes { count } => Ok((0..*count as u64)
                .map(|index| scenes::scene(SCENE_SEED, index).captions.to_vec())
                .collect()),
            Self::Files { captions, images } => {
                let found = source::load_and_report(captions, images, &|line| report(line))?;
                let images = found.images;
                Ok(images.into_iter().map(|image| image.captions).collect())
            }
        }
    }

    /// Images with captions, for training and for validation.
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
            Self::Files { captions, images } => {
                let found = source::load_and_report(captions, images, report)?;
                let mut files: Vec<_> = (found.images.into_iter())
                    .filter_map(|image| Some((image.source?, image.captions)))
                    .collect();
                keep_readable(&mut files, captions, report)?;
                let valid = files.split_off(files.len() - files.len() / VALIDATION);
                Ok((Pairs::Files(Arc::new(files)), Pairs::Files(Arc::new(valid))))
            }
        }
    }
}

/// Takes out the images that cannot be read, each of which is opened for it and named.
///
/// # Errors
/// When there are too many of them; see [`unreadable`].
fn keep_readable(
    files: &mut Vec<(ImageSource, Vec<String>)>,
    data: &Path,
    report: &dyn Fn(&str),
) -> Result<()> {
    let errors: Vec<Option<OpenError>> = files
        .par_iter()
        .map(|(source, _)| source.open().err())
        .collect();
    let unreadable: Vec<&OpenError> = errors.iter().flatten().collect();
    unreadable::check(&unreadable, files.len(), data.display(), report)?;
    let mut errors = errors.iter();
    files.retain(|_| errors.next().is_some_and(Option::is_none));
    Ok(())
}
