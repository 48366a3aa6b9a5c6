//! The model folder that gets what is trained: looked at before anything is computed.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::captioner::model_folder::{ModelConfig, ModelFolder, Part, read_source};
use crate::files;

/// What may be in a folder that a part is to be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Other parts of a model, and not the one that is trained.
    Others,
    /// The part as well, if the run that goes on has put it there.
    Own,
    /// Any such part: it is replaced.
    Any,
}

impl Existing {
    /// What a run may find: `overwrite` says that it may replace what is there, `resume` that it goes on.
    pub fn new(overwrite: bool, resume: bool) -> Self {
        match (overwrite, resume) {
            (true, _) => Self::Any,
            (false, true) => Self::Own,
            (false, false) => Self::Others,
        }
    }
}

/// Checks that a part of a model can be put into a folder. `config`: the settings of its run, by which a run knows what it has
/// put there.
///
/// # Errors
/// When the folder cannot be written, is no model folder and not empty, or has such a part or a mapper, which is trained for the
/// parts beside it.
pub fn check_part(output: &Path, part: Part, config: &impl Serialize, may: Existing) -> Result<()> {
    let Some(model) = open(output)? else {
        return Ok(());
    };
    ensure!(
        model.mapper.is_none(),
        "{} holds a mapper, which was trained for the parts beside it: name another folder",
        output.display()
    );
    let holds = match part {
        Part::Clip => model.clip.is_some(),
        Part::Encoder => model.encoder.is_some(),
        Part::Gpt2 => model.gpt2.is_some(),
        Part::Mapper => false,
    };
    let is_free = !holds && !output.join(part.file_name()).exists();
    let is_allowed = match may {
        Existing::Any => true,
        Existing::Own => is_own(output, part, config)?,
        Existing::Others => false,
    };
    if !is_free && !is_allowed {
        let called = match part {
            Part::Clip => "a CLIP",
            Part::Encoder => "an image encoder",
            Part::Gpt2 => "a GPT-2",
            Part::Mapper => "a mapper",
        };
        bail!(
            "{} holds {called} already: name another folder, delete it, or overwrite it",
            output.display()
        );
    }
    Ok(())
}

/// Checks that a whole model can be put into a folder; `config`: the settings of its CLIP.
///
/// # Errors
/// When the folder cannot be written, is not empty and no model folder, or is a model's and may not be replaced.
pub fn check_model(output: &Path, config: &impl Serialize, may: Existing) -> Result<()> {
    if open(output)?.is_none() {
        return Ok(());
    }
    let is_allowed = match may {
        Existing::Any => true,
        Existing::Own => is_own(output, Part::Clip, config)?,
        Existing::Others => false,
    };
    ensure!(
        is_allowed,
        "{} is a model already: name another folder, delete it, or overwrite it",
        output.display()
    );
    Ok(())
}

/// The model that is in a folder; `None` where there is none and there can be one.
fn open(output: &Path) -> Result<Option<ModelConfig>> {
    files::check_folder(output)?;
    if files::check_free(output).is_ok() {
        return Ok(None);
    }
    ensure!(
        output.join("config.json").is_file(),
        "{} is there already, and is no model folder: name another folder",
        output.display()
    );
    Ok(Some(ModelFolder::open(output)?.config))
}

/// Whether what is there was put there by a run with these settings, or by one that was cut off as it did.
fn is_own(output: &Path, part: Part, config: &impl Serialize) -> Result<bool> {
    let source = read_source(output)?;
    Ok(match source.get(part.name()) {
        Some(entry) => entry["config"] == as_written(config)?,
        None => true,
    })
}

/// Settings as they are read from a file: the last digits of numbers may differ from what was written.
fn as_written(config: &impl Serialize) -> Result<Value> {
    Ok(serde_json::from_str(
        &serde_json::to_value(config)?.to_string(),
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::captioner::model_folder::update_source;

    #[test]
    fn a_folder_is_refused_before_training_unless_the_part_may_go_there() {
        let place = tempfile::tempdir().unwrap();
        let model = place.path().join("model");
        let settings = json!({"epochs": 3});
        let check = |may| check_part(&model, Part::Clip, &settings, may);
        check(Existing::Others).unwrap();
        fs::create_dir(&model).unwrap();
        check(Existing::Others).unwrap();
        fs::write(model.join("notes.txt"), "mine").unwrap();
        for may in [Existing::Others, Existing::Own, Existing::Any] {
            let error = check(may).unwrap_err().to_string();
            assert!(error.contains("no model folder"), "{error}");
        }
        fs::write(model.join("config.json"), "{}").unwrap();
        check(Existing::Others).unwrap();
        fs::write(model.join("clip.bpk"), "weights").unwrap();
        let error = check(Existing::Others).unwrap_err().to_string();
        assert!(error.contains("holds a CLIP already"), "{error}");
        check_part(&model, Part::Gpt2, &settings, Existing::Others).unwrap();
        check(Existing::Any).unwrap();
        update_source(&model, "clip", json!({"config": {"epochs": 3}})).unwrap();
        check(Existing::Own).unwrap();
        update_source(&model, "clip", json!({"config": {"epochs": 4}})).unwrap();
        assert!(check(Existing::Own).is_err());

        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        for output in [file.clone(), file.join("below")] {
            let error = check_model(&output, &settings, Existing::Any).unwrap_err();
            assert!(
                format!("{error:#}").contains("file is not a folder"),
                "{error:#}"
            );
        }
    }
}
