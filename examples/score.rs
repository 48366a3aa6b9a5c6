//! Scores captions against references: `cargo run --release --example score -- results.json annotations.json`
//!
//! Without names, three captions that are written down here.

use anyhow::Result;
use clipcap::Evaluation;

fn main() -> Result<()> {
    let mut names = std::env::args_os().skip(1);
    let folder = tempfile::tempdir()?;
    let (candidates, references) = match (names.next(), names.next()) {
        (Some(candidates), Some(references)) => (candidates.into(), references.into()),
        _ => {
            let results = folder.path().join("results.json");
            let annotations = folder.path().join("annotations.json");
            std::fs::write(&results, RESULTS)?;
            std::fs::write(&annotations, ANNOTATIONS)?;
            (results, annotations)
        }
    };
    let evaluation = Evaluation::of_files(candidates, references)?;
    for (name, value) in evaluation.names().iter().zip(evaluation.overall()) {
        println!("{name:18} {value:.3}");
    }
    Ok(())
}

const RESULTS: &str = r#"[
    {"image_id": 1, "caption": "A dog runs through the snow."},
    {"image_id": 2, "caption": "Two children play on a beach."},
    {"image_id": 3, "caption": "A man rides a bicycle."}
]"#;

const ANNOTATIONS: &str = r#"{
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "annotations": [
        {"image_id": 1, "id": 1, "caption": "A brown dog is running in the snow."},
        {"image_id": 1, "id": 2, "caption": "A dog runs across a snowy field."},
        {"image_id": 2, "id": 3, "caption": "Two kids are playing at the beach."},
        {"image_id": 2, "id": 4, "caption": "Two children play in the sand."},
        {"image_id": 3, "id": 5, "caption": "A man on a red bicycle in the street."},
        {"image_id": 3, "id": 6, "caption": "A man is riding his bike."}
    ]
}"#;
