//! A `.txt` with the captions of each image, as trainers of image models read them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::one_line as one_line_caption;
use crate::captioner::Caption;
use crate::files;
use crate::inputs::{Content, Input};
use crate::path_text::one_line;

/// Where the captions of images go.
#[derive(Debug)]
pub struct Sidecars {
    folder: Option<PathBuf>,
    overwrite: bool,
    /// Which image of this run a file belongs to.
    owners: HashMap<PathBuf, PathBuf>,
}

/// What is to be done about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It wants captions, in this file.
    Write(PathBuf),
    /// It has some.
    Kept,
    /// It can have none; the reason begins with its name.
    Refused(String),
}

impl Sidecars {
    /// Beside each image, or in `folder`, laid out there as in the folder that was named. Files that exist are kept
    /// unless they are to be overwritten.
    pub fn new(folder: Option<PathBuf>, overwrite: bool) -> Self {
        Self {
            folder,
            overwrite,
            owners: HashMap::new(),
        }
    }

    /// Where this image's captions go.
    pub fn place(&mut self, input: &Input) -> Place {
        let image = one_line(&input.path);
        if self.folder.is_none() && input.content != Content::File {
            return Place::Refused(format!(
                "{image}: there is no folder beside it: give --output the folder for its captions"
            ));
        }
        let path = self.path(input);
        if path == input.path {
            return Place::Refused(format!(
                "{image}: is called as its captions would be: rename it"
            ));
        }
        match self.owners.get(&path) {
            Some(owner) if *owner != input.path => {
                return Place::Refused(format!(
                    "{image}: {} already holds the captions of {}",
                    one_line(&path),
                    one_line(owner)
                ));
            }
            Some(_) => return Place::Kept,
            None => {}
        }
        self.owners.insert(path.clone(), input.path.clone());
        if path.exists() && !self.overwrite {
            Place::Kept
        } else {
            Place::Write(path)
        }
    }

    fn path(&self, input: &Input) -> PathBuf {
        let Some(folder) = &self.folder else {
            return input.path.with_extension("txt");
        };
        let within = input
            .root
            .as_ref()
            .and_then(|root| input.path.strip_prefix(root).ok());
        let name = || match &input.content {
            Content::File => input.path.file_name().map(Path::new),
            Content::Bytes(_) => Some(Path::new("stdin")),
            Content::Url(url) => url_file_name(url).map(Path::new),
        };
        folder
            .join(within.or_else(name).unwrap_or(&input.path))
            .with_extension("txt")
    }

    /// Writes one image's captions, one a line.
    pub fn write(path: &Path, captions: &[Caption]) -> Result<()> {
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        let lines: String = captions
            .iter()
            .map(|found| one_line_caption(&found.caption) + "\n")
            .collect();
        files::write_atomic(path, |writer| writer.write_all(lines.as_bytes()))
    }
}

/// The last name in an address.
fn url_file_name(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    path.rsplit('/').find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str, root: Option<&str>) -> Input {
        Input::file(path.into(), root.map(PathBuf::from))
    }

    #[test]
    fn what_is_no_file_has_its_captions_in_the_folder_named() {
        let url = "https://example.org/photos/a.jpg?size=large".to_string();
        let address = Input {
            path: PathBuf::from(&url),
            root: None,
            content: Content::Url(url),
        };
        assert!(matches!(
            Sidecars::new(None, false).place(&address),
            Place::Refused(_)
        ));
        assert_eq!(
            Sidecars::new(Some("captions".into()), false).place(&address),
            Place::Write("captions/a.txt".into())
        );
    }

    #[test]
    fn captions_stand_beside_the_image_or_as_it_stood_in_the_folder_named() {
        let mut beside = Sidecars::new(None, false);
        let place = beside.place(&input("no/such/a.jpg", Some("no")));
        assert_eq!(place, Place::Write("no/such/a.txt".into()));
        let mut apart = Sidecars::new(Some("captions".into()), false);
        let place = apart.place(&input("no/such/a.jpg", Some("no")));
        assert_eq!(place, Place::Write("captions/such/a.txt".into()));
        let place = apart.place(&input("no/such/b.jpg", None));
        assert_eq!(place, Place::Write("captions/b.txt".into()));
    }

    #[test]
    fn two_images_never_share_a_file_and_no_image_is_overwritten() {
        let mut sidecars = Sidecars::new(None, true);
        assert_eq!(
            sidecars.place(&input("no/a.jpg", None)),
            Place::Write("no/a.txt".into())
        );
        let Place::Refused(reason) = sidecars.place(&input("no/a.png", None)) else {
            panic!("not refused");
        };
        assert!(
            reason.contains("no/a.png: ") && reason.contains("of no/a.jpg"),
            "{reason}"
        );
        assert_eq!(sidecars.place(&input("no/a.jpg", None)), Place::Kept);
        let image = sidecars.place(&input("no/image.txt", None));
        assert!(matches!(image, Place::Refused(_)));
    }

    #[test]
    fn files_that_exist_are_kept_unless_they_are_to_be_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let caption = Caption {
            caption: "A red\n one. ".into(),
            tokens: Vec::new(),
            log_prob: 0.0,
            score: 0.0,
            similarity: None,
            consensus: None,
        };
        let path = folder.path().join("deep/a.txt");
        Sidecars::write(&path, &[caption.clone(), caption]).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "A red one.\nA red one.\n"
        );
        let image = input(path.with_extension("jpg").to_str().unwrap(), None);
        assert_eq!(Sidecars::new(None, false).place(&image), Place::Kept);
        assert_eq!(
            Sidecars::new(None, true).place(&image),
            Place::Write(path.clone())
        );
    }
}
