//! Parts of a data set as files that list their images, one name a line: Flickr8k's official split is
//! `Flickr_8k.trainImages.txt`, `Flickr_8k.devImages.txt` and `Flickr_8k.testImages.txt`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use super::image_source::ImageSource;
use super::left_out::LeftOut;
use super::source::{self, CaptionData, CaptionedImage};
use super::split::{Part, Split};
use super::text::cell::shorten;
use super::text::{self, Lines};

/// What to do about names in a list that the data set does not have.
const FIX: &str = "the lists are of other images, or the names are written otherwise";
/// Images in none of the lists that are named.
const NAMED: usize = 3;

/// A file for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitLists {
    pub train: PathBuf,
    pub val: PathBuf,
    pub test: PathBuf,
}

/// What became of a data set's images.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    /// Those in one of the lists, each with its part.
    pub images: Vec<CaptionedImage>,
    /// Names in the lists that are of no image.
    pub unknown: LeftOut,
    /// What is to be said of images in none of the lists, a line each.
    pub unlisted: Vec<String>,
}

impl FromStr for SplitLists {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        match names[..] {
            [train, val, test] if names.iter().all(|name| !name.is_empty()) => Ok(Self {
                train: train.into(),
                val: val.into(),
                test: test.into(),
            }),
            _ => Err(format!(
                "`{text}` names {} lists: give three files, those of the training, validation and test images, as in train.txt,val.txt,test.txt",
                names.iter().filter(|name| !name.is_empty()).count()
            )),
        }
    }
}

impl fmt::Display for SplitLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, val, test] = [&self.train, &self.val, &self.test].map(|path| path.display());
        write!(f, "{train},{val},{test}")
    }
}

/// Reads a data set as [`source::load_and_report`] does, and puts its images into the parts where lists say them.
///
/// # Errors
/// As [`source::load_and_report`] and [`SplitLists::mark`].
pub fn load(
    data: &Path,
    folders: &[PathBuf],
    split: &Split,
    report: &dyn Fn(&str),
) -> Result<CaptionData> {
    let mut found = source::load_and_report(data, folders, report)?;
    let Split::Lists(lists) = split else {
        return Ok(found);
    };
    let before = found.images.len();
    let marked = lists.mark(data, found.images)?;
    marked.unknown.lines().for_each(|line| report(&line));
    marked.unlisted.iter().for_each(|line| report(line));
    found.left_out.count += before - marked.images.len();
    found.images = marked.images;
    Ok(found)
}

impl SplitLists {
    /// Puts images into the parts that list them, whatever the data set itself says, and takes those in none out. A name is
    /// that of the image's file, with or without folders and ending.
    ///
    /// # Errors
    /// When a list cannot be read, an image is in two, or too many names are of no image of `data`.
    pub fn mark(&self, data: &Path, mut images: Vec<CaptionedImage>) -> Result<Marked> {
        let known = Names::new(&images);
        let mut unknown = LeftOut::default();
        let mut listed: HashMap<usize, (Part, String)> = HashMap::with_capacity(images.len());
        let mut total = 0;
        for (part, path) in [
            (Part::Train, &self.train),
            (Part::Val, &self.val),
            (Part::Test, &self.test),
        ] {
            for (place, name) in read(path)? {
                total += 1;
                let Some(image) = known.find(&name) else {
                    let (name, data) = (shorten(&name), data.display());
                    unknown.note(|| format!("{place}: {name} has no caption in {data}"));
                    continue;
                };
                let (before, first) = listed.entry(image).or_insert((part, place.clone()));
                if *before != part {
                    bail!(
                        "{place}: {} is in {first} too: each image must be in one part",
                        shorten(&name)
                    );
                }
            }
        }
        let [train, val, test] = [&self.train, &self.val, &self.test].map(|path| path.display());
        unknown.check(&format!("{train}, {val} and {test}"), total, FIX)?;
        let mut rest = Vec::new();
        let mut place = 0;
        images.retain_mut(|image| {
            image.part = listed.get(&place).map(|(part, _)| *part);
            place += 1;
            if image.part.is_none() {
                rest.push((image.file_name.clone(), is_there(image)));
            }
            image.part.is_some()
        });
        Ok(Marked {
            images,
            unknown,
            unlisted: tell(data, &rest),
        })
    }
}

/// Whether an image's file is where it is said to be.
fn is_there(image: &CaptionedImage) -> bool {
    match &image.source {
        Some(ImageSource::File(path)) => path.is_file(),
        _ => true,
    }
}

