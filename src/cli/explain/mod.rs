//! `clipcap explain`

mod answers;
mod check;
mod overlays;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::data::split::Split;
use clipcap::evaluate::model::Part;
use clipcap::explain::check::CheckOptions;
use clipcap::explain::{ExplainOptions, Method};
use clipcap::files;
use clipcap::inputs::OtherFiles;

use self::answers::Answers;
use super::common::{FoundArgs, check_files, refuse_idle, refuse_split_seed, usage, valid};
use super::decoding::DecodeArgs;
use super::infer::find_images;
use super::model::ModelArgs;
use super::values::values;

/// Images that explanations are checked on where nothing else is said.
const CHECKED: usize = 200;

/// Show which parts of an image, which prefix vectors and which words each token of a caption came from
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap explain photo.jpg\n  \
    clipcap explain --report explained.html --overlays maps/ photo.jpg\n  \
    clipcap explain --method occlusion --format jsonl photos/\n  \
    clipcap explain --caption 'A dog on a beach.' photo.jpg\n  \
    clipcap explain --check --data captions.json --images photos/\n\n\
    Attention is gradient-weighted attention (Chefer, Gur and Wolf 2021) through GPT-2, the mapper and CLIP's vision \
    transformer. Occlusion covers one part of the image after the other with its mean color, and needs no transformer.\n\n\
    --check covers the fifth of an image that is most relevant to a token, and as much of it at random, and tells how much \
    likelier the token was before.")]
pub struct ExplainArgs {
    /// Image files, folders of them, quoted patterns, addresses (--allow-urls), or - for a list of these, or for an image,
    /// on standard input [default: some of the sample's test images]
    #[arg(value_name = "IMAGE", conflicts_with = "check")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// How relevance of the image's parts is found [default: attention, of CLIPs that are vision transformers; else occlusion]
    #[arg(long, value_enum)]
    method: Option<MethodArg>,
    /// Parts a side that occlusion covers one by one [default: CLIP's patches, at most 16; 8 of other encoders]
    #[arg(long, value_name = "N")]
    cells: Option<usize>,
    /// Explain this caption instead of the model's own
    #[arg(long, value_name = "TEXT", conflicts_with = "check")]
    caption: Option<String>,
    /// Likeliest tokens listed in the place of each
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "check")]
    alternatives: usize,
    /// Nearest tokens listed for each prefix vector
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "check")]
    neighbors: usize,
    /// How explanations are written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File for them instead of standard output
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Write an HTML page to point at words on, in one file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    report: Option<PathBuf>,
    /// Folder for the image with its heat map as PNG: NAME.png of the caption, NAME-01-WORD.png of each token
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    overlays: Option<PathBuf>,
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Check")]
struct CheckArgs {
    /// Measure how much tokens depend on what is relevant to them, by attention and by occlusion unless --method names one
    #[arg(long)]
    check: bool,
    /// Images to check on, drawn from the part [default: 200]
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Data set of the images, in any format that `train --data` reads [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the images named in --data are in; may be given several times
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Vec<PathBuf>,
    /// Part of it: train, val, test or all [default: test]
    #[arg(long, value_name = "PART")]
    split: Option<Part>,
    /// How the images were divided in training, as `train --shares` says it [default: the run's, else auto]
    #[arg(long, value_name = "A/B/C|file|TRAIN,VAL,TEST")]
    shares: Option<Split>,
    /// Seed that the model was trained with, or its --split-seed [default: the run's, else 1]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// Share of the image that is covered, in percent [default: 20]
    #[arg(long, value_name = "PERCENT")]
    covered: Option<f64>,
    /// Random choices of as much of each image [default: 10]
    #[arg(long, value_name = "N")]
    draws: Option<usize>,
}

impl CheckArgs {
    /// Images that are looked at, at most.
    fn count(&self) -> usize {
        self.count.unwrap_or(CHECKED)
    }

    /// The part that they are of.
    fn split(&self) -> Part {
        self.split.unwrap_or(Part::Test)
    }

    fn options(&self) -> CheckOptions {
        let mut options = CheckOptions::default();
        if let Some(percent) = self.covered {
            options.share = percent / 100.0;
        }
        options.draws = self.draws.unwrap_or(options.draws);
        options
    }
}

values! {
    /// How relevance is found.
    pub MethodArg for Method {
        /// Gradient-weighted attention
        Attention,
        /// The log-probability that is lost when a part is covered
        Occlusion,
    }
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    /// Tables for a person
    Text,
    /// One JSON object a line
    #[value(alias = "json")]
    Jsonl,
}

impl ExplainArgs {
    /// Ends the program where a value makes no sense, or a flag has no effect with the others.
    fn refuse(&self) {
        self.decoding.refuse_other_searches();
        if self.caption.is_some() {
            self.decoding
                .refuse_search("--caption is explained, and none is searched for");
        }
        let attention = matches!(self.method, Some(MethodArg::Attention));
        refuse_idle(
            &[("--cells", self.cells.is_some() && attention)],
            "attention is between CLIP's patches: it goes with --method occlusion",
        );
        valid(self.options().validate());
        // clap passes over what is required where that conflicts with what is given.
        let of_check = [
            ("--count", self.check.count.is_some()),
            ("--data", self.check.data.is_some()),
            ("--split", self.check.split.is_some()),
            ("--shares", self.check.shares.is_some()),
            ("--split-seed", self.check.split_seed.is_some()),
            ("--covered", self.check.covered.is_some()),
            ("--draws", self.check.draws.is_some()),
        ];
        if !self.check.check {
            refuse_idle(&of_check, "it goes with --check");
        } else {
            self.found.refuse_idle("--check takes the images of --data");
            valid(self.check.options().validate());
            if self.check.count == Some(0) {
                usage(ErrorKind::InvalidValue, "--count is 0: give at least 1");
            }
            let shares = self.check.shares.clone().unwrap_or_default();
            refuse_split_seed(&shares, self.check.split_seed.is_some());
        }
    }

    /// Checks that what is written at the end can be written.
    ///
    /// # Errors
    /// When it cannot.
    fn check_outputs(&self) -> Result<()> {
        check_files([self.output.as_deref(), self.report.as_deref()])?;
        match &self.overlays {
            Some(folder) => files::check_folder(folder),
            None => Ok(()),
        }
    }

    fn options(&self) -> ExplainOptions {
        let mut options = ExplainOptions::default()
            .alternatives(self.alternatives)
            .neighbors(self.neighbors);
        if let Some(method) = self.method {
            options = options.method(method.into());
        }
        if let Some(cells) = self.cells {
            options = options.cells(cells);
        }
        options
    }
}

pub fn run(args: ExplainArgs) -> Result<ExitCode> {
    args.refuse();
    args.check_outputs()?;
    args.found.truncated.apply();
    let (model, captioner, search) = args.model.load(&args.decoding)?;
    captioner.check_explained(&args.options())?;
    if args.check.check {
        return check::run(&args, &model, &captioner, &search);
    }
    let expansion = args.found.expansion();
    let others = OtherFiles::default();
    let (mut inputs, _) = find_images(args.inputs.clone(), expansion, &others)?;
    let mut answers = Answers::new(&args, &captioner, &search)?;
    loop {
        let batch: Vec<_> = inputs.by_ref().take(args.model.batch_size.get()).collect();
        if batch.is_empty() {
            break;
        }
        answers.explain(&batch)?;
    }
    answers.finish(&model, &others)
}
