//! Any bytes as results and as references of `evaluate`: they are joined, or refused in one line.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use libfuzzer_sys::fuzz_target;

include!("data/modules.rs");

#[path = "../../src/evaluate"]
mod evaluate {
    mod entries;
    pub mod ids;
    pub mod read;
    mod references;
}

use evaluate::read::{Candidates, References, join};

const REFERENCES: &str = r#"{"images": [{"id": 1, "file_name": "a/1.png"}, {"id": "x", "file_name": "b/1.png"}, {"id": 3, "file_name": "3.png"}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "a"}, {"id": 2, "image_id": "x", "caption": "b"}, {"id": 3, "image_id": 3.0, "caption": "c"}]}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((folder, path)) = write(bytes, &["a.json", "a.jsonl", "a.csv", "a.txt"]) else {
        return;
    };
    let known = folder.path().join("references.json");
    std::fs::write(&known, REFERENCES).unwrap();
    let references = [References::load(&path), References::load(&known)];
    match (Candidates::load(&path), references) {
        (Ok(candidates), references) => {
            for references in references.into_iter().flatten() {
                match join(&candidates, &references, true) {
                    Ok(joined) => assert!(joined.images.len() <= joined.referenced),
                    Err(error) => check(&error, &path),
                }
            }
        }
        (Err(error), _) => check(&error, &path),
    }
    if let Ok(ids) = evaluate::ids::ImageIds::load(&path) {
        let _ = ids.of("photos/1.png");
    }
});
