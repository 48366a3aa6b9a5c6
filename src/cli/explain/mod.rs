//! `clipcap explain`

mod check;
mod overlays;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::{Caption, Captioner, Search, open_crops};
use clipcap::data::split::Split;
use clipcap::evaluate::model::Part;
use clipcap::explain::check::CheckOptions;
use clipcap::explain::report::{Explained, Report};
use clipcap::explain::{ExplainOptions, Explanation, Method};
use clipcap::files;
use clipcap::inputs::{FileKinds, Input, InputError, OtherFiles};
use clipcap::path_text;
use image::RgbImage;
use serde_json::json;

use self::overlays::Overlays;
use super::common::{FoundArgs, check_files, refuse_idle, refuse_split_seed, usage, valid};
use super::decoding::DecodeArgs;
use super::infer::find_images;
use super::model::{ModelArgs, name};
use super::out;
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

/// Explanations on their way out.
struct Answers<'a> {
    args: &'a ExplainArgs,
    captioner: &'a Captioner,
    search: &'a Search,
    options: ExplainOptions,
    /// Lines for --output, to be written at the end.
    lines: String,
    report: Report,
    overlays: Option<Overlays>,
    given: usize,
    failed: usize,
    /// Images of a format that is not read.
    refused: FileKinds,
}

impl<'a> Answers<'a> {
    fn new(args: &'a ExplainArgs, captioner: &'a Captioner, search: &'a Search) -> Result<Self> {
        let overlays = args.overlays.clone().map(Overlays::new).transpose()?;
        Ok(Self {
            args,
            captioner,
            search,
            options: args.options(),
            lines: String::new(),
            report: Report::default(),
            overlays,
            given: 0,
            failed: 0,
            refused: FileKinds::default(),
        })
    }

    fn explain(&mut self, batch: &[Result<Input, InputError>]) -> Result<()> {
        let inputs: Vec<&Input> = batch.iter().flatten().collect();
        let opened = open_crops(&inputs, self.captioner.encoder.preprocessing());
        let crops: Vec<RgbImage> = opened.iter().flatten().cloned().collect();
        let mut captions = self.captions(&crops)?.into_iter();
        let mut opened = opened.into_iter();
        for input in batch {
            self.given += 1;
            let input = match input {
                Ok(input) => input,
                Err(error) => {
                    self.refuse(error.path(), &error.to_string())?;
                    continue;
                }
            };
            match opened.next().context("an image was not opened")? {
                Ok(crop) => {
                    self.spare(&input.path)?;
                    let caption = captions.next().context("an image got no caption")?;
                    let (search, options) = (self.search, &self.options);
                    let explanation = (self.captioner)
                        .explain_caption(&crop, &caption, search, options)
                        .with_context(|| path_text::text(&input.path))?;
                    self.explained(&input.path, &crop, explanation)?;
                }
                Err(error) => {
                    if let Some(format) = error.unread_format() {
                        self.refused.note(format, &input.path);
                    }
                    self.refuse(&input.path, &error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Refuses to write over an image that is explained.
    fn spare(&self, image: &Path) -> Result<()> {
        let Ok(image) = image.canonicalize() else {
            return Ok(()); // no file, or none any more
        };
        let files = [
            ("--output", &self.args.output),
            ("--report", &self.args.report),
        ];
        for (flag, file) in files {
            let file = file.as_ref().and_then(|file| file.canonicalize().ok());
            ensure!(
                file.as_ref() != Some(&image),
                "{flag} is {}, which is one of the images: name another file",
                image.display()
            );
        }
        let overlays = self.args.overlays.as_ref();
        let overlays = overlays.and_then(|folder| folder.canonicalize().ok());
        ensure!(
            overlays.is_none() || overlays.as_deref() != image.parent(),
            "--overlays is the folder of {}, and would write over images: name another folder",
            image.display()
        );
        Ok(())
    }

    /// The best caption of each image, or the one that was given.
    fn captions(&self, crops: &[RgbImage]) -> Result<Vec<Caption>> {
        if let Some(text) = &self.args.caption {
            let caption = self
                .captioner
                .decoder
                .text_as_caption(text, &self.search.decode)?;
            return Ok(vec![caption; crops.len()]);
        }
        let captions = self
            .captioner
            .caption_crops(crops, self.search)?
            .into_iter();
        let best = |captions: Vec<Caption>| captions.into_iter().next();
        captions
            .map(|found| best(found).context("decoding gave no caption"))
            .collect()
    }

    fn explained(&mut self, path: &Path, crop: &RgbImage, explanation: Explanation) -> Result<()> {
        if let Some(overlays) = &mut self.overlays {
            overlays.write(path, crop, &explanation)?;
        }
        let explained = Explained {
            image: path_text::text(path).to_string(),
            explanation,
        };
        if self.args.report.is_some() {
            self.report.add(&explained, crop)?;
        }
        self.write(&match self.args.format {
            Format::Text => text::table(&explained),
            Format::Jsonl => format!("{}\n", serde_json::to_string(&explained)?),
        })
    }

    fn refuse(&mut self, path: &Path, reason: &str) -> Result<()> {
        self.failed += 1;
        match self.args.format {
            Format::Text => {
                out::error(reason);
                Ok(())
            }
            Format::Jsonl => {
                let line = json!({"image": path_text::text(path), "error": reason});
                self.write(&format!("{line}\n"))
            }
        }
    }

    fn write(&mut self, lines: &str) -> Result<()> {
        if self.args.output.is_some() {
            self.lines += lines;
            return Ok(());
        }
        out::text(lines)
    }

    /// Writes the files, says on standard error what was not explained, and chooses the exit code.
    fn finish(self, model: &Path, others: &OtherFiles) -> Result<ExitCode> {
        if let Some(path) = &self.args.output {
            files::write_atomic(path, |writer| writer.write_all(self.lines.as_bytes()))?;
        }
        if let Some(path) = &self.args.report {
            let subtitle = format!("Captions of {}", name(model));
            self.report
                .write(path, "Where captions came from", &subtitle)?;
            out::note(format_args!("report: {}", path.display()));
        }
        if let Some(folder) = &self.args.overlays {
            out::note(format_args!("overlays: {}", folder.display()));
        }
        if others.count() > 0 {
            out::note(others);
        }
        if self.failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let among = match self.refused.count() {
            0 => String::new(),
            _ => format!(", among them {}", self.refused),
        };
        let (failed, given) = (self.failed, self.given);
        out::note(format_args!(
            "{failed} of {given} images could not be explained{among}"
        ));
        Ok(ExitCode::FAILURE)
    }
}
