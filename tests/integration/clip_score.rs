//! CLIPScore gives what the published code gives, by a CLIP with random weights (`fixtures/make_clip_score.py`).

use crate::common::fixture;
use burn::tensor::Device;
use caption_metrics::Sample;
use clipcap::convert::{ConvertConfig, convert};
use clipcap::evaluate::clip_score;
use clipcap::evaluate::read::EvaluatedImage;
use serde::Deserialize;

/// float32, through two networks
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    overall: Expected,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(rename = "CLIPScore")]
    clip: f64,
    #[serde(rename = "RefCLIPScore")]
    with_references: f64,
}

#[derive(Deserialize)]
struct Image {
    file_name: String,
    candidate: String,
    references: Vec<String>,
    #[serde(flatten)]
    expected: Expected,
}

fn assert_close(found: [f64; 2], expected: &Expected, what: &str) {
    for (found, expected) in found.iter().zip([expected.clip, expected.with_references]) {
        assert!(
            (found - expected).abs() <= TOLERANCE,
            "{what}: {found}, expected {expected}"
        );
    }
}

#[test]
fn clip_score_is_the_published_codes_with_and_without_references() {
    let text = std::fs::read_to_string(fixture("clip_score/scores.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    convert(&ConvertConfig {
        clip: Some(fixture("clip_score/clip")),
        gpt2: None,
        captioner: None,
        normalize_embedding: None,
        output: model.clone(),
    })
    .unwrap();
    let mut images: Vec<EvaluatedImage> = (golden.images.iter())
        .map(|image| EvaluatedImage {
            id: image.file_name.clone(),
            file_name: Some(image.file_name.clone()),
            sample: Sample {
                candidate: image.candidate.clone(),
                references: image.references.clone(),
            },
        })
        .collect();
    let image_folder = fixture("preprocess");
    let device = Device::flex();
    let scores = clip_score::score(
        &model,
        &mut images,
        &image_folder,
        &device,
        &|_| (),
        &|_| (),
    );
    let found = scores.unwrap();
    // Some are longer than the 75 tokens that CLIP reads.
    assert_eq!(
        (found.cut.count, found.cut.room),
        (2, 75),
        "{:?}",
        found.cut
    );
    let scores = found.scores;
    assert_eq!(images.len(), golden.images.len(), "all were read");
    let both = |of: &dyn Fn(usize) -> f64| [of(0), of(1)];
    for (i, image) in golden.images.iter().enumerate() {
        let found = both(&|score| scores[score].per_image(i)[0]);
        assert_close(found, &image.expected, &image.file_name);
    }
    let found = both(&|score| scores[score].overall()[0]);
    assert_close(found, &golden.overall, "overall");
}
