//! COCO's image ids and results (<https://cocodataset.org/#format-results>).

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::text::cell::Cell;
use crate::files;

/// An image's id: a number in COCO's files, a text in some that imitate them. `1`, `"1"` and `1.0` are one id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum ImageId {
    Number(u64),
    Text(String),
}

/// Above this, a float is not one whole number.
const LARGEST_FLOAT: f64 = 9_007_199_254_740_992.0;

impl ImageId {
    /// An id that a table, or a careless writer of JSON, gives as a text.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let digits = match text.split_once('.') {
            Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => {
                digits
            }
            _ => text,
        };
        // `012` is a name, not a number.
        match digits.parse::<u64>() {
            Ok(number) if number.to_string() == digits => Self::Number(number),
            _ => Self::Text(text.to_string()),
        }
    }

    /// The id that a float stands for, as pandas writes ids of a column with gaps; `None` when it is no whole number.
    pub fn from_float(number: f64) -> Option<Self> {
        let is_whole = number.fract() == 0.0 && number.abs() <= LARGEST_FLOAT;
        is_whole.then(|| Self::parse(&format!("{:.0}", number + 0.0)))
    }

    /// The id in the name that COCO gave a file: `COCO_val2014_000000391895.jpg`, `000000391895.jpg`. A name of which
    /// the number is only a part has none.
    pub fn of_coco_file(name: &str) -> Option<Self> {
        let base = name.rsplit(['/', '\\']).next()?;
        let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
        let digits = match stem.strip_prefix("COCO_") {
            Some(rest) => {
                let (set, digits) = rest.rsplit_once('_')?;
                let year = set.trim_start_matches(|c: char| c.is_ascii_lowercase());
                let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
                (is_year && year.len() < set.len()).then_some(digits)?
            }
            None => stem,
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok().map(Self::Number))?
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::deserialize(deserializer)?
            .id()
            .map_err(D::Error::custom)
    }
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
pub fn write_results(path: &Path, results: &[CaptionResult]) -> anyhow::Result<()> {
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

    #[test]
    fn the_id_is_read_off_the_names_that_coco_gives_its_files() {
        for name in [
            "COCO_val2014_000000391895.jpg",
            "photos/COCO_train2014_000000391895.jpg",
            "000000391895.jpg",
            "val2017\\391895.png",
            "391895",
        ] {
            assert_eq!(
                ImageId::of_coco_file(name),
                Some(ImageId::Number(391_895)),
                "{name}"
            );
        }
        for name in [
            "img_1.jpg",
            "COCO_1.jpg",
            "COCO_2014_1.jpg",
            "a1.jpg",
            "1a.jpg",
            ".jpg",
            "",
        ] {
            assert_eq!(ImageId::of_coco_file(name), None, "{name}");
        }
    }

    #[test]
    fn ids_are_one_however_they_are_written() {
        for id in ["1", "1.0", " 1 ", "1.00"] {
            assert_eq!(ImageId::parse(id), ImageId::Number(1), "{id}");
        }
        for id in [
            "01",
            "1.",
            "1.5",
            "-1",
            "1e0",
            "a",
            "+1",
            "18446744073709551616",
        ] {
            assert_eq!(ImageId::parse(id), ImageId::Text(id.into()), "{id}");
        }
        assert_eq!(ImageId::from_float(-2.0), Some(ImageId::Text("-2".into())));
        assert_eq!(ImageId::from_float(f64::NAN), None);
    }
}
