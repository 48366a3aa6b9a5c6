//! COCO's image ids and results (<https://cocodataset.org/#format-results>).

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files;

/// An image's id: a number in COCO's files, a text in some that imitate them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageId {
    Number(u64),
    Text(String),
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// One entry of COCO's results format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptionResult {
    pub image_id: ImageId,
    pub caption: String,
}

/// Writes captions in COCO's results format, `[{"image_id": .., "caption": ..}]`.
pub fn write_results(path: &Path, results: &[CaptionResult]) -> Result<()> {
    files::write_json(path, &results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_back_as_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let result = |image_id| CaptionResult {
            image_id,
            caption: "é".into(),
        };
        let results = [
            result(ImageId::Number(12)),
            result(ImageId::Text("012".into())),
        ];
        write_results(&path, &results).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"image_id\": 12,") && text.contains("\"image_id\": \"012\""),
            "{text}"
        );
        assert_eq!(
            files::read_json::<Vec<CaptionResult>>(&path).unwrap(),
            results
        );
    }
}
