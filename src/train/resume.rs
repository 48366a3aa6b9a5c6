//! What a run that goes on must have in common with its beginning.

use std::path::Path;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use super::config::{LearnFrom, TrainConfig};
use crate::captioner::model_folder::{ModelFolder, Part, tokenizer_file};
use crate::data::image_source::ImageSource;
use crate::data::source::CaptionedImage;
use crate::data::split::Split;
use crate::files::{self, hex};
use crate::retrieve;
use crate::tokenizer::TokenizerKind;
use crate::trainer::inputs::{self, Input};
use crate::trainer::run::ARTIFACTS;

/// Notes which networks, vocabularies and datastore a run begins with or, when it is resumed, checks that they are still the
/// same.
///
/// # Errors
/// When the model folder or the datastore holds something else than when the run was begun, or cannot be read.
pub fn check_inputs(
    folder: &Path,
    config: &TrainConfig,
    encoder: &ModelFolder,
    gpt2: &ModelFolder,
) -> Result<()> {
    let mut found = Vec::new();
    let mut add = |model: &ModelFolder, name: &str| -> Result<()> {
        let path = model.path.join(name);
        if path.is_file() {
            found.push(Input {
                name: name.to_string(),
                hash: files::sha256(&path)?,
                changed: format!(
                    "another {name} than {} has now: give the model it was begun with, or start a new run",
                    model.path.display()
                ),
            });
        }
        Ok(())
    };
    add(encoder, encoder.image_part().file_name())?;
    add(gpt2, Part::Gpt2.file_name())?;
    add(gpt2, tokenizer_file(TokenizerKind::Gpt2))?;
    if config.learn_from == LearnFrom::Captions || config.retrieve.is_some() {
        add(encoder, tokenizer_file(TokenizerKind::Clip))?;
    }
    let index = config
        .retrieve
        .as_ref()
        .and_then(|retrieve| retrieve.index.as_ref());
    if let Some(index) = index {
        found.push(Input {
            name: "datastore".into(),
            hash: retrieve::fingerprint(index)?,
            changed: format!(
                "another datastore than {} is now: put back the one it was begun with, or start a new run",
                index.display()
            ),
        });
    }
    inputs::check(folder, inputs::TRAINING, &found)
}

/// Notes what a run learns from or, when it is resumed, checks that it is still the same: the captions, the parts that the data
/// set puts its images in, and the images, of which their names and sizes in bytes are compared.
///
/// # Errors
/// When one of them is another; the message names the data set and the fix.
pub fn check_data(
    folder: &Path,
    data: &Path,
    images: &[CaptionedImage],
    split: &Split,
) -> Result<()> {
    let (mut captions, mut parts, mut files) = (Sha256::new(), Sha256::new(), Sha256::new());
    let put = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for image in images {
        put(&mut captions, &image.id.to_string());
        captions.update((image.captions.len() as u64).to_le_bytes());
        image
            .captions
            .iter()
            .for_each(|caption| put(&mut captions, caption));
        put(&mut parts, &format!("{:?}", image.part));
        put(&mut files, &image.file_name);
        let size = image.source.as_ref().and_then(ImageSource::size);
        files.update(size.map_or([255; 8], u64::to_le_bytes));
    }
    let lists = match split {
        Split::Lists(lists) => format!(" by {lists}"),
        _ => String::new(),
    };
    let fix = "put back what was there, or start a new run";
    let input = |name: &str, hash: Sha256, what: String| Input {
        name: name.into(),
        hash: hex(&hash.finalize()),
        changed: format!("{what}: {fix}"),
    };
    let data = data.display();
    inputs::check(
        folder,
        inputs::TRAINING,
        &[
            input(
                "captions",
                captions,
                format!("other captions than {data} has now"),
            ),
            input(
                "parts",
                parts,
                format!("the images of {data} in other parts than now{lists}"),
            ),
            input(
                "images",
                files,
                format!(
                    "other images than {data} has now{}",
                    changed_image(folder, images)
                ),
            ),
        ],
    )
}

/// Names one of the images that were written after the run noted its inputs.
fn changed_image(folder: &Path, images: &[CaptionedImage]) -> String {
    let time = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(noted) = time(&folder.join(inputs::TRAINING)) else {
        return String::new(); // the run begins
    };
    let is_newer = |path: &&Path| time(path).is_none_or(|changed| changed > noted);
    let sources = images.iter().filter_map(|image| image.source.as_ref());
    match sources.map(ImageSource::path).find(is_newer) {
        Some(path) => format!(" ({} among them)", path.display()),
        None => String::new(),
    }
}

/// The configuration of a run that is to be resumed.
///
/// # Errors
/// When it is not a run folder.
pub fn config(folder: &Path) -> Result<TrainConfig> {
    let path = folder.join("config.json");
    if !path.is_file() {
        bail!(
            "{} is not a run folder: it has no config.json; give a folder in {ARTIFACTS}/",
            folder.display()
        );
    }
    let fix = || {
        "put back a copy; the settings are in the `mapper` of best/source.json too, if the run got that far".to_string()
    };
    files::read_own_json(&path, fix)
}
