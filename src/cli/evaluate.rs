//! `clipcap evaluate`

mod baselines;
mod part;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use caption_metrics::bootstrap::Bootstrap;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::CaptionOptions;
use clipcap::data::coco::ImageId;
use clipcap::data::split::Split;
use clipcap::datasets::scenes::{SceneScores, SceneSet};
use clipcap::decode::Strategy;
use clipcap::evaluate::clip_score;
use clipcap::evaluate::compare::compare;
use clipcap::evaluate::model::Part;
use clipcap::evaluate::read::{Candidates, EvaluatedImage, Joined, References, join};
use clipcap::evaluate::report::{self, ReportHead};
use clipcap::evaluate::score::{Evaluation, ScoreOptions, score};
use clipcap::evaluate::table::{self, Style};
use clipcap::files;
use serde::Serialize;

pub(super) use part::{of_run, sample_or};

use part::from_model;

use super::common::{
    DeviceArg, MarkdownArg, TruncatedArg, check_files, refuse_idle, refuse_split_seed, usage, valid,
};
use super::decoding::BEAM_SIZE;
use super::memory::MemoryArgs;
use super::model::PrecisionArg;
use super::out;
use super::{complete, find};

/// Resamples that fit in memory.
const MOST_RESAMPLES: usize = 1_000_000;
/// Confidence level of intervals, in percent.
const CONFIDENCE: f64 = 95.0;
/// The scores that --compare can order images by.
const SCORES: [&str; 7] = [
    "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr",
];
/// Images listed by --compare.
const MOVED: usize = 10;

/// Score captions against reference captions: a results file, or a model on a part of a data set
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap evaluate --candidates results.json --references captions_val2017.json\n  \
    clipcap evaluate --candidates captions.jsonl --references captions_val2017.json   (what `infer` wrote)\n  \
    clipcap evaluate --model artifacts/train-1/best --split test --report report.html\n  \
    clipcap evaluate --compare old.json new.json --references captions_val2017.json\n  \
    clipcap evaluate --baselines --data captions.json --images photos/ --model artifacts/train-1/best\n\n\
    Captions and references are joined by image id, or where the captions name files, as those of `infer` do, by the last\n\
    part of the file's name and the references' file_name. More than a tenth of entries that cannot be used, or of images\n\
    without a caption, is an error.\n\n\
    BLEU, ROUGE-L and CIDEr are pycocoevalcap's, to the last digits. METEOR needs its data (68 MB, LGPL), which does not come\n\
    with this program: give --meteor-data the folder pycocoevalcap/meteor of its Python package. SPICE is not here: it needs a\n\
    dependency parser with 400 MB of models.")]
pub struct EvaluateArgs {
    /// Captions to score: COCO results, JSON Lines or a table with image_id (or image) and caption, or infer's output, of
    /// images or of a shard
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "compare"], requires = "references")]
    candidates: Option<PathBuf>,
    /// Reference captions: COCO annotations, Karpathy's splits, JSON Lines or a table
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,
    /// Score the images that have a caption when more than a tenth have none
    #[arg(long, requires = "references")]
    allow_missing: bool,
    /// Two files of captions of the same images, to be compared
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "model", requires = "references")]
    compare: Option<Vec<PathBuf>>,
    /// Model, to caption a part of a data set with first: a folder, a run, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    model: Option<PathBuf>,
    /// Score what any model must beat on the part: the most frequent training caption, a training caption drawn at random
    /// for each image, and that of the training image nearest by the principal components of its pixels; beside --model
    /// where it is given
    #[arg(long, conflicts_with_all = ["candidates", "compare", "report", "clip_score"])]
    baselines: bool,
    /// Data set to caption and score, in any format that `train --data` reads [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder of the images: to caption them, to show them in the report, for CLIPScore; of folders and WebDataset shards
    /// they are the images themselves
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Part to caption: train, val, test or all [default: test]
    #[arg(long, value_name = "PART")]
    split: Option<Part>,
    /// How the images were divided in training, as `train --shares` says it: shares in percent, `file`, three lists, or
    /// `auto` [default: the run's, else auto]
    #[arg(long, value_name = "A/B/C|file|TRAIN,VAL,TEST")]
    shares: Option<Split>,
    /// Seed that the model was trained with, or its --split-seed [default: the run's, else 1]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// How tokens are chosen [default: greedy]
    #[arg(long, value_enum)]
    decode: Option<DecodeArg>,
    /// Beams, with --decode beam [default: 5]
    #[arg(long, value_name = "N")]
    beam_size: Option<usize>,
    /// Type of weights and matrix products of CLIP and GPT-2 [default: CLIP as in training, f32; GPT-2 f16, where the device
    /// has it]
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// Folder for predictions-<part>.json and metrics-<part>.json [default: the model's run, else here]; with
    /// --baselines for their predictions-<part>-<baseline>.json too
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder with METEOR 1.5's jar and paraphrase table
    #[arg(long, value_name = "DIR")]
    meteor_data: Option<PathBuf>,
    /// CIDEr's document frequencies from this file: references, or a JSON table
    #[arg(long, value_name = "FILE")]
    cider_df: Option<PathBuf>,
    /// Model whose CLIP gives CLIPScore and RefCLIPScore: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    clip_score: Option<PathBuf>,
    /// Bootstrap resamples for the intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: usize,
    /// Confidence level of the intervals, in percent [default: 95]
    #[arg(long, value_name = "PERCENT")]
    confidence: Option<f64>,
    /// Seed of the resamples, and of the captions that --baselines draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Score that --compare orders images by [default: CIDEr]
    #[arg(long, value_name = "SCORE")]
    by: Option<String>,
    /// How scores are printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write an HTML report, in one file
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    report: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    markdown: MarkdownArg,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    /// A table for a person
    Text,
    /// The same in Markdown
    Markdown,
    /// Overall, and image by image
    Json,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum DecodeArg {
    /// The likeliest token each time
    Greedy,
    /// ClipCap's beam search
    Beam,
}

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

