//! A part of a data set, captioned by a model in order to be scored.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clipcap::data::split::Split;
use clipcap::datasets;
use clipcap::datasets::scenes;
use clipcap::decode::Strategy;
use clipcap::evaluate::model::{CaptionSplit, caption};
use clipcap::evaluate::read::join;
use clipcap::files;
use clipcap::train::resume;

use super::{EvaluateArgs, Loaded, out, scene_scores};

/// The folder of a run whose model this is, or the current one.
fn run_folder(model: &Path) -> PathBuf {
    match model.parent() {
        Some(run) if model.ends_with("best") && run.join("config.json").is_file() => {
            run.to_path_buf()
        }
        _ => PathBuf::from("."),
    }
}

/// The data set to caption a part of, and the folder of its images; the sample is made if need be.
pub(super) fn data_and_images(args: &EvaluateArgs) -> Result<(PathBuf, PathBuf)> {
    if let (Some(data), Some(images)) = (&args.data, &args.images) {
        return Ok((data.clone(), images.clone()));
    }
    let sample = Path::new(datasets::FOLDER).join("sample");
    let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
    Ok((annotations, sample.join("images")))
}

/// How the images are divided, and by which seed: as the flags say, else as in the model's run, so that its test part is
/// what it was not trained on.
pub(super) fn division(args: &EvaluateArgs, model: Option<&Path>) -> (Split, u64) {
    let (shares, seed) = of_run(model);
    (
        args.shares.clone().unwrap_or(shares),
        args.split_seed.unwrap_or(seed),
    )
}

/// How the run of a model divided its images; as `train` does by itself where there is none.
fn of_run(model: Option<&Path>) -> (Split, u64) {
    match model.and_then(|model| resume::config(&run_folder(model)).ok()) {
        Some(run) => (run.split.clone(), run.split_seed()),
        None => (Split::Auto, 1),
    }
}

pub(super) fn from_model(args: &EvaluateArgs, model: &Path) -> Result<Loaded> {
    let dataset = Path::new(datasets::FOLDER);
    let (annotations, image_folder) = data_and_images(args)?;
    let (shares, seed) = division(args, Some(model));
    let is_own = of_run(Some(model)) == (shares.clone(), seed);
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
        part: args.split,
        split: shares,
        seed,
        strategy: match args.beam_size {
            Some(beam_size) => Strategy::Beam { beam_size },
            None => Strategy::Greedy,
        },
        dataset,
        device: &args.device.resolve()?,
        precision: args.precision.map(Into::into),
        memory: args.memory.options(),
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
            args.split,
            annotations.display()
        ),
        image_folder: Some(image_folder),
        metrics: Some(output.join(format!("metrics-{}.json", args.split))),
    })
}
