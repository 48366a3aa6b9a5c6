//! CIFAR-10 (Krizhevsky 2009, <https://www.cs.toronto.edu/~kriz/cifar.html>): 50,000 training images in five batches and
//! 10,000 to test on, 32 pixels square, in planes by rows; the binary version and the Python one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::images::interleave;
use super::{ClassSet, Images, Labeled};
use crate::inputs::FileKinds;
use torch_checkpoint::{Id, Node, Pickle, Section};

/// The archives' folders: binary, Python.
pub const FOLDERS: [&str; 2] = ["cifar-10-batches-bin", "cifar-10-batches-py"];
const SIDE: u32 = 32;
/// Bytes of an image.
const SIZE: usize = 3 * 32 * 32;
const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// How the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Python,
}

impl Form {
    fn of(folder: &Path) -> Option<Self> {
        if folder.join("data_batch_1.bin").is_file() {
            Some(Self::Binary)
        } else if folder.join("data_batch_1").is_file() {
            Some(Self::Python)
        } else {
            None
        }
    }
}

/// Whether a folder holds it.
pub fn is_there(folder: &Path) -> bool {
    Form::of(folder).is_some()
}

pub fn load(folder: &Path) -> Result<ClassSet> {
    let form = Form::of(folder)
        .with_context(|| format!("{} has no data_batch_1: fetch it again", folder.display()))?;
    let names: Vec<String> = (1..=5).map(|n| format!("data_batch_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(ClassSet {
        name: "CIFAR-10".to_string(),
        classes: CLASSES.map(String::from).to_vec(),
        train: part(folder, form, &names)?,
        test: part(folder, form, &["test_batch"])?,
        unlabeled: None,
        folds: Vec::new(),
        other_files: FileKinds::default(),
    })
}

fn part(folder: &Path, form: Form, names: &[&str]) -> Result<Labeled> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for name in names {
        match form {
            Form::Binary => read_binary(
                &folder.join(format!("{name}.bin")),
                &mut pixels,
                &mut labels,
            )?,
            Form::Python => read_python(&folder.join(name), &mut pixels, &mut labels)?,
        }
    }
    let images = Images::Memory {
        side: SIDE,
        pixels: Arc::new(pixels),
    };
    Labeled::new(images, labels)
}

/// Rows of a label and an image.
fn read_binary(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<usize>) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        !bytes.is_empty() && bytes.len().is_multiple_of(SIZE + 1),
        "{} has {} bytes, which is not a whole number of rows of {} bytes: it is cut short or another file; fetch it again",
        path.display(),
        bytes.len(),
        SIZE + 1
    );
    for (row, bytes) in bytes.chunks_exact(SIZE + 1).enumerate() {
        labels.push(checked(path, row, bytes[0].into())?);
        interleave(&bytes[1..], pixels);
    }
    Ok(())
}

fn checked(path: &Path, row: usize, label: usize) -> Result<usize> {
    ensure!(
        label < CLASSES.len(),
        "{}: label {row} is {label}, and there are classes 0 to {}",
        path.display(),
        CLASSES.len() - 1
    );
    Ok(label)
}

/// A pickled dictionary with a list `labels` and a NumPy array `data` of bytes, `[rows, SIZE]`. Nothing in it is run.
fn read_python(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<usize>) -> Result<()> {
    let read = || -> Result<(Vec<u8>, Vec<usize>)> {
        let section = Section::open(path)?;
        let pickle = Pickle::read(&section, 0)?;
        let found = |key| {
            pickle
                .get(pickle.root, key)
                .with_context(|| format!("it has no `{key}`, so it is not a batch of CIFAR-10"))
        };
        let labels = pickle
            .items(found("labels")?)
            .context("its `labels` are not a list")?
            .iter()
            .map(|&id| {
                pickle
                    .size(id)
                    .context("one of its `labels` is not a number")
            })
            .collect::<Result<_>>()?;
        let data = array_bytes(&pickle, &section, found("data")?)
            .context("its `data` is not an array of bytes")?;
        Ok((data, labels))
    };
    let (data, rows) = read().with_context(|| path.display().to_string())?;
    ensure!(
        !rows.is_empty() && data.len() == rows.len() * SIZE,
        "{}: {} bytes of images with {} labels, not {SIZE} a label: it is cut short or another file; fetch it again",
        path.display(),
        data.len(),
        rows.len()
    );
    for (row, (&label, planes)) in rows.iter().zip(data.chunks_exact(SIZE)).enumerate() {
        labels.push(checked(path, row, label)?);
        interleave(planes, pixels);
    }
    Ok(())
}

/// The bytes of a NumPy array: the last element of its state, `(version, shape, dtype, by columns, bytes)`.
fn array_bytes(pickle: &Pickle, section: &Section, id: Id) -> Option<Vec<u8>> {
    let Node::Call { state, .. } = pickle.node(id) else {
        return None;
    };
    let state = pickle.items((*state)?)?;
    match *pickle.node(*state.last()?) {
        Node::Bytes(offset, len) => section.part(offset, len).ok()?.read().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five training batches and one to test on, of two rows each.
    fn folder(label: u8) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut row = vec![label];
        row.extend((0..SIZE).map(|i| (i / 1024 * 100 + i % 32) as u8));
        let rows = [row.clone(), row].concat();
        for name in ["data_batch_1", "data_batch_2", "data_batch_3"] {
            fs::write(folder.path().join(format!("{name}.bin")), &rows).unwrap();
        }
        for name in ["data_batch_4", "data_batch_5", "test_batch"] {
            fs::write(folder.path().join(format!("{name}.bin")), &rows).unwrap();
        }
        folder
    }

    #[test]
    fn planes_by_rows_become_pixels() {
        let set = load(folder(3).path()).unwrap();
        assert_eq!((set.train.len(), set.test.len()), (10, 2));
        assert!(set.train.labels.iter().all(|&label| label == 3));
        let image = set.test.images.get(1).unwrap();
        assert_eq!(image.get_pixel(7, 4).0, [7, 107, 207]);
    }

    #[test]
    fn wrong_labels_and_sizes_are_named() {
        let error = format!("{:#}", load(folder(10).path()).unwrap_err());
        assert!(error.contains("data_batch_1.bin: label 0 is 10"), "{error}");
        let short = folder(1);
        fs::write(short.path().join("test_batch.bin"), vec![0; 3072]).unwrap();
        let error = format!("{:#}", load(short.path()).unwrap_err());
        assert!(error.contains("test_batch.bin has 3072 bytes"), "{error}");
    }
}
