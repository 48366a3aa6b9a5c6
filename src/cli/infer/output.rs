//! Where captions go, and how far along they are.

use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::{Caption, CaptionText, Rerank};
use clipcap::evaluate::ids::ImageIds;
use clipcap::inputs::{FileKinds, Input, OtherFiles};
use clipcap::results::{self, CocoResults, CocoWanted, Layout, Place, ResultsFile, Sidecars};
use indicatif::ProgressBar;

use super::loading::Failure;
use crate::cli::common::{refuse_idle, usage};
use crate::cli::out;
use crate::cli::shards::ShardOutput;

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// How captions are written [default: text, or jsonl of shards]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File for the captions instead of standard output, continued when it is there; with --format sidecar, and of shards,
    /// a folder
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// File that lists image ids and file names, such as COCO annotations, for --format coco [default: the number in
    /// names such as COCO_val2014_000000391895.jpg]
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Overwrite --output, sidecars or finished shards instead of resuming
    #[arg(long)]
    overwrite: bool,
    /// Text written before every caption, with its space
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    prepend: String,
    /// Text written after every caption, with its space
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    append: String,
    /// Write captions in lower case
    #[arg(long)]
    lowercase: bool,
    /// Cut captions after a word so that they have at most N characters, --prepend and --append included
    #[arg(long, value_name = "N")]
    max_chars: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    /// One line a caption
    Text,
    /// One JSON object a line
    Jsonl,
    /// A table with a header
    Csv,
    /// A .txt beside each image, or in the --output folder
    Sidecar,
    /// COCO's results: one list of image_id and caption, the best caption of each image
    Coco,
    /// Apache Parquet, of shards
    #[cfg(feature = "parquet")]
    Parquet,
}

impl OutputArgs {
    /// Ends the program when flags contradict each other, or have no effect with shards.
    pub fn check_of_shards(&self) {
        refuse_idle(
            &[("--ids", self.ids.is_some())],
            "it is for --format coco, and shards are captioned as jsonl",
        );
        if let Err(error) = self.text() {
            usage(ErrorKind::ArgumentConflict, &error.to_string());
        }
    }

    /// Ends the program when flags contradict each other.
    pub fn check(&self) {
        let format = self.format();
        if self.overwrite && self.output.is_none() && format != Format::Sidecar {
            usage(
                ErrorKind::ArgumentConflict,
                "--overwrite needs --output or --format sidecar",
            );
        }
        #[cfg(feature = "parquet")]
        if format == Format::Parquet {
            usage(
                ErrorKind::ArgumentConflict,
                "--format parquet is for shards, and none is named",
            );
        }
        if self.ids.is_some() && format != Format::Coco {
            usage(ErrorKind::ArgumentConflict, "--ids needs --format coco");
        }
        if let Err(error) = self.text() {
            usage(ErrorKind::ArgumentConflict, &error.to_string());
        }
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Text)
    }

    /// Where and how captions of shards are written; ends the program when flags say otherwise.
    pub fn of_shards(&self) -> ShardOutput {
        let format = match self.format {
            None | Some(Format::Jsonl) => clipcap::shards::Format::Jsonl,
            #[cfg(feature = "parquet")]
            Some(Format::Parquet) => clipcap::shards::Format::Parquet,
            Some(_) => usage(
                ErrorKind::ArgumentConflict,
                "captions of shards are written as --format jsonl, or parquet where it is built in",
            ),
        };
        ShardOutput::new(self.output.as_deref(), format, self.overwrite)
    }

    /// What is written of a caption's text.
    ///
    /// # Errors
    /// When the text around captions leaves no room for any.
    pub fn text(&self) -> Result<CaptionText> {
        let (prepend, append) = (self.prepend.as_str(), self.append.as_str());
        CaptionText::new(prepend, append, self.lowercase, self.max_chars)
    }

    fn layout(&self, rerank: Rerank) -> Option<Layout> {
        let format = match self.format() {
            Format::Text => results::Format::Text,
            Format::Jsonl => results::Format::Jsonl,
            Format::Csv => results::Format::Csv,
            Format::Sidecar | Format::Coco => return None,
            #[cfg(feature = "parquet")]
            Format::Parquet => return None,
        };
        Some(Layout {
            format,
            similarity: rerank == Rerank::Clip,
            consensus: rerank == Rerank::Consensus,
        })
    }
}

/// Which images are to be captioned.
pub enum Wanted {
    /// Those whose names, as the file has them, are not among these.
    AllBut(Layout, HashSet<String>),
    Sidecars(Sidecars),
    Coco(CocoWanted),
}

/// What is to be done about one image.
pub enum Wish {
    /// Caption it, into this file if into one of its own.
    Caption(Option<PathBuf>),
    /// It has its captions.
    Keep,
    Refuse(String),
}

impl Wanted {
    pub fn wish(&mut self, input: &Input) -> Wish {
        match self {
            Self::AllBut(layout, done) if done.contains(&layout.name(&input.path)) => Wish::Keep,
            Self::AllBut(..) => Wish::Caption(None),
            Self::Sidecars(sidecars) => match sidecars.place(input) {
                Place::Write(path) => Wish::Caption(Some(path)),
                Place::Kept => Wish::Keep,
                Place::Refused(reason) => Wish::Refuse(reason),
            },
            Self::Coco(wanted) => match wanted.place(input) {
                Place::Write(_) => Wish::Caption(None),
                Place::Kept => Wish::Keep,
                Place::Refused(reason) => Wish::Refuse(reason),
            },
        }
    }
}

