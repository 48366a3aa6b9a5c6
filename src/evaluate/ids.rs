//! COCO's ids of images, from the names of their files.

use std::path::Path;

use anyhow::Result;

use super::references::{FileNames, References};
use crate::data::coco::ImageId;

/// Where the ids of images come from.
#[derive(Clone, Debug, Default)]
pub struct ImageIds {
    /// Images with ids and file names; without them the number in COCO's names is the id.
    listed: Option<(References, FileNames)>,
}

impl ImageIds {
    /// Ids from a file that lists images with them, such as COCO's annotations.
    ///
    /// # Errors
    /// When it cannot be read, or names no files.
    pub fn load(path: &Path) -> Result<Self> {
        let references = References::load_images(path)?;
        let names = FileNames::new(&references);
        Ok(Self {
            listed: Some((references, names)),
        })
    }

    /// The id of the image with this path.
    ///
    /// # Errors
    /// When it has none, or several images may be meant. The message goes on after the image's name.
    pub fn of(&self, image: &str) -> Result<ImageId, String> {
        match &self.listed {
            Some((references, names)) => match names.find(image, references)? {
                Some(place) => Ok(references.images[place].id.clone()),
                None => Err(format!("is not listed in {}", references.path.display())),
            },
            None => ImageId::of_coco_file(image).ok_or_else(|| {
                "its name has no COCO id, as COCO_val2014_000000391895.jpg has: give --ids with a file that lists its id".to_string()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_listed_or_in_the_name() {
        let ids = ImageIds::default();
        let id = ids.of("photos/COCO_val2014_000000391895.jpg").unwrap();
        assert_eq!(id, ImageId::Number(391_895));
        assert!(ids.of("photos/dog.jpg").unwrap_err().contains("--ids"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.json");
        let listed = r#"{"images": [{"id": 7, "file_name": "dog.jpg"}, {"id": "8", "file_name": "a/cat.jpg"}, {"id": 9, "file_name": "b/cat.jpg"}]}"#;
        std::fs::write(&path, listed).unwrap();
        let ids = ImageIds::load(&path).unwrap();
        assert_eq!(ids.of("photos/dog.jpg").unwrap(), ImageId::Number(7));
        assert_eq!(ids.of("photos/a/cat.jpg").unwrap(), ImageId::Number(8));
        let error = ids.of("photos/cat.jpg").unwrap_err();
        assert!(error.contains("a/cat.jpg or b/cat.jpg"), "{error}");
        assert!(ids.of("cow.jpg").unwrap_err().contains("is not listed in"));
        std::fs::write(&path, r#"{"images": [{"id": 7}]}"#).unwrap();
        assert!(ImageIds::load(&path).is_err());
    }
}
