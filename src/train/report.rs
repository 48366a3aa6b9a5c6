//! A run as a page that needs nothing but itself: `report.html` in its folder, with settings, curves, captions of validation
//! images epoch by epoch, and scores and captions of the test part.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use caption_metrics::Sample;
use time::OffsetDateTime;

use super::config::TrainConfig;
use super::dataset::Dataset;
use super::samples::{self, EpochSample};
use super::settings::{leaves, nearest_preset, show};
use super::status::RunStatus;
use super::summary::RunSummary;
use super::test_captions::Captioned;
use crate::data::source::CaptionedImage;
use crate::evaluate::read::EvaluatedImage;
use crate::evaluate::report::{STYLE, scores, sections, statistics};
use crate::evaluate::score::{Evaluation, ScoreOptions, score};
use crate::files;
use crate::guard::guarded;
use crate::html::{self, escape};
use crate::images::thumbnail;
use crate::trainer::curves;

/// The longer side of an image on the page.
const IMAGE_SIDE: u32 = 240;

/// Writes the page. Images that cannot be opened are left out.
///
/// # Errors
/// When a file of the run cannot be read or the page cannot be written.
pub(super) fn write(
    run: &Path,
    config: &TrainConfig,
    dataset: &Dataset,
    test: &[Captioned],
    status: RunStatus,
    summary: &RunSummary,
) -> Result<()> {
    let name = run.file_name().unwrap_or(run.as_os_str());
    let tested = match test {
        [] => None,
        test => Some(evaluation(dataset, test)?),
    };
    let parts = [
        ("title", escape(&name.to_string_lossy())),
        ("subtitle", escape(&subtitle(dataset, status, summary))),
        ("style", STYLE.to_string()),
        ("scores", test_scores(tested.as_ref())),
        ("curves", curves::svg(run)?),
        ("samples", sample_cards(&samples::read(run)?, dataset)),
        ("tests", test_cards(tested.as_ref(), dataset)?),
        ("preset", escape(&nearest(config))),
        ("settings", settings(config)),
    ];
    let page = html::fill(include_str!("report.html"), &parts)?;
    files::write_atomic(&run.join("report.html"), |writer| {
        writer.write_all(page.as_bytes())
    })
}

fn subtitle(dataset: &Dataset, status: RunStatus, summary: &RunSummary) -> String {
    let how = match status {
        RunStatus::Finished | RunStatus::Begun => "finished",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Diverged => "diverged",
    };
    let best = match (summary.best_epoch, summary.validation_loss) {
        (Some(epoch), Some(loss)) => {
            format!("epoch {epoch} was best, with a validation loss of {loss:.3}")
        }
        _ => "no epoch is whole".to_string(),
    };
    let parts = &dataset.splits;
    format!(
        "{how} on {} after {:.0} s; {} images to train on, {} for validation, {} to test on; {best}",
        OffsetDateTime::now_utc().date(),
        summary.seconds,
        parts.train.len(),
        parts.val.len(),
        parts.test.len()
    )
}

/// The test captions with their scores and intervals.
fn evaluation(dataset: &Dataset, test: &[Captioned]) -> Result<Evaluation> {
    let images = (dataset.splits.test.iter().zip(test)).map(|(&place, said)| EvaluatedImage {
        id: dataset.images[place].id.to_string(),
        file_name: Some(said.file_name.clone()),
        sample: Sample {
            candidate: said.caption.clone(),
            references: said.references.clone(),
        },
    });
    score(images.collect(), &ScoreOptions::default(), Vec::new())
}

fn test_scores(tested: Option<&Evaluation>) -> String {
    tested.map_or_else(String::new, |evaluation| {
        format!(
            "<h2>Test scores</h2>\n<section class=\"scores\">{}</section>\n<h2>Test captions</h2>\n<div class=\"statistics\"><dl>{}</dl></div>",
            scores(evaluation),
            statistics(evaluation)
        )
    })
}

fn test_cards(tested: Option<&Evaluation>, dataset: &Dataset) -> Result<String> {
    let Some(evaluation) = tested else {
        return Ok(String::new());
    };
    let images: HashMap<String, &CaptionedImage> = (dataset.splits.test.iter())
        .map(|&place| (dataset.images[place].id.to_string(), &dataset.images[place]))
        .collect();
    let found =
        |image: &EvaluatedImage| Ok(images.get(&image.id).and_then(|image| thumbnail_of(image)));
    let cards = sections(evaluation, 1, &found)?;
    Ok(cards.replace("<h2>", "<h2>Test images: "))
}

/// An image's thumbnail; none where it cannot be opened.
fn thumbnail_of(image: &CaptionedImage) -> Option<String> {
    let source = image.source.as_ref()?;
    let opened = guarded(|| source.open()).ok()?.ok()?;
    thumbnail::data_uri(opened, IMAGE_SIDE).ok()
}

