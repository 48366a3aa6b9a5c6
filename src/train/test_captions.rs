//! Captions of the test part at the end of a run.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::dataset::Dataset;
use crate::captioner::{CaptionDecoder, Own};
use crate::data::coco::{CaptionResult, write_results};
use crate::data::embedding_file::Embedding;
use crate::datasets::scenes::SceneScores;
use crate::decode::Strategy;
use crate::evaluate::model::best_captions;
use crate::evaluate::score::validate;
use crate::files;
use caption_metrics::Sample;

/// An image of the test part.
#[derive(Clone, Debug, Serialize)]
pub struct Captioned {
    pub file_name: String,
    pub caption: String,
    pub references: Vec<String>,
}

/// Captions the test part, greedily, with the embeddings that training had.
///
/// # Errors
/// When an embedding cannot be read or decoding fails.
pub(super) fn caption(decoder: &CaptionDecoder, dataset: &Dataset) -> Result<Vec<Captioned>> {
    let test = &dataset.splits.test;
    let rows: Vec<&Embedding> = (test.iter())
        .map(|&index| {
            let embedding = dataset.embeddings[index].as_ref();
            embedding.context("a test image was not embedded")
        })
        .collect::<Result<_>>()?;
    let images = || test.iter().map(|&index| &dataset.images[index]);
    let ids: Vec<String> = images().map(|image| image.id.to_string()).collect();
    let own: Vec<Own> = (images().zip(&ids))
        .map(|(image, id)| Own {
            id,
            captions: &image.captions,
        })
        .collect();
    let captions = best_captions(decoder, &rows, &own, Strategy::Greedy, &|_| ())?;
    let captioned = |(&index, caption): (&usize, String)| {
        let image = &dataset.images[index];
        Captioned {
            file_name: image.file_name.clone(),
            caption,
            references: image.captions.clone(),
        }
    };
    Ok(test.iter().zip(captions).map(captioned).collect())
}

/// What captions of the test part come to.
#[derive(Clone, Debug, Serialize)]
pub struct TestScores {
    pub images: usize,
    /// How the captions hold against the scenes, where the images are generated ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenes: Option<SceneScores>,
    /// BLEU, METEOR, ROUGE-L and CIDEr by name.
    pub overall: Map<String, Value>,
}

impl TestScores {
    /// A metric of the whole part.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.overall.get(name)?.as_f64()
    }
}

/// Writes the captions and their scores into the run's folder; returns the scores, or nothing without a test part.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(
    folder: &Path,
    dataset: &Dataset,
    test: &[Captioned],
) -> Result<Option<TestScores>> {
    if test.is_empty() {
        return Ok(None);
    }
    let results: Vec<CaptionResult> = dataset
        .splits
        .test
        .iter()
        .zip(test)
        .map(|(&index, captioned)| CaptionResult {
            image_id: dataset.images[index].id.clone(),
            caption: captioned.caption.clone(),
        })
        .collect();
    write_results(&folder.join("predictions-test.json"), &results)?;
    let samples: Vec<Sample> = test
        .iter()
        .map(|captioned| Sample {
            candidate: captioned.caption.clone(),
            references: captioned.references.clone(),
        })
        .collect();
    let said = results
        .iter()
        .map(|result| (&result.image_id, result.caption.as_str()));
    let scores = TestScores {
        images: test.len(),
        scenes: (dataset.scenes.as_ref()).and_then(|scenes| scenes.check(said)),
        overall: validate(&samples),
    };
    files::write_json(&folder.join("metrics-test.json"), &scores)?;
    Ok(Some(scores))
}
