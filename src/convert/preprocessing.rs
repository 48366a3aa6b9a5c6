//! What is done to an image before a CLIP sees it, read from the settings beside its weights: Hugging Face's
//! `preprocessor_config.json`, or `preprocess_cfg` in open_clip's `open_clip_config.json`.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::origin::{Origin, Settings};
use crate::models::clip::Preprocessing;

/// Pillow's number for bicubic resampling.
const BICUBIC: usize = 3;

/// The preprocessing that belongs to a checkpoint, and a note where the settings do not tell it.
///
/// # Errors
/// When the settings ask for another kind of resizing, or for another size than the tower's.
pub fn read(origin: &Origin, image_size: usize) -> Result<(Preprocessing, Option<String>)> {
    let mut preprocessing = Preprocessing::openai(u32::try_from(image_size)?);
    let (mean, std) = if let Some(settings) = origin.settings("preprocessor_config.json")? {
        check_hugging_face(&settings, image_size)?;
        (
            settings.triple("image_mean")?,
            settings.triple("image_std")?,
        )
    } else if let Some(settings) = origin.settings("open_clip_config.json")? {
        let settings = settings.section("preprocess_cfg");
        check_open_clip(&settings, image_size)?;
        (settings.triple("mean")?, settings.triple("std")?)
    } else {
        let note = "no preprocessor_config.json or open_clip_config.json beside it: OpenAI's mean and standard deviation are taken";
        return Ok((preprocessing, Some(note.into())));
    };
    preprocessing.mean = mean.unwrap_or(preprocessing.mean);
    preprocessing.std = std.unwrap_or(preprocessing.std);
    ensure!(
        preprocessing.std.iter().all(|std| *std > 0.0),
        "{}: the standard deviation is {:?}, but must be positive",
        origin.path.display(),
        preprocessing.std
    );
    Ok((preprocessing, None))
}

fn check_hugging_face(settings: &Settings, image_size: usize) -> Result<()> {
    for step in ["do_resize", "do_center_crop", "do_normalize", "do_rescale"] {
        settings.require(step, true)?;
    }
    if let Some(resample) = settings.size("resample")? {
        ensure!(
            resample == BICUBIC,
            "{}: resample is {resample}; only bicubic, {BICUBIC}, is supported",
            settings.file().display()
        );
    }
    for key in ["size", "crop_size"] {
        let sides: Vec<u64> = match settings.get(key) {
            Some(Value::Object(sides)) => sides.values().filter_map(Value::as_u64).collect(),
            Some(side) => side.as_u64().into_iter().collect(),
            None => continue,
        };
        ensure!(
            !sides.is_empty() && sides.iter().all(|side| *side == image_size as u64),
            "{}: {key} is {}, but the weights beside it are for {image_size} pixels",
            settings.file().display(),
            settings.get(key).unwrap_or(&Value::Null)
        );
    }
    Ok(())
}

fn check_open_clip(settings: &Settings, image_size: usize) -> Result<()> {
    for (key, supported) in [("interpolation", "bicubic"), ("resize_mode", "shortest")] {
        match settings.text(key)? {
            Some(value) if value != supported => bail!(
                "{}: {key} is `{value}`; only `{supported}` is supported",
                settings.file().display()
            ),
            _ => {}
        }
    }
    match settings.get("size") {
        Some(Value::Number(_)) => settings.agree("size", image_size),
        _ => Ok(()),
    }
}
