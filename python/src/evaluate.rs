//! Scoring captions as pycocoevalcap does.

use std::path::PathBuf;

use caption_metrics::cider::Frequencies;
use caption_metrics::meteor::Meteor;
use caption_metrics::{Corpus, Sample, Scores};
use clipcap::evaluate::score::standard;
use pyo3::prelude::*;

use crate::work::compute;

/// The scores' names, overall and, where they were asked for, of each image.
type Scored = (Vec<&'static str>, Vec<f64>, Vec<Vec<f64>>);

/// Scores images, each its caption and at least one reference. `meteor_data`: a folder with METEOR's data, without which
/// its exact and stem stages alone are scored.
#[pyfunction]
pub fn evaluate(
    py: Python<'_>,
    samples: Vec<(String, Vec<String>)>,
    meteor_data: Option<PathBuf>,
    each: bool,
) -> PyResult<Scored> {
    compute(py, move || {
        let samples: Vec<Sample> = (samples.into_iter())
            .map(|(candidate, references)| Sample {
                candidate,
                references,
            })
            .collect();
        let corpus = Corpus::new(&samples);
        let meteor = match &meteor_data {
            Some(folder) => Meteor::load(folder, &corpus)?,
            None => Meteor::exact_stem(),
        };
        let scores = standard(&corpus, &meteor, &Frequencies::of(&corpus));
        let image = |image: usize| scores.iter().flat_map(|one| one.per_image(image)).collect();
        let images = if each { corpus.len() } else { 0 };
        Ok((
            scores.iter().flat_map(|one| one.names().to_vec()).collect(),
            scores.iter().flat_map(Scores::overall).collect(),
            (0..images).map(image).collect(),
        ))
    })
}