/// Lines for images in none of the lists: those that are not there, and the others.
fn tell(data: &Path, images: &[(String, bool)]) -> Vec<String> {
    let names = |there: bool| -> Vec<String> {
        let chosen = images.iter().filter(|(_, is_there)| *is_there == there);
        chosen.map(|(name, _)| shorten(name)).collect()
    };
    let line = |names: Vec<String>, none: &str| {
        let (are, named) = match names.len() {
            0 => return None,
            1 => ("1 image is".to_string(), format!(": {}", names[0])),
            count => (
                format!("{count} images are"),
                format!(", such as {}", names[..NAMED.min(count)].join(", ")),
            ),
        };
        let data = data.display();
        Some(format!(
            "left out: {data}: {are} in none of the lists{none}{named}"
        ))
    };
    [
        line(names(false), " and not in the folder"),
        line(names(true), ""),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The names in a list, with their places.
fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let cannot_read = || format!("{}: cannot be read", path.display());
    let mut names = Vec::new();
    for (i, line) in
        Lines::new(text::open(path).with_context(|| path.display().to_string())?).enumerate()
    {
        let line = line.with_context(cannot_read)?;
        let place = format!("{}: line {}", path.display(), i + 1);
        let name = text::check(&line).map_err(|reason| anyhow!("{place}: {reason}"))?;
        let name = name.trim();
        if !name.is_empty() {
            names.push((place, name.to_string()));
        }
    }
    if names.is_empty() {
        bail!("{} lists no image", path.display());
    }
    Ok(names)
}

/// Images by what a list may call them.
struct Names {
    /// By the whole name and the last part of it; `None` where it may be several images.
    files: HashMap<String, Option<usize>>,
    /// By the last part without its ending.
    stems: HashMap<String, Option<usize>>,
}

impl Names {
    fn new(images: &[CaptionedImage]) -> Self {
        let (mut files, mut stems) = (HashMap::new(), HashMap::new());
        let add = |names: &mut HashMap<String, Option<usize>>, name: &str, place| {
            let entry = names.entry(name.to_string());
            entry
                .and_modify(|found| *found = None)
                .or_insert(Some(place));
        };
        for (place, image) in images.iter().enumerate() {
            let (whole, base) = (image.file_name.as_str(), base(&image.file_name));
            add(&mut files, whole, place);
            if base != whole {
                add(&mut files, base, place);
            }
            add(&mut stems, stem(base), place);
        }
        Self { files, stems }
    }

    fn find(&self, name: &str) -> Option<usize> {
        let base = base(name);
        let names = match stem(base) == base {
            true => &self.stems,
            false => &self.files,
        };
        (self.files.get(name).or_else(|| names.get(base)).copied()).flatten()
    }
}

/// The last part of a path.
fn base(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// A file's name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::coco::ImageId;
    use std::fs;

    struct Place(tempfile::TempDir);

    impl Place {
        fn lists(&self, names: [&str; 3]) -> SplitLists {
            let write = |file: &str, names: &str| {
                let path = self.0.path().join(file);
                fs::write(&path, names.replace(' ', "\n")).unwrap();
                path
            };
            SplitLists {
                train: write("train.txt", names[0]),
                val: write("dev.txt", names[1]),
                test: write("test.txt", names[2]),
            }
        }

        fn images(&self, names: &[&str]) -> Vec<CaptionedImage> {
            let image = |name: &&str| {
                let path = self.0.path().join(name);
                if !name.ends_with(".1") {
                    fs::write(&path, "").unwrap();
                }
                CaptionedImage {
                    id: ImageId::Text(name.to_string()),
                    file_name: name.to_string(),
                    source: Some(ImageSource::File(path)),
                    captions: vec!["a dog".into()],
                    part: None,
                }
            };
            names.iter().map(image).collect()
        }
    }

    fn place() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    #[test]
    fn every_image_that_is_listed_gets_its_part_and_the_others_are_told() {
        let place = place();
        let names = [
            "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg.1", "f.jpg", "g.jpg",
        ];
        let lists = place.lists(["b.jpg a.jpg", "folder/c.jpg", "d"]);
        let data = Path::new("token.txt");
        let marked = lists.mark(data, place.images(&names)).unwrap();
        let parts: Vec<(&str, Part)> = (marked.images.iter())
            .map(|image| (image.file_name.as_str(), image.part.unwrap()))
            .collect();
        assert_eq!(
            parts,
            [
                ("a.jpg", Part::Train),
                ("b.jpg", Part::Train),
                ("c.jpg", Part::Val),
                ("d.jpg", Part::Test)
            ]
        );
        assert_eq!(
            marked.unlisted,
            [
                "left out: token.txt: 1 image is in none of the lists and not in the folder: e.jpg.1",
                "left out: token.txt: 2 images are in none of the lists, such as f.jpg, g.jpg"
            ]
        );
        assert_eq!(marked.unknown.count, 0);
    }

    #[test]
    fn names_of_no_image_are_told_and_many_of_them_are_an_error() {
        let place = place();
        let names: Vec<String> = (0..20).map(|i| format!("{i}.jpg")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let train = names[..18].join(" ");
        let images = place.images(&names);
        let lists = place.lists([&train, "18.jpg", "19.jpg lost.jpg"]);
        let marked = lists.mark(Path::new("t"), images.clone()).unwrap();
        assert_eq!(marked.unknown.count, 1);
        assert!(
            marked.unknown.named[0].ends_with("test.txt: line 2: lost.jpg has no caption in t")
        );
        let lists = place.lists(["0.jpg x.jpg y.jpg", "18.jpg", "19.jpg"]);
        let error = lists.mark(Path::new("t"), images.clone()).unwrap_err();
        assert!(error.to_string().contains("2 of 5 entries"), "{error}");
        let lists = place.lists(["0.jpg 1.jpg", "18.jpg", "19.jpg 1.jpg"]);
        let error = lists.mark(Path::new("t"), images).unwrap_err().to_string();
        assert!(
            error.contains("test.txt: line 2: 1.jpg is in")
                && error.contains("train.txt: line 2 too"),
            "{error}"
        );
    }

    #[test]
    fn a_split_by_lists_is_written_as_it_is_read() {
        let split: Split = "a/train.txt, dev.txt,test.txt".parse().unwrap();
        assert_eq!(split.to_string(), "a/train.txt,dev.txt,test.txt");
        assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        for text in ["a.txt,b.txt", "a.txt,,c.txt", "a,b,c,d"] {
            let error = text.parse::<Split>().unwrap_err();
            assert!(
                error.contains(text) && error.contains("three files"),
                "{error}"
            );
        }
    }
}
