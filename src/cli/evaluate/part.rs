//! A part of a data set, captioned by a model in order to be scored.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::error::ErrorKind;
use clipcap::data::shard_members::is_shard;
use clipcap::data::split::Split;
use clipcap::datasets;
use clipcap::datasets::scenes;
use clipcap::evaluate::model::{CaptionSplit, caption};
use clipcap::evaluate::read::join;
use clipcap::files;
use clipcap::train::resume;

use super::{EvaluateArgs, Loaded, out, scene_scores, usage};

/// The folder of a run whose model this is.
fn run_of(model: &Path) -> Option<&Path> {
    let run = model.parent().filter(|_| model.ends_with("best"))?;
    run.join("config.json").is_file().then_some(run)
}

/// The folder of a run whose model this is, or the current one.
fn run_folder(model: &Path) -> PathBuf {
    run_of(model).unwrap_or(Path::new(".")).to_path_buf()
}

/// The data set to caption a part of, and the folder of its images; the sample is made if need be.
pub(super) fn data_and_images(args: &EvaluateArgs) -> Result<(PathBuf, PathBuf)> {
    if let (Some(data), Some(images)) = (&args.data, &args.images) {
        return Ok((data.clone(), images.clone()));
    }
    if let Some(data) = &args.data {
        let has_images = data.is_dir() || is_shard(data);
        if !has_images {
            usage(
                ErrorKind::MissingRequiredArgument,
                "--data is a file that names images: give --images their folder",
            );
        }
        let folder = match data.is_dir() {
            true => data.as_path(),
            false => data.parent().unwrap_or(Path::new("")),
        };
        return Ok((data.clone(), folder.to_path_buf()));
    }
    sample()
}

/// The generated sample's captions and the folder of its images; it is made if need be.
fn sample() -> Result<(PathBuf, PathBuf)> {
    let sample = Path::new(datasets::FOLDER).join("sample");
    let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
    Ok((annotations, sample.join("images")))
}

/// A data set with the folders of its images, or the generated sample.
pub(in crate::cli) fn sample_or(
    own: Option<(PathBuf, Vec<PathBuf>)>,
) -> Result<(PathBuf, Vec<PathBuf>)> {
    match own {
        Some(own) => Ok(own),
        None => sample().map(|(data, images)| (data, vec![images])),
    }
}

/// How the images are divided, and by which seed: as the flags say, else as in the model's run, so that its test part is
/// what it was not trained on.
///
/// # Errors
/// When the run's settings cannot be read.
pub(super) fn division(args: &EvaluateArgs, model: Option<&Path>) -> Result<(Split, u64)> {
    let (shares, seed) = of_run(model)?;
    Ok((
        args.shares.clone().unwrap_or(shares),
        args.split_seed.unwrap_or(seed),
    ))
}

/// How the run of a model divided its images; as `train` does by itself where there is none.
pub(in crate::cli) fn of_run(model: Option<&Path>) -> Result<(Split, u64)> {
    Ok(match model.and_then(run_of) {
        Some(run) => {
            let config = resume::config(run)?;
            (config.split.clone(), config.split_seed())
        }
        None => (Split::Auto, 1),
    })
}

pub(super) fn from_model(args: &EvaluateArgs, model: &Path) -> Result<Loaded> {
    let dataset = Path::new(datasets::FOLDER);
    let (annotations, image_folder) = data_and_images(args)?;
    let (shares, seed) = division(args, Some(model))?;
    let is_own = of_run(Some(model))? == (shares.clone(), seed);
    let output = args.output.clone().unwrap_or_else(|| match is_own {
        true => run_folder(model),
        // The run's scores are of its own test part.
        false => PathBuf::from("."),
    });
    files::create_dir(&output)?;
    let split = CaptionSplit {
        model,
        data: &annotations,
        image_folders: std::slice::from_ref(&image_folder),
        part: args.split(),
        split: shares,
        seed,
        strategy: args.strategy(),
        dataset,
        device: &args.device.resolve()?,
        precision: args.precision.map(Into::into),
        memory: args.memory.options_for(model)?,
    };
    let part = caption(&split, &output, &|line| out::note(format_args!("{line}")))?;
    out::note(format_args!("captions: {}", part.path.display()));
    let images = join(&part.candidates, &part.references, false)?.images;
    Ok(Loaded {
        scenes: scene_scores(&annotations, &images),
        images,
        subtitle: format!(
            "{} on the {} part of {}",
            model.display(),
            args.split(),
            annotations.display()
        ),
        image_folder: Some(image_folder),
        metrics: Some(output.join(format!("metrics-{}.json", args.split()))),
    })
}
