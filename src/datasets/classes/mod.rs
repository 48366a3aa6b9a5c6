//! Images with a class each: CIFAR-10, STL-10, a folder a class, and the sample scenes.

mod cifar10;
mod folder;
mod images;
mod scenes;
mod stl10;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::unreadable;
use crate::files;
use crate::inputs::FileKinds;

pub use images::Images;
pub use scenes::SceneClass;

/// One in this many training images is held out.
const HELD_OUT: usize = 5;

/// Where classified images come from, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassSource {
    /// The generated sample.
    Scenes(SceneClass),
    /// CIFAR-10 where `fetch cifar10` puts it.
    Cifar10,
    /// STL-10 where `fetch stl10` puts it.
    Stl10,
    /// CIFAR-10's or STL-10's own files, or a folder a class.
    Path(PathBuf),
}

/// Images and the class of each.
#[derive(Clone, Debug)]
pub struct Labeled {
    pub images: Images,
    /// Indices into the names of the classes.
    pub labels: Vec<usize>,
}

/// A whole data set.
#[derive(Clone, Debug)]
pub struct ClassSet {
    pub name: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    pub train: Labeled,
    pub test: Labeled,
    /// Images without a class, to pretrain on.
    pub unlabeled: Option<Images>,
    /// Parts of the training images that are each to be trained on alone, with the mean of the tests as the result
    /// (STL-10); indices, perhaps none.
    pub folds: Vec<Vec<usize>>,
    /// Files in no class, or that are not images.
    pub other_files: FileKinds,
}

impl FromStr for ClassSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "scenes" => Self::Scenes(SceneClass::Kind),
            "scenes-shapes" => Self::Scenes(SceneClass::Shape),
            "scenes-colors" => Self::Scenes(SceneClass::Color),
            "cifar10" => Self::Cifar10,
            "stl10" => Self::Stl10,
            path => Self::Path(path.into()),
        })
    }
}

impl fmt::Display for ClassSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenes(SceneClass::Kind) => f.write_str("scenes"),
            Self::Scenes(SceneClass::Shape) => f.write_str("scenes-shapes"),
            Self::Scenes(SceneClass::Color) => f.write_str("scenes-colors"),
            Self::Cifar10 => f.write_str("cifar10"),
            Self::Stl10 => f.write_str("stl10"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Labeled {
    /// # Errors
    /// When there are not as many labels as images.
    fn new(images: Images, labels: Vec<usize>) -> Result<Self> {
        ensure!(
            images.len() == labels.len(),
            "{} images with {} labels",
            images.len(),
            labels.len()
        );
        Ok(Self { images, labels })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Some of them, by index.
    fn choose(&self, which: Vec<usize>) -> Self {
        Self {
            labels: which.iter().map(|&index| self.labels[index]).collect(),
            images: self.images.choose(which),
        }
    }
}

impl ClassSet {
    /// Reads a data set, or makes the sample. `dataset` is the folder that fetched data sets are in.
    ///
    /// # Errors
    /// When files are missing, of a wrong size, or have labels that name no class; the message names the file.
    pub fn load(source: &ClassSource, dataset: &Path) -> Result<Self> {
        let set = match source {
            ClassSource::Scenes(class) => scenes::load(*class)?,
            ClassSource::Cifar10 => {
                cifar10::load(&fetched(dataset, &cifar10::FOLDERS, "cifar10")?)?
            }
            ClassSource::Stl10 => stl10::load(&fetched(dataset, &[stl10::FOLDER], "stl10")?)?,
            ClassSource::Path(path) => Self::open(path)?,
        };
        ensure!(
            set.classes.len() > 1,
            "{source} has {} class: two are needed to tell apart",
            set.classes.len()
        );
        for (part, name) in [(&set.train, "train"), (&set.test, "test")] {
            ensure!(!part.is_empty(), "{source} has no image to {name} on");
        }
        Ok(set)
    }

    /// A data set by what its folder holds.
    fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!(
                "{} is not a folder: give a folder of CIFAR-10, STL-10 or one folder a class, or scenes, scenes-shapes, scenes-colors, cifar10 or stl10",
                path.display()
            );
        }
        if cifar10::is_there(path) {
            cifar10::load(path)
        } else if stl10::is_there(path) {
            stl10::load(path)
        } else {
            folder::load(path)
        }
    }

    /// Without the images that cannot be read, each of which is opened for it and named. What is no file of its own is
    /// taken as it is. Other files are told of too.
    ///
    /// # Errors
    /// When there are too many of them; see [`unreadable`].
    pub fn readable(mut self, report: &dyn Fn(&str)) -> Result<Self> {
        let others = (self.other_files).left_out("no image of a class", "no images of a class");
        others.iter().for_each(|line| report(line));
        for (part, name) in [(&mut self.train, "train"), (&mut self.test, "test")] {
            let errors = part.images.unreadable();
            if errors.is_empty() {
                continue;
            }
            let reasons: Vec<&String> = errors.values().collect();
            unreadable::check(&reasons, part.len(), &self.name, report)?;
            let kept: Vec<usize> = (0..part.len())
                .filter(|index| !errors.contains_key(index))
                .collect();
            ensure!(!kept.is_empty(), "{} has no image to {name} on", self.name);
            let places: HashMap<usize, usize> = (kept.iter().copied().zip(0..)).collect();
            if name == "train" {
                for fold in &mut self.folds {
                    *fold = fold
                        .iter()
                        .filter_map(|index| places.get(index).copied())
                        .collect();
                }
            }
            *part = part.choose(kept);
        }
        Ok(self)
    }

    /// The training part alone, four fifths of each class to train on and the others to test on: the test part has no say
    /// in what is chosen by it.
    ///
    /// # Errors
    /// When there are too few training images.
    pub fn held_out(self) -> Result<Self> {
        ensure!(
            self.train.len() >= HELD_OUT,
            "{} training images are too few to hold a fifth of them out: give {HELD_OUT} or more",
            self.train.len()
        );
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        order.sort_by_key(|&index| self.train.labels[index]);
        let (test, train): (Vec<_>, Vec<_>) =
            (order.into_iter().enumerate()).partition(|(place, _)| place % HELD_OUT == 0);
        let part = |which: Vec<(usize, usize)>| {
            let mut which: Vec<usize> = which.into_iter().map(|(_, index)| index).collect();
            which.sort_unstable();
            self.train.choose(which)
        };
        Ok(Self {
            train: part(train),
            test: part(test),
            folds: Vec::new(),
            ..self
        })
    }

    /// What tells the images and their classes from others, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.classes.join("\n"));
        for part in [&self.train, &self.test] {
            part.images.fingerprint(&mut hash);
            for &label in &part.labels {
                hash.update((label as u64).to_le_bytes());
            }
        }
        if let Some(unlabeled) = &self.unlabeled {
            unlabeled.fingerprint(&mut hash);
        }
        files::hex(&hash.finalize())
    }

    /// What is pretrained on: the unlabeled images where there are some, else the training part without its labels.
    pub fn to_pretrain(&self) -> Images {
        self.unlabeled
            .clone()
            .unwrap_or_else(|| self.train.images.clone())
    }
}

/// The first of the folders that is there.
fn fetched(dataset: &Path, folders: &[&str], name: &str) -> Result<PathBuf> {
    let found = folders.iter().map(|folder| dataset.join(folder));
    match found.into_iter().find(|folder| folder.is_dir()) {
        Some(folder) => Ok(folder),
        None => bail!(
            "{} is missing: get it with `clipcap fetch {name}`, or give --data the folder that it is in",
            dataset.join(folders[0]).display()
        ),
    }
}
