//! COCO caption annotations and results (<https://cocodataset.org/#format-data>).

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::scenes::Kind;
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

/// A picture file and what people said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionedImage {
    pub id: ImageId,
    pub file_name: String,
    /// At least one, with white space collapsed.
    pub captions: Vec<String>,
    /// What the picture is of, where the annotation says so (the generated scenes' does).
    pub main: Option<Kind>,
}

/// An annotation file's captioned images, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CocoCaptions {
    pub images: Vec<CaptionedImage>,
    /// Images without a caption; they are left out.
    pub without_caption: usize,
    /// Captions of images that the file does not list; they are left out.
    pub without_image: usize,
}

#[derive(Deserialize)]
struct AnnotationFile {
    images: Vec<ImageEntry>,
    annotations: Vec<CaptionEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: ImageId,
    file_name: String,
    #[serde(default)]
    main: Option<Kind>,
}

#[derive(Deserialize)]
struct CaptionEntry {
    image_id: ImageId,
    caption: String,
}

impl CocoCaptions {
    /// Reads an annotation file.
    ///
    /// # Errors
    /// When it cannot be read, is not such a file, lists an image twice, or holds no captioned image.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let file: AnnotationFile =
            serde_json::from_reader(BufReader::new(file)).with_context(|| {
                format!(
                    "{} is not a COCO caption annotation (`images` and `annotations`)",
                    path.display()
                )
            })?;
        Self::collect(file).with_context(|| path.display().to_string())
    }

    fn collect(file: AnnotationFile) -> Result<Self> {
        let mut index = HashMap::with_capacity(file.images.len());
        let mut images = Vec::with_capacity(file.images.len());
        for entry in file.images {
            if index.insert(entry.id.clone(), images.len()).is_some() {
                bail!("image id {} is listed twice", entry.id);
            }
            images.push(CaptionedImage {
                id: entry.id,
                file_name: entry.file_name,
                captions: Vec::new(),
                main: entry.main,
            });
        }
        let mut without_image = 0;
        for entry in file.annotations {
            let caption = entry
                .caption
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            match index.get(&entry.image_id) {
                Some(&image) if !caption.is_empty() => images[image].captions.push(caption),
                Some(_) => {}
                None => without_image += 1,
            }
        }
        let listed = images.len();
        images.retain(|image| !image.captions.is_empty());
        if images.is_empty() {
            bail!("none of its {listed} images has a caption");
        }
        Ok(Self {
            without_caption: listed - images.len(),
            images,
            without_image,
        })
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

    fn load(text: &str) -> Result<CocoCaptions> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.json");
        std::fs::write(&path, text).unwrap();
        CocoCaptions::load(&path)
    }

    #[test]
    fn captions_are_gathered_by_image_and_cleaned() {
        let captions = load(
            r#"{"info": {}, "images": [{"id": 9, "file_name": "b.jpg"}, {"id": "x", "file_name": "a.jpg"}, {"id": 3, "file_name": "c.jpg"}],
                "annotations": [{"id": 1, "image_id": "x", "caption": " A dog\n runs. "}, {"id": 2, "image_id": 9, "caption": "One."},
                                {"id": 3, "image_id": 9, "caption": "Two."}, {"id": 4, "image_id": 77, "caption": "Lost."}]}"#,
        )
        .unwrap();
        assert_eq!(captions.images.len(), 2);
        assert_eq!(captions.images[0].captions, ["One.", "Two."]);
        assert_eq!(captions.images[1].id, ImageId::Text("x".into()));
        assert_eq!(captions.images[1].captions, ["A dog runs."]);
        assert_eq!((captions.without_caption, captions.without_image), (1, 1));
    }

    #[test]
    fn bad_files_are_refused_with_the_place() {
        let cases = [
            ("{\"images\": [],\n oops", "line 2"),
            (r#"{"images": []}"#, "annotations"),
            (
                r#"{"images": [], "annotations": []}"#,
                "none of its 0 images",
            ),
            (
                r#"{"images": [{"id": 4, "file_name": "a"}, {"id": 4, "file_name": "b"}], "annotations": []}"#,
                "image id 4 is listed twice",
            ),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(
                error.contains("captions.json") && error.contains(expected),
                "{error}"
            );
        }
    }

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
