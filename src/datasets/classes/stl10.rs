//! STL-10 (Coates, Ng and Lee 2011, <https://cs.stanford.edu/~acoates/stl10/>): 5,000 labeled training images in ten
//! overlapping folds, 8,000 to test on, 100,000 without labels; 96 pixels square, planes by columns, labels from 1.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{ClassSet, Images, Labeled};
use crate::inputs::FileKinds;

/// The archive's folder.
pub const FOLDER: &str = "stl10_binary";
const SIDE: u32 = 96;
const CLASSES: [&str; 10] = [
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
];

/// Whether a folder holds it.
pub fn is_there(folder: &Path) -> bool {
    folder.join("train_X.bin").is_file()
}

pub fn load(folder: &Path) -> Result<ClassSet> {
    let names = folder.join("class_names.txt");
    let classes: Vec<String> = match fs::read_to_string(&names) {
        Ok(text) => text.split_whitespace().map(String::from).collect(),
        Err(_) => CLASSES.map(String::from).to_vec(),
    };
    let unlabeled = folder.join("unlabeled_X.bin");
    let train = part(folder, "train", classes.len())?;
    let folds = folds(&folder.join("fold_indices.txt"), train.len())?;
    Ok(ClassSet {
        name: "STL-10".to_string(),
        test: part(folder, "test", classes.len())?,
        unlabeled: match unlabeled.is_file() {
            true => Some(Images::columns(&unlabeled, SIDE)?),
            false => None,
        },
        folds,
        classes,
        train,
        other_files: FileKinds::default(),
    })
}

fn part(folder: &Path, name: &str, classes: usize) -> Result<Labeled> {
    let images = Images::columns(&folder.join(format!("{name}_X.bin")), SIDE)?;
    let path = folder.join(format!("{name}_y.bin"));
    let labels = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        labels.len() == images.len(),
        "{} has {} labels for {} images: it is cut short or another file; fetch it again",
        path.display(),
        labels.len(),
        images.len()
    );
    let label = |(index, &label): (usize, &u8)| {
        ensure!(
            (1..=classes).contains(&usize::from(label)),
            "{}: label {index} is {label}, and there are classes 1 to {classes}",
            path.display()
        );
        Ok(usize::from(label) - 1)
    };
    let labels = labels
        .iter()
        .enumerate()
        .map(label)
        .collect::<Result<_>>()?;
    Labeled::new(images, labels)
}

/// A line a fold, of indices from 0; no fold where there is no file.
fn folds(path: &Path, count: usize) -> Result<Vec<Vec<usize>>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let index = |word: &str| {
        let index = word.parse().ok().filter(|&index: &usize| index < count);
        index.with_context(|| {
            format!(
                "{}: `{word}` is not an index of the {count} training images",
                path.display()
            )
        })
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split_whitespace().map(index).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of two training images and one to test on.
    fn folder(labels: [u8; 2]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let size = 3 * 96 * 96;
        let mut train = vec![0; 2 * size];
        // Column 5, row 2 of the second image's red plane.
        train[size + 5 * 96 + 2] = 9;
        fs::write(folder.path().join("train_X.bin"), train).unwrap();
        fs::write(folder.path().join("train_y.bin"), labels).unwrap();
        fs::write(folder.path().join("test_X.bin"), vec![7; size]).unwrap();
        fs::write(folder.path().join("test_y.bin"), [10]).unwrap();
        fs::write(folder.path().join("fold_indices.txt"), "0 1 \n1\n").unwrap();
        folder
    }

    #[test]
    fn planes_are_by_columns_and_labels_from_one() {
        let folder = folder([1, 2]);
        let set = load(folder.path()).unwrap();
        assert_eq!(set.train.labels, [0, 1]);
        assert_eq!(set.test.labels, [9]);
        let second = set.train.images.get(1).unwrap();
        assert_eq!(second.get_pixel(5, 2).0, [9, 0, 0]);
        assert_eq!(set.folds, [vec![0, 1], vec![1]]);
        assert!(set.unlabeled.is_none());
    }

    #[test]
    fn wrong_labels_and_sizes_are_named() {
        let message = |folder: &Path| format!("{:#}", load(folder).unwrap_err());
        let bad = folder([1, 11]);
        let error = message(bad.path());
        assert!(error.contains("train_y.bin: label 1 is 11"), "{error}");
        let short = folder([1, 2]);
        fs::write(short.path().join("test_X.bin"), [1, 2, 3]).unwrap();
        let error = message(short.path());
        assert!(error.contains("test_X.bin has 3 bytes"), "{error}");
        let few = folder([1, 2]);
        fs::write(few.path().join("fold_indices.txt"), "0 2").unwrap();
        let error = message(few.path());
        assert!(error.contains("`2` is not an index"), "{error}");
    }
}
