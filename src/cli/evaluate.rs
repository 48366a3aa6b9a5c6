//! `clipcap evaluate`

mod args;
mod baselines;
mod part;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clipcap::data::coco::ImageId;
use clipcap::datasets::scenes::{SceneScores, SceneSet};
use clipcap::evaluate::clip_score;
use clipcap::evaluate::compare::compare;
use clipcap::evaluate::read::{Candidates, EvaluatedImage, Joined, References, join};
use clipcap::evaluate::report::{self, ReportHead};
use clipcap::evaluate::score::{Evaluation, ScoreOptions, score};
use clipcap::evaluate::table::{self, Style};
use clipcap::files;
use serde::Serialize;

pub(super) use part::{of_run, sample_or};

pub use args::EvaluateArgs;

use args::Format;
use part::from_model;

use super::common::usage;
use super::find;
use super::out;

/// Images listed by --compare.
const MOVED: usize = 10;

/// Images to score, and where they are from.
struct Loaded {
    images: Vec<EvaluatedImage>,
    subtitle: String,
    image_folder: Option<PathBuf>,
    /// Where a model's scores are kept.
    metrics: Option<PathBuf>,
    /// How the captions hold against the scenes, of generated ones.
    scenes: Option<SceneScores>,
}

pub fn run(args: EvaluateArgs) -> Result<ExitCode> {
    let options = args.options();
    args.strategy();
    args.refuse_idle();
    args.memory.check();
    if let Some(files) = &args.compare {
        return run_compare(&args, &options, &files[0], &files[1]);
    }
    if args.memory.is_given() && args.model.is_none() {
        usage(
            ErrorKind::MissingRequiredArgument,
            "--retrieve, --project-memory and --index are for a model: give --model",
        );
    }
    args.truncated.apply();
    args.check_outputs()?;
    if let Some(model) = &args.model {
        args.memory.options_for(&find::folder(model)?)?;
    }
    if args.baselines {
        return baselines::run(&args, &options);
    }
    let mut loaded = match (&args.candidates, &args.references, &args.model) {
        (Some(candidates), Some(references), _) => from_file(&args, candidates, references)?,
        (_, _, Some(model)) => from_model(&args, &find::folder(model)?)?,
        _ => usage(
            ErrorKind::MissingRequiredArgument,
            "give --candidates and --references, or --model, or --baselines, or --compare and --references",
        ),
    };
    let more = match &args.clip_score {
        Some(model) => {
            let model = &find::folder(model)?;
            let Some(image_folder) = &loaded.image_folder else {
                usage(
                    ErrorKind::MissingRequiredArgument,
                    "--clip-score looks at the images: give --images",
                );
            };
            let progress = |done: usize| {
                if done.is_multiple_of(1024) {
                    out::note(format_args!("CLIPScore: {done} images"));
                }
            };
            clip_score::score(
                model,
                &mut loaded.images,
                image_folder,
                &args.device.resolve()?,
                &progress,
                &|line| out::note(format_args!("{line}")),
            )?
            .scores
        }
        None => Vec::new(),
    };
    let mut evaluation = score(loaded.images, &options, more)?;
    evaluation.scenes = loaded.scenes;
    if let Some(path) = &loaded.metrics {
        files::write_json(path, &evaluation)?;
        out::note(format_args!("scores: {}", path.display()));
    }
    if let Some(path) = &args.report {
        let head = ReportHead {
            title: "Evaluation",
            subtitle: &loaded.subtitle,
            image_folder: loaded.image_folder.as_deref(),
            seed: args.seed,
        };
        report::write(path, &evaluation, &head)?;
        out::note(format_args!("report: {}", path.display()));
    }
    print(&args, &evaluation)?;
    Ok(ExitCode::SUCCESS)
}

/// Joins captions with references, and says what is not scored.
fn joined(candidates: &Path, references: &References, allow_missing: bool) -> Result<Joined> {
    let joined = join(&Candidates::load(candidates)?, references, allow_missing)?;
    for remark in joined.remarks() {
        out::note(remark);
    }
    Ok(joined)
}

/// Reads references, and says what of them cannot be used.
fn read_references(path: &Path) -> Result<References> {
    let references = References::load(path)?;
    for line in references.left_out.lines() {
        out::note(line);
    }
    Ok(references)
}

fn from_file(args: &EvaluateArgs, candidates: &Path, references: &Path) -> Result<Loaded> {
    let read = read_references(references)?;
    let images = joined(candidates, &read, args.allow_missing)?.images;
    Ok(Loaded {
        scenes: scene_scores(references, &images),
        images,
        subtitle: format!("{} against {}", candidates.display(), references.display()),
        image_folder: args.images.clone(),
        metrics: None,
    })
}

/// How captions hold against the scenes that the annotations are of; `None` where they are of other images.
fn scene_scores(annotations: &Path, images: &[EvaluatedImage]) -> Option<SceneScores> {
    let ids: Vec<ImageId> = images
        .iter()
        .map(|image| ImageId::parse(&image.id))
        .collect();
    let said = images.iter().map(|image| image.sample.candidate.as_str());
    SceneSet::find(annotations)?.check(ids.iter().zip(said))
}

fn print(args: &EvaluateArgs, evaluation: &Evaluation) -> Result<()> {
    let markdown = || table::scores(evaluation, Style::Markdown);
    args.markdown.write(markdown)?;
    match args.format {
        Format::Json => print_json(evaluation)?,
        Format::Text => out::text(&table::scores(evaluation, Style::Text))?,
        Format::Markdown => out::text(&markdown())?,
    }
    Ok(())
}

fn print_json(value: &impl Serialize) -> Result<()> {
    out::line(serde_json::to_string(value)?)
}

fn run_compare(
    args: &EvaluateArgs,
    options: &ScoreOptions,
    a: &Path,
    b: &Path,
) -> Result<ExitCode> {
    let Some(references) = &args.references else {
        usage(
            ErrorKind::MissingRequiredArgument,
            "--compare needs --references",
        );
    };
    if options.bootstrap.resamples == 0 {
        usage(
            ErrorKind::ValueValidation,
            "--compare needs --resamples of at least 1",
        );
    }
    let by = args.by();
    args.check_outputs()?;
    let references = read_references(references)?;
    let evaluate = |path: &Path| -> Result<Evaluation> {
        let images = joined(path, &references, args.allow_missing)?.images;
        // The differences get their own resamples.
        let mut options = options.clone();
        options.bootstrap.resamples = 0;
        score(images, &options, Vec::new())
    };
    let found = compare(&evaluate(a)?, &evaluate(b)?, &options.bootstrap, by, MOVED)?;
    let markdown = || table::comparison(&found, Style::Markdown);
    args.markdown.write(markdown)?;
    match args.format {
        Format::Json => print_json(&found)?,
        Format::Text => out::text(&table::comparison(&found, Style::Text))?,
        Format::Markdown => out::text(&markdown())?,
    }
    Ok(ExitCode::SUCCESS)
}
