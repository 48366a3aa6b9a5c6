//! What a run that goes on must have in common with its beginning.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use super::config::TrainConfig;
use crate::captioner::model_folder::{ModelFolder, Part};
use crate::files;
use crate::trainer::run::ARTIFACTS;

/// Notes which networks a run begins with or, when it is resumed, checks that they are still the same.
///
/// # Errors
/// When the model folder holds other weights than the run was begun with.
pub fn check_inputs(folder: &Path, encoder: &ModelFolder, gpt2: &ModelFolder) -> Result<()> {
    let mut inputs = BTreeMap::new();
    for (model, part) in [(encoder, encoder.image_part()), (gpt2, Part::Gpt2)] {
        let path = model.path.join(part.file_name());
        if part == Part::Encoder && !path.is_file() {
            continue; // pixels as they are
        }
        inputs.insert(part.file_name().to_string(), files::sha256(&path)?);
    }
    let path = folder.join("inputs.json");
    if !path.is_file() {
        return files::write_json(&path, &inputs);
    }
    let before: BTreeMap<String, String> = files::read_json(&path)?;
    match inputs
        .iter()
        .find(|(name, sha256)| before.get(*name) != Some(sha256))
    {
        Some((name, _)) => bail!(
            "{} was begun with another {name} than {} has now: give the model it was begun with, or start a new run",
            folder.display(),
            if name.as_str() == Part::Gpt2.file_name() {
                gpt2
            } else {
                encoder
            }
            .path
            .display()
        ),
        None => Ok(()),
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
    files::read_json(&path)
}
