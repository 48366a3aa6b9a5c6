//! What `clipcap evaluate` can be told, and what of it makes no sense.

use std::path::PathBuf;

use anyhow::Result;
use caption_metrics::bootstrap::Bootstrap;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::CaptionOptions;
use clipcap::data::split::Split;
use clipcap::decode::Strategy;
use clipcap::evaluate::model::Part;
use clipcap::evaluate::score::ScoreOptions;
use clipcap::files;

use crate::cli::common::{
    DeviceArg, MarkdownArg, TruncatedArg, check_files, refuse_idle, refuse_split_seed, usage, valid,
};
use crate::cli::complete;
use crate::cli::decoding::BEAM_SIZE;
use crate::cli::memory::MemoryArgs;
use crate::cli::model::PrecisionArg;

/// Resamples that fit in memory.
const MOST_RESAMPLES: usize = 1_000_000;
/// Confidence level of intervals, in percent.
const CONFIDENCE: f64 = 95.0;
/// The scores that --compare can order images by.
const SCORES: [&str; 7] = [
    "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr",
];

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
    pub(super) candidates: Option<PathBuf>,
    /// Reference captions: COCO annotations, Karpathy's splits, JSON Lines or a table
    #[arg(long, value_name = "FILE")]
    pub(super) references: Option<PathBuf>,
    /// Score the images that have a caption when more than a tenth have none
    #[arg(long, requires = "references")]
    pub(super) allow_missing: bool,
    /// Two files of captions of the same images, to be compared
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "model", requires = "references")]
    pub(super) compare: Option<Vec<PathBuf>>,
    /// Model, to caption a part of a data set with first: a folder, a run, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    pub(super) model: Option<PathBuf>,
    /// Score what any model must beat on the part: the most frequent training caption, a training caption drawn at random
    /// for each image, and that of the training image nearest by the principal components of its pixels; beside --model
    /// where it is given
    #[arg(long, conflicts_with_all = ["candidates", "compare", "report", "clip_score"])]
    pub(super) baselines: bool,
    /// Data set to caption and score, in any format that `train --data` reads [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Folder of the images: to caption them, to show them in the report, for CLIPScore; of folders and WebDataset shards
    /// they are the images themselves
    #[arg(long, value_name = "DIR")]
    pub(super) images: Option<PathBuf>,
    /// Part to caption: train, val, test or all [default: test]
    #[arg(long, value_name = "PART")]
    pub(super) split: Option<Part>,
    /// How the images were divided in training, as `train --shares` says it: shares in percent, `file`, three lists, or
    /// `auto` [default: the run's, else auto]
    #[arg(long, value_name = "A/B/C|file|TRAIN,VAL,TEST")]
    pub(super) shares: Option<Split>,
    /// Seed that the model was trained with, or its --split-seed [default: the run's, else 1]
    #[arg(long, value_name = "N")]
    pub(super) split_seed: Option<u64>,
    /// How tokens are chosen [default: greedy]
    #[arg(long, value_enum)]
    pub(super) decode: Option<DecodeArg>,
    /// Beams, with --decode beam [default: 5]
    #[arg(long, value_name = "N")]
    pub(super) beam_size: Option<usize>,
    /// Type of weights and matrix products of CLIP and GPT-2 [default: CLIP as in training, f32; GPT-2 f16, where the device
    /// has it]
    #[arg(long, value_enum)]
    pub(super) precision: Option<PrecisionArg>,
    /// Folder for predictions-<part>.json and metrics-<part>.json [default: the model's run, else here]; with
    /// --baselines for their predictions-<part>-<baseline>.json too
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Folder with METEOR 1.5's jar and paraphrase table
    #[arg(long, value_name = "DIR")]
    pub(super) meteor_data: Option<PathBuf>,
    /// CIDEr's document frequencies from this file: references, or a JSON table
    #[arg(long, value_name = "FILE")]
    pub(super) cider_df: Option<PathBuf>,
    /// Model whose CLIP gives CLIPScore and RefCLIPScore: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    pub(super) clip_score: Option<PathBuf>,
    /// Bootstrap resamples for the intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) resamples: usize,
    /// Confidence level of the intervals, in percent [default: 95]
    #[arg(long, value_name = "PERCENT")]
    pub(super) confidence: Option<f64>,
    /// Seed of the resamples, and of the captions that --baselines draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Score that --compare orders images by [default: CIDEr]
    #[arg(long, value_name = "SCORE")]
    pub(super) by: Option<String>,
    /// How scores are printed
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
    /// Write an HTML report, in one file
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) memory: MemoryArgs,
    #[command(flatten)]
    pub(super) markdown: MarkdownArg,
    #[command(flatten)]
    pub(super) truncated: TruncatedArg,
    #[command(flatten)]
    pub(super) device: DeviceArg,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table for a person
    Text,
    /// The same in Markdown
    Markdown,
    /// Overall, and image by image
    Json,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub(super) enum DecodeArg {
    /// The likeliest token each time
    Greedy,
    /// ClipCap's beam search
    Beam,
}

impl EvaluateArgs {
    /// How a model captions. Flags that contradict each other, and values that make no sense, end the program.
    pub(super) fn strategy(&self) -> Strategy {
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

    pub(super) fn options(&self) -> ScoreOptions {
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

    /// Ends the program where a flag is given that has no effect with the others.
    pub(super) fn refuse_idle(&self) {
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
    pub(super) fn split(&self) -> Part {
        self.split.unwrap_or(Part::Test)
    }

    /// The score that a comparison orders images by. One that there is not ends the program.
    pub(super) fn by(&self) -> &str {
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
    pub(super) fn check_outputs(&self) -> Result<()> {
        self.markdown.check()?;
        check_files([self.report.as_deref()])?;
        match &self.output {
            Some(folder) => files::check_folder(folder),
            None => Ok(()),
        }
    }
}