/// A card for each image: what was said of it after which epochs.
fn sample_cards(samples: &[EpochSample], dataset: &Dataset) -> String {
    let mut images: Vec<(&EpochSample, Vec<&EpochSample>)> = Vec::new();
    for sample in samples {
        match (images.iter_mut()).find(|(first, _)| first.image == sample.image) {
            Some((_, all)) => all.push(sample),
            None => images.push((sample, vec![sample])),
        }
    }
    if images.is_empty() {
        return String::new();
    }
    let cards: String = (images.into_iter())
        .map(|(first, all)| {
            let image = dataset.images.iter().find(|image| image.id == first.image);
            let image = image.and_then(thumbnail_of).map_or_else(String::new, |uri| {
                let name = escape(&first.file_name);
                format!("<img src=\"{uri}\" alt=\"Image {name}\" loading=\"lazy\">")
            });
            let references: String = (first.references.iter())
                .map(|reference| format!("<li>{}</li>", escape(reference)))
                .collect();
            format!(
                "<article class=\"card\">{image}<dl class=\"epochs\">{}</dl><ul>{references}</ul><p class=\"numbers\">{}</p></article>\n",
                epochs(&all),
                escape(&first.file_name)
            )
        })
        .collect();
    format!(
        "<h2>Validation captions, epoch by epoch</h2>\n<section class=\"cards\" id=\"samples\">\n{cards}</section>"
    )
}

/// What was said of an image: epochs that follow each other with the same caption in one line.
fn epochs(samples: &[&EpochSample]) -> String {
    let runs: Vec<&[&EpochSample]> = samples.chunk_by(|a, b| a.caption == b.caption).collect();
    let last = runs.len().saturating_sub(1);
    let line = |(place, same): (usize, &&[&EpochSample])| {
        let (first, end) = (same[0].epoch, same[same.len() - 1].epoch);
        let which = match first == end {
            true => first.to_string(),
            false => format!("{first} to {end}"),
        };
        let class = if place == last { " class=\"last\"" } else { "" };
        format!(
            "<dt{class}>{which}</dt><dd{class}>{}</dd>",
            escape(&same[0].caption)
        )
    };
    runs.iter().enumerate().map(line).collect()
}

/// Which preset the settings are nearest to.
fn nearest(config: &TrainConfig) -> String {
    let (preset, differs) = nearest_preset(config);
    match differs.iter().filter(|changed| changed.b.is_some()).count() {
        0 => format!("Those of the preset {preset}."),
        1 => format!("Those of the preset {preset}, but for one."),
        count => format!("Those of the preset {preset}, but for {count}."),
    }
}

/// A row for each setting, marked where it differs from the nearest preset's.
fn settings(config: &TrainConfig) -> String {
    let (_, differs) = nearest_preset(config);
    let row = |(name, value): (String, serde_json::Value)| {
        let changed = differs.iter().find(|changed| changed.name == name);
        let (class, preset) = match changed {
            Some(changed) => (" class=\"changed\"", show(changed.a.as_ref())),
            None => ("", String::new()),
        };
        let [name, value, preset] = [name, show(Some(&value)), preset].map(|text| escape(&text));
        format!("<tr{class}><td>{name}</td><td>{value}</td><td>{preset}</td></tr>\n")
    };
    leaves(config).into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::coco::ImageId;

    #[test]
    fn epochs_with_the_same_caption_are_one_line() {
        let sample = |(epoch, caption): (usize, &str)| EpochSample {
            epoch,
            image: ImageId::Number(1),
            file_name: "1.png".into(),
            caption: caption.into(),
            references: Vec::new(),
        };
        let samples: Vec<EpochSample> = [(1, "a"), (2, "<b>"), (3, "<b>"), (4, "a")]
            .map(sample)
            .into();
        let samples: Vec<&EpochSample> = samples.iter().collect();
        assert_eq!(
            epochs(&samples),
            "<dt>1</dt><dd>a</dd><dt>2 to 3</dt><dd>&lt;b&gt;</dd><dt class=\"last\">4</dt><dd class=\"last\">a</dd>"
        );
    }

    #[test]
    fn settings_that_differ_from_the_preset_are_marked() {
        let mut config = TrainConfig::sample("m".into());
        config.epochs = 3;
        assert_eq!(nearest(&config), "Those of the preset sample, but for one.");
        let rows = settings(&config);
        assert_eq!(rows.matches("class=\"changed\"").count(), 1);
        assert!(rows.contains("<tr class=\"changed\"><td>epochs</td><td>3</td><td>5</td></tr>"));
        assert!(
            rows.contains("<tr><td>noise.rate</td><td>0.1</td><td></td></tr>"),
            "{rows}"
        );
    }
}