/// Captions on their way out. Lines are kept back until [`Output::flush`].
pub struct Output {
    sink: Sink,
    text: CaptionText,
    lines: String,
    captioned: usize,
    kept: usize,
    failed: usize,
    /// Those of them that are of a format that is not read.
    refused: FileKinds,
}

enum Sink {
    Stdout(Layout),
    File(Layout, ResultsFile),
    Sidecars,
    Coco(CocoResults),
}

impl Output {
    /// Opens the output, and tells which images it lacks.
    pub fn open(args: &OutputArgs, num_captions: usize, rerank: Rerank) -> Result<(Self, Wanted)> {
        let text = args.text()?;
        let (sink, wanted) = match (args.layout(rerank), &args.output) {
            (None, path) if args.format() == Format::Coco => {
                let ids = (args.ids.as_deref()).map_or(Ok(ImageIds::default()), ImageIds::load)?;
                let (results, wanted) = CocoResults::open(path.clone(), ids, args.overwrite)?;
                (Sink::Coco(results), Wanted::Coco(wanted))
            }
            (None, folder) => {
                let sidecars = Sidecars::new(folder.clone(), args.overwrite);
                (Sink::Sidecars, Wanted::Sidecars(sidecars))
            }
            (Some(layout), None) => (Sink::Stdout(layout), Wanted::AllBut(layout, HashSet::new())),
            (Some(layout), Some(path)) => {
                let (file, done) = match args.overwrite {
                    true => (ResultsFile::open_anew(path, layout)?, HashSet::new()),
                    false => ResultsFile::open(path, layout, num_captions)?,
                };
                (Sink::File(layout, file), Wanted::AllBut(layout, done))
            }
        };
        let mut output = Self {
            sink,
            text,
            lines: String::new(),
            captioned: 0,
            kept: 0,
            failed: 0,
            refused: FileKinds::default(),
        };
        if let Sink::Stdout(layout) = output.sink {
            output.lines = layout.head()?;
            output.flush(0)?;
        }
        Ok((output, wanted))
    }

    pub fn captions(
        &mut self,
        image: &Path,
        target: Option<&Path>,
        mut captions: Vec<Caption>,
    ) -> Result<()> {
        self.captioned += 1;
        for caption in &mut captions {
            caption.caption = self.text.of(&caption.caption);
        }
        match (&mut self.sink, target) {
            (Sink::Coco(results), _) => match &captions[..] {
                [best, ..] => results.push(image, &best.caption),
                [] => Ok(()),
            },
            (Sink::Stdout(layout) | Sink::File(layout, _), _) => {
                self.lines += &layout.captions(&layout.name(image), &captions)?;
                Ok(())
            }
            (Sink::Sidecars, Some(path)) => Sidecars::write(path, &captions),
            (Sink::Sidecars, None) => Ok(()),
        }
    }

    /// An input without captions: a line of the output where that has a place for it, else one on standard error.
    pub fn error(&mut self, failure: &Failure, bar: &ProgressBar) -> Result<()> {
        self.failed += 1;
        if let Some(format) = failure.format {
            self.refused.note(format, &failure.name);
        }
        let line = match &self.sink {
            Sink::Stdout(layout) | Sink::File(layout, _) => {
                layout.error(&layout.name(&failure.name), &failure.reason)?
            }
            Sink::Sidecars | Sink::Coco(_) => String::new(),
        };
        let told = matches!(self.sink, Sink::Stdout(_)) && !line.is_empty();
        if !told {
            bar.suspend(|| out::error(&failure.reason));
        }
        self.lines += &line;
        Ok(())
    }

    /// Writes the lines so far. `kept`: images passed over since the last time.
    pub fn flush(&mut self, kept: usize) -> Result<()> {
        self.kept += kept;
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Stdout(_) => out::text(&lines),
            Sink::File(_, file) => file.append(&lines),
            Sink::Sidecars | Sink::Coco(_) => Ok(()),
        }
    }

    /// A progress bar on standard error, where that is a terminal without captions on it and there is more than one batch.
    pub fn progress(&self, count: Option<usize>, batch_size: usize) -> ProgressBar {
        let captions_on_screen = matches!(self.sink, Sink::Stdout(_)) && io::stdout().is_terminal();
        let few = count.is_some_and(|count| count <= batch_size);
        if captions_on_screen || few || !out::shows_bars() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match count {
            Some(count) => (
                ProgressBar::new(count as u64),
                "{bar:30} {human_pos}/{human_len} images, {rate}, {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} images, {rate}",
            ),
        };
        bar.with_style(out::bar_style(template))
    }

    /// Says on standard error what was passed over, and chooses the exit code. `inputs`: how many there were.
    ///
    /// # Errors
    /// When an input had no answer, or the last of the output cannot be written.
    pub fn finish(mut self, inputs: usize, others: &OtherFiles) -> Result<ExitCode> {
        if let Sink::Coco(results) = &mut self.sink {
            results.finish(&mut out::Stdout)?;
        }
        let answers = self.captioned + self.kept + self.failed;
        ensure!(
            answers == inputs,
            "{inputs} inputs had {answers} answers: run again, with --output to go on"
        );
        if self.kept > 0 {
            out::note(format_args!(
                "{} images had their captions and were left alone (--overwrite captions them again)",
                self.kept
            ));
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
        out::note(format_args!(
            "{} of {inputs} images could not be captioned{among}",
            self.failed
        ));
        Ok(ExitCode::FAILURE)
    }
}
