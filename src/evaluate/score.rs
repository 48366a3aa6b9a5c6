//! Scoring what was read, and everything that is known of the scores.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::read::{Candidates, EvaluatedImage, References, join};
use crate::data::text;
use crate::datasets::scenes::SceneScores;
use caption_metrics::bootstrap::{Bootstrap, Interval};
use caption_metrics::cider::Frequencies;
use caption_metrics::diversity::{self, Diversity};
use caption_metrics::meteor::Meteor;
use caption_metrics::{Corpus, Sample, Scores, bleu, cider, rouge};

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
    /// How the captions hold against the scenes, where the images are generated ones.
    pub scenes: Option<SceneScores>,
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
) -> anyhow::Result<Evaluation> {
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
        scenes: None,
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
    standard(&corpus, &Meteor::exact_stem(), &Frequencies::of(&corpus))
        .iter()
        .flat_map(|scores| scores.names().to_vec().into_iter().zip(scores.overall()))
        .map(|(name, value)| (name.to_string(), value.into()))
        .collect()
}

fn read_frequencies(path: &Path, corpus: &Corpus) -> anyhow::Result<Frequencies> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text =
        text::decode(&bytes).map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))?;
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

impl Evaluation {
    /// Scores captions in a file, such as COCO results, against references in another, such as COCO annotations; with
    /// intervals, and with METEOR's exact and stem stages alone. More than a few images without a caption are refused.
    ///
    /// ```no_run
    /// # fn main() -> anyhow::Result<()> {
    /// let evaluation = clipcap::Evaluation::of_files("results.json", "captions_val2014.json")?;
    /// for (name, value) in evaluation.names().iter().zip(evaluation.overall()) {
    ///     println!("{name} {value:.3}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a file cannot be read, or their images are not the same.
    pub fn of_files(
        candidates: impl AsRef<Path>,
        references: impl AsRef<Path>,
    ) -> anyhow::Result<Self> {
        let references = References::load(references.as_ref())?;
        let joined = join(&Candidates::load(candidates.as_ref())?, &references, false)?;
        score(joined.images, &ScoreOptions::default(), Vec::new())
    }

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
}

/// `{"overall": {..}, "per_image": {id: {..}}, "intervals": .., "diversity": ..}`, with pycocoevalcap's names and scale.
impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let intervals = self.intervals.as_ref().map(|intervals| {
            let both = intervals
                .iter()
                .map(|interval| [interval.low, interval.high]);
            Named(self.names(), both.collect())
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("overall", &Named(self.names(), self.overall()))?;
        map.serialize_entry("intervals", &intervals)?;
        map.serialize_entry("confidence", &self.confidence)?;
        map.serialize_entry("images", &self.images.len())?;
        if let Some(scenes) = &self.scenes {
            map.serialize_entry("scenes", scenes)?;
        }
        map.serialize_entry("diversity", &self.diversity)?;
        map.serialize_entry("per_image", &PerImage(self))?;
        map.end()
    }
}

/// Values under their names.
struct Named<T>(Vec<&'static str>, Vec<T>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(&self.1))
    }
}

/// Every image's scores under its id.
struct PerImage<'a>(&'a Evaluation);

impl Serialize for PerImage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.0.names();
        serializer.collect_map(
            (self.0.images.iter().enumerate())
                .map(|(i, image)| (&image.id, Named(names.clone(), self.0.per_image(i)))),
        )
    }
}
