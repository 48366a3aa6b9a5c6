//! What a captioner says of a few validation images after each epoch: `samples.jsonl` in a run's folder, a line an epoch and
//! image.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cider::Said;
use crate::data::coco::ImageId;
use crate::data::source::CaptionedImage;
use crate::files;

const FILE: &str = "samples.jsonl";
/// Images whose captions are kept.
const SAMPLES: usize = 8;

/// A caption of a validation image after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSample {
    pub epoch: usize,
    pub image: ImageId,
    pub file_name: String,
    pub caption: String,
    pub references: Vec<String>,
}

/// Writes the captions, epoch by epoch.
pub struct SampleLog {
    path: PathBuf,
    /// The images that are kept, by their place in the data set: their order in the file, id and name.
    images: HashMap<usize, (usize, ImageId, String)>,
    epoch: usize,
    said: Vec<(usize, EpochSample)>,
}

impl SampleLog {
    /// A log of images spread evenly over `captioned`. A run that is resumed after epoch `last` keeps what it has of the
    /// epochs until then.
    ///
    /// # Errors
    /// When what is there cannot be read or written.
    pub fn new(
        run: &Path,
        images: &[CaptionedImage],
        captioned: &[usize],
        last: usize,
    ) -> Result<Self> {
        let path = run.join(FILE);
        rewind(&path, last)?;
        let count = SAMPLES.min(captioned.len());
        let kept = (0..count).map(|order| {
            let place = captioned[order * captioned.len() / count];
            let image = &images[place];
            (place, (order, image.id.clone(), image.file_name.clone()))
        });
        Ok(Self {
            path,
            images: kept.collect(),
            epoch: last + 1,
            said: Vec::new(),
        })
    }

    /// Takes up those captions that are kept.
    pub fn add(&mut self, said: &[Said]) {
        for Said { image, sample } in said {
            if let Some((order, id, file_name)) = self.images.get(image) {
                let sample = EpochSample {
                    epoch: self.epoch,
                    image: id.clone(),
                    file_name: file_name.clone(),
                    caption: sample.candidate.clone(),
                    references: sample.references.clone(),
                };
                self.said.push((*order, sample));
            }
        }
    }

    /// Writes the epoch. Like the log of numbers it is a by-product: a disk that is full fails the checkpoint, and the run.
    pub fn end_epoch(&mut self) {
        self.epoch += 1;
        let mut said = std::mem::take(&mut self.said);
        said.sort_by_key(|(order, _)| *order);
        let lines = said.iter().map(|(_, sample)| serde_json::to_string(sample));
        let Ok(lines) = lines.collect::<Result<Vec<String>, _>>() else {
            return;
        };
        if lines.is_empty() {
            return;
        }
        let text = lines.join("\n") + "\n";
        let file = File::options().create(true).append(true).open(&self.path);
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
    }
}

/// The samples of a run, in the file's order; none where it has no such file.
///
/// # Errors
/// When the file cannot be read.
pub fn read(run: &Path) -> Result<Vec<EpochSample>> {
    let path = run.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    // The last line may have been cut short.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(lines.collect())
}

/// Takes out what a file says of epochs after `last`, which are run again.
fn rewind(path: &Path, last: usize) -> Result<()> {
    let samples = read(path.parent().unwrap_or(Path::new(".")))?;
    if !path.is_file() {
        return Ok(());
    }
    files::write_atomic(path, |writer| {
        for sample in samples.iter().filter(|sample| sample.epoch <= last) {
            writeln!(writer, "{}", serde_json::to_string(sample)?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use caption_metrics::Sample;

    fn images(count: u64) -> Vec<CaptionedImage> {
        let image = |number| CaptionedImage {
            id: ImageId::Number(number),
            file_name: format!("{number}.png"),
            source: None,
            captions: vec!["a dog".into()],
            part: None,
        };
        (0..count).map(image).collect()
    }

    fn said(image: usize, epoch: usize) -> Said {
        Said {
            image,
            sample: Sample {
                candidate: format!("{image} after {epoch}"),
                references: vec!["a dog".into()],
            },
        }
    }

    #[test]
    fn the_same_images_are_kept_each_epoch_and_a_resumed_run_goes_on() {
        let run = tempfile::tempdir().unwrap();
        let images = images(40);
        let captioned: Vec<usize> = (8..40).collect();
        let epochs = |from: usize, to: usize| {
            let mut log = SampleLog::new(run.path(), &images, &captioned, from - 1).unwrap();
            for epoch in from..=to {
                // Batches may come in any order.
                for &image in captioned.iter().rev() {
                    log.add(&[said(image, epoch)]);
                }
                log.end_epoch();
            }
        };
        epochs(1, 3);
        epochs(3, 4);
        let found = read(run.path()).unwrap();
        let of = |epoch: usize| -> Vec<&str> {
            let of = found.iter().filter(|sample| sample.epoch == epoch);
            of.map(|sample| sample.file_name.as_str()).collect()
        };
        let kept = [
            "8.png", "12.png", "16.png", "20.png", "24.png", "28.png", "32.png", "36.png",
        ];
        for epoch in 1..=4 {
            assert_eq!(of(epoch), kept, "epoch {epoch}");
        }
        assert_eq!(found.len(), 32);
        assert_eq!(found[31].caption, "36 after 4");
        assert_eq!(found[31].references, ["a dog"]);
    }

    #[test]
    fn a_run_without_captions_has_no_samples() {
        let run = tempfile::tempdir().unwrap();
        let mut log = SampleLog::new(run.path(), &images(1), &[], 0).unwrap();
        log.end_epoch();
        assert_eq!(read(run.path()).unwrap(), []);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }
}
