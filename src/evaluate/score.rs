//! Scoring what was read, and everything that is known of the scores.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::read::{EvaluatedImage, References};
use crate::metrics::bootstrap::{Bootstrap, Interval};
use crate::metrics::cider::Frequencies;
use crate::metrics::diversity::{self, Diversity};
use crate::metrics::meteor::Meteor;
use crate::metrics::{Corpus, Sample, Scores, bleu, cider, rouge};

/// What can be chosen about scoring.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// A folder with METEOR's data; without it only `METEOR_exact_stem` is scored.
    pub meteor_data: Option<PathBuf>,
    /// Where CIDEr's document frequencies come from, if not from the references scored with: a table, or references.
    pub cider_frequencies: Option<PathBuf>,
    pub bootstrap: Bootstrap,
}

/// Scored images.
pub struct Evaluation {
    pub images: Vec<EvaluatedImage>,
    pub scores: Vec<Scores>,
    /// For every name of every score, in order.
    pub intervals: Option<Vec<Interval>>,
    pub confidence: f64,
    pub diversity: Diversity,
}

/// A table of document frequencies: n-grams as words joined by spaces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrequencyTable {
    /// Number of images counted.
    #[serde(default)]
    images: Option<f64>,
    /// Or its logarithm, as in the tables of ruotianluo/cider.
    #[serde(default)]
    ref_len: Option<f64>,
    document_frequency: HashMap<String, f64>,
}

/// Scores images with every metric that needs no network. `more` are scores to be shown with them.
///
/// # Errors
/// When METEOR's data or the document frequencies cannot be read.
pub fn score(
    images: Vec<EvaluatedImage>,
    options: &ScoreOptions,
    more: Vec<Scores>,
) -> Result<Evaluation> {
    let samples: Vec<Sample> = images.iter().map(|image| image.sample.clone()).collect();
    let corpus = Corpus::new(&samples);
    let meteor = match &options.meteor_data {
        Some(folder) => Meteor::load(folder, &corpus)?,
        None => Meteor::exact_stem(),
    };
    let frequencies = match &options.cider_frequencies {
        Some(path) => read_frequencies(path, &corpus)?,
        None => Frequencies::of(&corpus),
    };
    let mut scores = standard(&corpus, &meteor, &frequencies);
    scores.extend(more);
    Ok(Evaluation {
        intervals: options.bootstrap.intervals(&scores),
        confidence: options.bootstrap.confidence,
        diversity: diversity::measure(&corpus),
        images,
        scores,
    })
}

/// BLEU, METEOR, ROUGE-L and CIDEr of a corpus, in the order in which they are printed.
pub fn standard(corpus: &Corpus, meteor: &Meteor, frequencies: &Frequencies) -> Vec<Scores> {
    vec![
        bleu::score(corpus),
        meteor.score(corpus),
        rouge::score(corpus),
        cider::score(corpus, frequencies),
    ]
}

/// The same of captions, overall and by name: a measure to validate a model by while it is trained.
pub fn validate(samples: &[Sample]) -> Map<String, Value> {
    let corpus = Corpus::new(samples);
    let scores = standard(&corpus, &Meteor::exact_stem(), &Frequencies::of(&corpus));
    named(&scores, |scores| scores.overall())
}

fn read_frequencies(path: &Path, corpus: &Corpus) -> Result<Frequencies> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_table = path.extension().is_some_and(|ending| ending == "json")
        && text.contains("\"document_frequency\"");
    if !is_table {
        let samples = References::load(path)?.samples();
        let (table, images) = cider::table(&samples);
        return Ok(Frequencies::from_table(corpus, &table, images.ln()));
    }
    let table: FrequencyTable = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a table of document frequencies", path.display()))?;
    let log_images = (table.ref_len.or(table.images.map(f64::ln)))
        .with_context(|| format!("{} has neither `images` nor `ref_len`", path.display()))?;
    Ok(Frequencies::from_table(
        corpus,
        &table.document_frequency,
        log_images,
    ))
}

/// Values under their scores' names.
fn named(scores: &[Scores], values: impl Fn(&Scores) -> Vec<f64>) -> Map<String, Value> {
    scores
        .iter()
        .flat_map(|score| {
            score
                .names()
                .iter()
                .map(|name| name.to_string())
                .zip(values(score))
        })
        .map(|(name, value)| (name, json!(value)))
        .collect()
}

impl Evaluation {
    pub fn names(&self) -> Vec<&'static str> {
        self.scores
            .iter()
            .flat_map(|score| score.names().to_vec())
            .collect()
    }

    /// One number a name.
    pub fn overall(&self) -> Vec<f64> {
        self.scores.iter().flat_map(Scores::overall).collect()
    }

    /// An image's scores, one a name.
    pub fn per_image(&self, image: usize) -> Vec<f64> {
        self.scores
            .iter()
            .flat_map(|score| score.per_image(image))
            .collect()
    }

    /// `{"overall": {..}, "per_image": {id: {..}}, "intervals": .., "diversity": ..}`, with pycocoevalcap's names and scale.
    pub fn to_json(&self) -> Value {
        let per_image: Map<String, Value> = (self.images.iter().enumerate())
            .map(|(i, image)| {
                let scores = named(&self.scores, |score| score.per_image(i));
                (image.id.clone(), Value::Object(scores))
            })
            .collect();
        let intervals: Option<Map<String, Value>> = self.intervals.as_ref().map(|intervals| {
            let named = self.names().into_iter().zip(intervals);
            named
                .map(|(name, interval)| (name.to_string(), json!([interval.low, interval.high])))
                .collect()
        });
        json!({
            "overall": named(&self.scores, Scores::overall),
            "intervals": intervals,
            "confidence": self.confidence,
            "images": self.images.len(),
            "diversity": self.diversity,
            "per_image": per_image,
        })
    }
}