impl EvaluateArgs {
    /// How a model captions. Flags that contradict each other, and values that make no sense, end the program.
    fn strategy(&self) -> Strategy {
        let strategy = match (self.decode.unwrap_or(DecodeArg::Greedy), self.beam_size) {
            (DecodeArg::Greedy, None) => Strategy::Greedy,
            (DecodeArg::Greedy, Some(_)) => usage(
                ErrorKind::ArgumentConflict,
                "--beam-size needs --decode beam",
            ),
            (DecodeArg::Beam, size) => Strategy::Beam {
                beam_size: size.unwrap_or(BEAM_SIZE),
            },
        };
        valid(CaptionOptions::new(strategy.clone()).validate());
        strategy
    }

    fn options(&self) -> ScoreOptions {
        let confidence = self.confidence.unwrap_or(CONFIDENCE);
        if !(confidence > 0.0 && confidence < 100.0) {
            usage(
                ErrorKind::ValueValidation,
                &format!("--confidence {confidence} makes no sense: give a percentage such as 95"),
            );
        }
        if self.resamples > MOST_RESAMPLES {
            usage(
                ErrorKind::ValueValidation,
                &format!(
                    "--resamples {} is too many: give at most {MOST_RESAMPLES}",
                    self.resamples
                ),
            );
        }
        ScoreOptions {
            meteor_data: self.meteor_data.clone(),
            cider_frequencies: self.cider_df.clone(),
            bootstrap: Bootstrap {
                resamples: self.resamples,
                confidence: confidence / 100.0,
                seed: self.seed,
            },
        }
    }
}

impl EvaluateArgs {
    /// Ends the program where a flag is given that has no effect with the others.
    fn refuse_idle(&self) {
        let none = self.resamples == 0;
        refuse_idle(
            &[("--confidence", none && self.confidence.is_some())],
            "without resamples there are no intervals",
        );
        // Not by clap, which passes over what is required where that conflicts with what is given.
        let of_model = [
            ("--decode", self.decode.is_some()),
            ("--beam-size", self.beam_size.is_some()),
            ("--precision", self.precision.is_some()),
        ];
        let of_part = [
            ("--data", self.data.is_some()),
            ("--split", self.split.is_some()),
            ("--shares", self.shares.is_some()),
            ("--split-seed", self.split_seed.is_some()),
            ("--output", self.output.is_some()),
        ];
        if self.model.is_none() {
            refuse_idle(&of_model, "it goes with --model");
        }
        let by = ("--by", self.by.is_some() && self.compare.is_none());
        refuse_idle(&[by], "it goes with --compare");
        if self.model.is_some() || self.baselines {
            refuse_idle(
                &[("--references", self.references.is_some())],
                "with --model and --baselines the references are those of --data",
            );
        } else {
            refuse_idle(&of_part, "it goes with --model or --baselines");
            let is_seen = self.report.is_some() || self.clip_score.is_some();
            refuse_idle(
                &[("--images", self.images.is_some() && !is_seen)],
                "images are looked at for --report and --clip-score",
            );
        }
        let clip_score = (
            "--clip-score",
            self.compare.is_some() && self.clip_score.is_some(),
        );
        refuse_idle(&[clip_score], "--compare compares the other scores");
        let shares = self.shares.clone().unwrap_or_default();
        refuse_split_seed(&shares, self.split_seed.is_some());
    }

    /// The part that is captioned.
    fn split(&self) -> Part {
        self.split.unwrap_or(Part::Test)
    }

    /// The score that a comparison orders images by. One that there is not ends the program.
    fn by(&self) -> &str {
        let by = self.by.as_deref().unwrap_or("CIDEr");
        if by == "METEOR" && self.meteor_data.is_none() {
            usage(
                ErrorKind::ArgumentConflict,
                "--by METEOR needs --meteor-data",
            );
        }
        if !SCORES.contains(&by) {
            let all = SCORES.join(", ");
            usage(
                ErrorKind::InvalidValue,
                &format!("--by {by}: there is no such score: give one of {all}"),
            );
        }
        by
    }

    /// Checks that what is written at the end can be written.
    ///
    /// # Errors
    /// When it cannot.
    fn check_outputs(&self) -> Result<()> {
        self.markdown.check()?;
        check_files([self.report.as_deref()])?;
        match &self.output {
            Some(folder) => files::check_folder(folder),
            None => Ok(()),
        }
    }
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
