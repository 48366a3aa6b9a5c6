//! A run's folder, `artifacts/<run>/`:
//!
//! ```text
//! config.json               everything that was set
//! inputs.json               which networks it began with
//! metrics.jsonl             one line a step and one an epoch
//! checkpoint/               weights, optimiser and schedule of the two latest epochs, and of the best one
//! curves.svg                loss and learning rate as a picture
//! best/                     a model folder
//! predictions-test.json     captions of the test part, COCO results format
//! metrics-test.json         what was measured on them
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::TrainConfig;
use crate::files;
use crate::model_folder::{ModelFolder, Part};

/// The folder that runs are written to.
pub const ARTIFACTS: &str = "artifacts";

/// Makes the folder of a new run: `name`, or `kind` with the first free number.
///
/// # Errors
/// When there is a run of that name already, or the folder cannot be made.
pub fn create(artifacts: &Path, kind: &str, name: Option<&str>) -> Result<PathBuf> {
    files::create_dir(artifacts)?;
    if let Some(name) = name {
        let path = artifacts.join(name);
        if !make(&path)? {
            bail!(
                "{} exists already: choose another --run, or delete it",
                path.display()
            );
        }
        return Ok(path);
    }
    for number in 1.. {
        let path = artifacts.join(format!("{kind}-{number}"));
        if make(&path)? {
            return Ok(path);
        }
    }
    bail!("{} is full", artifacts.display())
}

/// The folder of a new run or, where one of that name is there already, of that one: `marker` is a file it then holds.
///
/// # Errors
/// When the name is taken by something else, or the folder cannot be made.
pub fn open(artifacts: &Path, kind: &str, name: Option<&str>, marker: &str) -> Result<PathBuf> {
    match name {
        Some(name) if artifacts.join(name).join(marker).is_file() => Ok(artifacts.join(name)),
        name => create(artifacts, kind, name),
    }
}

/// Notes what is to be done or, when it is gone on with, checks that it is the same.
///
/// # Errors
/// When the file says something else, or cannot be read or written.
pub fn begin<T: Serialize + DeserializeOwned + PartialEq>(path: &Path, config: &T) -> Result<()> {
    if !path.is_file() {
        return files::write_json(path, config);
    }
    if files::read_json::<T>(path)? != *config {
        bail!(
            "{} says that this run was begun with other settings: choose another --run, or delete it",
            path.display()
        );
    }
    Ok(())
}

/// Notes which networks a run begins with or, when it is resumed, checks that they are still the same.
///
/// # Errors
/// When the model folder holds other weights than the run was begun with.
pub fn check_inputs(folder: &Path, encoder: &ModelFolder, gpt2: &ModelFolder) -> Result<()> {
    let mut inputs = BTreeMap::new();
    for (model, part) in [(encoder, encoder.picture_part()), (gpt2, Part::Gpt2)] {
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
/// When the folder is no run's.
pub fn config(folder: &Path) -> Result<TrainConfig> {
    let path = folder.join("config.json");
    if !path.is_file() {
        bail!(
            "{} is no run: it has no config.json; give a folder in {ARTIFACTS}/",
            folder.display()
        );
    }
    files::read_json(&path)
}

/// Whether the folder is new.
fn make(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot make the folder {}: check its permissions and free space",
                path.display()
            )
        }),
    }
}

/// The model of the run that finished last.
pub fn latest_model(artifacts: &Path) -> Option<PathBuf> {
    let finished = |path: PathBuf| -> Option<(SystemTime, PathBuf)> {
        let model = path.join("best");
        // Written last, so its presence says that the model is whole.
        let config = fs::metadata(model.join("config.json")).ok()?;
        model
            .join("mapper.bpk")
            .is_file()
            .then_some((config.modified().ok()?, model))
    };
    fs::read_dir(artifacts)
        .ok()?
        .filter_map(|entry| finished(entry.ok()?.path()))
        .max()
        .map(|(_, model)| model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_names_are_not_taken_twice() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = root.path().join("artifacts");
        assert!(
            create(&artifacts, "train", None)
                .unwrap()
                .ends_with("train-1")
        );
        assert!(
            create(&artifacts, "train", None)
                .unwrap()
                .ends_with("train-2")
        );
        create(&artifacts, "train", Some("mine")).unwrap();
        let error = create(&artifacts, "train", Some("mine"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("mine") && error.contains("--run"), "{error}");
    }

    #[test]
    fn the_latest_model_is_of_a_run_that_finished() {
        let artifacts = tempfile::tempdir().unwrap();
        assert_eq!(latest_model(artifacts.path()), None);
        for name in ["a", "b"] {
            let best = artifacts.path().join(name).join("best");
            fs::create_dir_all(&best).unwrap();
            fs::write(best.join("mapper.bpk"), "").unwrap();
        }
        fs::write(artifacts.path().join("a/best/config.json"), "").unwrap();
        assert_eq!(
            latest_model(artifacts.path()),
            Some(artifacts.path().join("a/best"))
        );
    }
}
