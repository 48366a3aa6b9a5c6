//! The metrics give what pycocoevalcap gives, overall and image by image (`make_fixtures.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use caption_metrics::meteor::Meteor;
use caption_metrics::{Corpus, Sample, Scores, bleu, cider, rouge};
use serde::Deserialize;

/// double precision, in another order of summation
const FLOAT64: f64 = 1e-9;
/// METEOR's bar; what differs is how a tie between alignments is decided
const METEOR: f64 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

#[derive(Deserialize)]
struct Golden {
    overall: BTreeMap<String, f64>,
    images: Vec<GoldenImage>,
}

#[derive(Deserialize)]
struct GoldenImage {
    candidate: String,
    references: Vec<String>,
    /// The candidate's, then the references'.
    tokens: Vec<String>,
    scores: BTreeMap<String, f64>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let text = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn corpus(&self) -> Corpus {
        let sample = |image: &GoldenImage| Sample {
            candidate: image.candidate.clone(),
            references: image.references.clone(),
        };
        Corpus::new(&self.images.iter().map(sample).collect::<Vec<_>>())
    }

    fn holds(&self, scores: &Scores, tolerance: f64) {
        for (place, &name) in scores.names().iter().enumerate() {
            let close = |actual: f64, expected: f64, what: &str| {
                let error = (actual - expected).abs();
                assert!(
                    error <= tolerance,
                    "{name} {what}: {actual}, expected {expected}"
                );
            };
            close(scores.overall()[place], self.overall[name], "overall");
            for (i, image) in self.images.iter().enumerate() {
                close(
                    scores.per_image(i)[place],
                    image.scores[name],
                    &image.candidate,
                );
            }
        }
    }
}

fn hold(name: &str) {
    let golden = Golden::open(name);
    let corpus = golden.corpus();
    golden.holds(&bleu::score(&corpus), FLOAT64);
    golden.holds(&rouge::score(&corpus), FLOAT64);
    golden.holds(
        &cider::score(&corpus, &cider::Frequencies::of(&corpus)),
        FLOAT64,
    );
    golden.holds(&Meteor::exact_stem().score(&corpus), METEOR);
    let meteor = Meteor::load(&fixture("meteor"), &corpus).unwrap();
    assert_eq!(meteor.name(), "METEOR");
    golden.holds(&meteor.score(&corpus), METEOR);
}

#[test]
fn real_captions_score_what_pycocoevalcap_scores_them() {
    hold("real");
}

#[test]
fn nasty_captions_score_what_pycocoevalcap_scores_them() {
    hold("nasty");
}

#[test]
fn every_caption_has_the_stanford_tokenizers_tokens() {
    for name in ["real", "nasty"] {
        let golden = Golden::open(name);
        let corpus = golden.corpus();
        for (i, image) in golden.images.iter().enumerate() {
            assert_eq!(corpus.candidate(i), image.tokens[0], "{}", image.candidate);
        }
    }
}

#[test]
fn synonyms_and_paraphrases_raise_meteor() {
    let golden = Golden::open("real");
    assert!(golden.overall["METEOR"] > golden.overall["METEOR_exact_stem"]);
}

#[test]
fn frequencies_from_elsewhere_are_used_as_they_are() {
    let golden = Golden::open("real");
    let corpus = golden.corpus();
    let own = cider::score(&corpus, &cider::Frequencies::of(&corpus)).overall()[0];
    let table = [
        ("a".to_string(), 10.0),
        ("a zebra that is nowhere".to_string(), 3.0),
    ]
    .into();
    let frequencies = cider::Frequencies::from_table(&corpus, &table, 1000_f64.ln());
    let other = cider::score(&corpus, &frequencies).overall()[0];
    assert!(other > 0.0 && (other - own).abs() > 1e-3, "{other} {own}");
}

#[test]
fn meteor_data_that_is_not_there_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let corpus = Golden::open("nasty").corpus();
    let error = Meteor::load(empty.path(), &corpus)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("meteor-1.5.jar") && error.contains("english.synsets"),
        "{error}"
    );
}
