//! What `clipcap explain` writes, image by image.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clipcap::captioner::{Caption, Captioner, Search, open_crops};
use clipcap::explain::report::{Explained, Report};
use clipcap::explain::{ExplainOptions, Explanation};
use clipcap::files;
use clipcap::inputs::{FileKinds, Input, InputError, OtherFiles};
use clipcap::path_text;
use image::RgbImage;
use serde_json::json;

use super::overlays::Overlays;
use super::{ExplainArgs, Format, text};
use crate::cli::model::name;
use crate::cli::out;

/// Explanations on their way out.
pub(super) struct Answers<'a> {
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
    pub(super) fn new(
        args: &'a ExplainArgs,
        captioner: &'a Captioner,
        search: &'a Search,
    ) -> Result<Self> {
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

    pub(super) fn explain(&mut self, batch: &[Result<Input, InputError>]) -> Result<()> {
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
    pub(super) fn finish(self, model: &Path, others: &OtherFiles) -> Result<ExitCode> {
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
