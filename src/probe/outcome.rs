//! What a classifier got right and wrong.

use serde::Serialize;

use super::Protocol;
use caption_metrics::bootstrap::{Bootstrap, Interval};
use caption_metrics::scores::Scores;

/// Predictions on the test part, counted.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub protocol: Protocol,
    /// How the classifier was set, in words.
    pub settings: String,
    /// Share of right predictions.
    pub accuracy: f64,
    /// Its 95% interval, from a bootstrap over the test images.
    pub interval: Option<Interval>,
    pub classes: Vec<ClassScore>,
    /// `confusion[is][said]` counts test images.
    pub confusion: Vec<Vec<usize>>,
    #[serde(skip)]
    pub labels: Vec<usize>,
    #[serde(skip)]
    pub predictions: Vec<usize>,
}

/// How one class was told from the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    pub name: String,
    /// Test images of the class.
    pub images: usize,
    /// Share of the images of the class that were found.
    pub recall: f64,
    /// Share of the images that were said to be of the class and are.
    pub precision: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

impl Outcome {
    /// Counts predictions beside the right classes.
    pub fn new(
        protocol: Protocol,
        settings: String,
        names: &[String],
        labels: &[usize],
        predictions: Vec<usize>,
    ) -> Self {
        let mut confusion = vec![vec![0; names.len()]; names.len()];
        for (&is, &said) in labels.iter().zip(&predictions) {
            confusion[is][said] += 1;
        }
        let right: Vec<f64> = labels
            .iter()
            .zip(&predictions)
            .map(|(is, said)| f64::from(u8::from(is == said)))
            .collect();
        let accuracy = right.iter().sum::<f64>() / right.len().max(1) as f64;
        let intervals = Bootstrap::default().intervals(&[Scores::mean("accuracy", right)]);
        Self {
            protocol,
            settings,
            accuracy,
            interval: intervals.and_then(|intervals| intervals.first().copied()),
            classes: scores(names, &confusion),
            confusion,
            labels: labels.to_vec(),
            predictions,
        }
    }
}

fn scores(names: &[String], confusion: &[Vec<usize>]) -> Vec<ClassScore> {
    let share = |part: usize, whole: usize| match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    };
    names
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let found = confusion[class][class];
            let images = confusion[class].iter().sum();
            let said: usize = confusion.iter().map(|row| row[class]).sum();
            ClassScore {
                name: name.clone(),
                images,
                recall: share(found, images),
                precision: share(found, said),
                f1: share(2 * found, images + said),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_counted_by_class() {
        let names = ["a", "b", "c"].map(String::from);
        let outcome = Outcome::new(
            Protocol::Knn,
            String::new(),
            &names,
            &[0, 0, 0, 1],
            vec![0, 0, 1, 1],
        );
        assert_eq!(outcome.accuracy, 0.75);
        assert_eq!(outcome.confusion[0], [2, 1, 0]);
        let a = &outcome.classes[0];
        assert_eq!((a.images, a.precision), (3, 1.0));
        assert!((a.recall - 2.0 / 3.0).abs() < 1e-12 && (a.f1 - 0.8).abs() < 1e-12);
        assert_eq!(outcome.classes[1].precision, 0.5);
        assert_eq!(
            (outcome.classes[2].recall, outcome.classes[2].f1),
            (0.0, 0.0)
        );
        let interval = outcome.interval.unwrap();
        assert!(interval.low < 0.75 && interval.high > 0.75);
    }
}
