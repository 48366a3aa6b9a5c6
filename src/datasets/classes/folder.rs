//! A folder a class: `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or `CLASS/*.jpg`, of which every fifth image of a class
//! is tested on.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};

use super::{ClassSet, Images, Labeled};
use crate::inputs::{self, InputError, OtherFiles, is_hidden};
use crate::path_text;

/// What the part to test on is called.
const TEST_NAMES: [&str; 3] = ["test", "val", "valid"];
/// Without parts of its own, one in so many images of a class is tested on.
const TEST_SHARE: usize = 5;

pub fn load(folder: &Path) -> Result<ClassSet> {
    let others = OtherFiles::default();
    let train = folder.join("train");
    let tests = TEST_NAMES.map(|name| folder.join(name));
    let test = tests.into_iter().find(|test| test.is_dir());
    let (classes, train, test) = match test {
        Some(test) if train.is_dir() => {
            note_files(folder, &others)?;
            let classes = classes(&train, &others)?;
            let train = files(&train, &classes, &others)?;
            let known = self::classes(&test, &others)?;
            let unknown = known.iter().find(|name| !classes.contains(name));
            ensure!(
                unknown.is_none(),
                "{} has the class `{}`, which {} has not",
                test.display(),
                unknown.map_or("", String::as_str),
                folder.join("train").display()
            );
            let test = files(&test, &classes, &others)?;
            (classes, train, test)
        }
        _ => {
            let classes = classes(folder, &others)?;
            let (test, train) = files(folder, &classes, &others)?
                .into_iter()
                .partition(|(_, _, place)| place % TEST_SHARE == TEST_SHARE - 1);
            (classes, train, test)
        }
    };
    ensure!(
        !train.is_empty() && !test.is_empty(),
        "{} has {} images in folders to train on and {} to test on: put the images of each class into a folder of their own",
        folder.display(),
        train.len(),
        test.len()
    );
    Ok(ClassSet {
        name: folder.display().to_string(),
        classes,
        train: labeled(train)?,
        test: labeled(test)?,
        unlabeled: None,
        folds: Vec::new(),
        other_files: others.kinds(),
    })
}

/// An image, its class and its place among the images of the class.
type Found = (PathBuf, usize, usize);

/// What is in a folder, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot_read)?;
    let entries = entries.collect::<Result<Vec<_>, _>>();
    let mut entries = entries.with_context(cannot_read)?;
    entries.retain(|entry| !is_hidden(&entry.file_name()));
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// Notes what is in a folder beside its subfolders.
fn note_files(folder: &Path, others: &OtherFiles) -> Result<()> {
    let entries = entries(folder)?;
    let paths = entries.iter().map(DirEntry::path);
    paths
        .filter(|path| !path.is_dir())
        .for_each(|path| others.note(&path));
    Ok(())
}

/// Names of the subfolders, sorted. What is beside them is noted.
fn classes(folder: &Path, others: &OtherFiles) -> Result<Vec<String>> {
    note_files(folder, others)?;
    let mut names = Vec::new();
    for entry in entries(folder)? {
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().map_err(|_| {
            let path = path_text::text(&entry.path());
            anyhow!("{path}: the name of a class has to be UTF-8: rename the folder")
        })?;
        names.push(name);
    }
    Ok(names)
}

fn files(folder: &Path, classes: &[String], others: &OtherFiles) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = folder.join(class);
        // A class that the test part does not have.
        if !folder.is_dir() {
            continue;
        }
        let images = inputs::images(&folder, true, others);
        let paths = images.map(|image| match image {
            // What is no file is left out when it cannot be opened.
            Err(InputError::Special { path, .. } | InputError::BrokenLink { path }) => Ok(path),
            image => image,
        });
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let placed = paths.into_iter().enumerate();
        found.extend(placed.map(|(place, path)| (path, label, place)));
    }
    Ok(found)
}

fn labeled(found: Vec<Found>) -> Result<Labeled> {
    let (paths, labels) = found
        .into_iter()
        .map(|(path, label, _)| (path, label))
        .unzip();
    Labeled::new(Images::Files(Arc::new(paths)), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(2, 2).save(path).unwrap();
        }
        folder
    }

    #[test]
    fn one_in_five_of_each_class_is_tested_on() {
        let names: Vec<String> = (0..10).map(|i| format!("cat/{i}.png")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.extend(["dog/a.png", "dog/b.png"]);
        let folder = place(&names);
        for other in ["cat/notes.txt", "list.csv", "c.png"] {
            fs::write(folder.path().join(other), "words").unwrap();
        }
        let set = load(folder.path()).unwrap();
        assert_eq!(set.other_files.count(), 3, "{}", set.other_files);
        assert_eq!(set.classes, ["cat", "dog"]);
        assert_eq!((set.train.len(), set.test.len()), (10, 2));
        assert_eq!(set.test.labels, [0, 0]);
    }

    #[test]
    fn parts_of_its_own_are_kept_and_need_known_classes() {
        let folder = place(&["train/cat/a.png", "train/dog/b.png", "test/dog/c.png"]);
        let set = load(folder.path()).unwrap();
        assert_eq!((set.train.labels, set.test.labels), (vec![0, 1], vec![1]));
        let folder = place(&["train/cat/a.png", "test/dog/c.png"]);
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("class `dog`"), "{error}");
        let error = load(place(&["a.png"]).path()).unwrap_err().to_string();
        assert!(error.contains("into a folder of their own"), "{error}");
    }
}
