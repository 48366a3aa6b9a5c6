//! Many images of one data set, each read when it is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::datasets::scenes;
use crate::images;

/// Where the images are. A clone is cheap.
#[derive(Clone, Debug)]
pub enum Images {
    /// Square images in memory, three bytes a pixel, one after the other.
    Memory {
        side: u32,
        pixels: Arc<Vec<u8>>,
    },
    /// Square images of three planes in a file, one after the other, each plane by columns (STL-10).
    Columns {
        side: u32,
        file: Arc<Mutex<File>>,
        path: Arc<PathBuf>,
        count: usize,
    },
    Files(Arc<Vec<PathBuf>>),
    /// Generated scenes.
    Scenes {
        seed: u64,
        first: u64,
        count: usize,
    },
    /// Some of other images.
    Chosen(Box<Images>, Arc<Vec<usize>>),
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory { side, pixels } => pixels.len() / bytes(*side),
            Self::Columns { count, .. } | Self::Scenes { count, .. } => *count,
            Self::Files(files) => files.len(),
            Self::Chosen(_, which) => which.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image `index`.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn get(&self, index: usize) -> Result<RgbImage> {
        match self {
            Self::Memory { side, pixels } => {
                let size = bytes(*side);
                let pixels = pixels[index * size..][..size].to_vec();
                Ok(RgbImage::from_raw(*side, *side, pixels).expect("three bytes a pixel"))
            }
            Self::Columns {
                side, file, path, ..
            } => {
                let mut planes = vec![0; bytes(*side)];
                let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                file.seek(SeekFrom::Start(index as u64 * planes.len() as u64))
                    .and_then(|_| file.read_exact(&mut planes))
                    .with_context(|| format!("cannot read image {index} of {}", path.display()))?;
                Ok(from_columns(*side, &planes))
            }
            Self::Files(files) => Ok(images::open(&files[index])?),
            Self::Scenes { seed, first, .. } => {
                Ok(scenes::draw(&scenes::scene(*seed, first + index as u64)))
            }
            Self::Chosen(all, which) => all.get(which[index]),
        }
    }

    /// What is wrong with those that cannot be read, by index: each file is opened for it. What is in memory or in one file
    /// with others is taken to be readable.
    pub fn unreadable(&self) -> BTreeMap<usize, String> {
        if !self.are_files() {
            return BTreeMap::new();
        }
        (0..self.len())
            .into_par_iter()
            .filter_map(|index| Some((index, format!("{:#}", self.get(index).err()?))))
            .collect()
    }

    fn are_files(&self) -> bool {
        match self {
            Self::Files(_) => true,
            Self::Chosen(all, _) => all.are_files(),
            Self::Memory { .. } | Self::Columns { .. } | Self::Scenes { .. } => false,
        }
    }

    /// Some of them, by index.
    pub fn choose(&self, which: Vec<usize>) -> Self {
        Self::Chosen(Box::new(self.clone()), Arc::new(which))
    }

    /// Adds to a hash what tells these images from others: their pixels where they are in memory, else their files' names and
    /// sizes in bytes.
    pub(super) fn fingerprint(&self, hash: &mut Sha256) {
        let size = |path: &Path| path.metadata().map_or(u64::MAX, |file| file.len());
        let number = |hash: &mut Sha256, number: u64| hash.update(number.to_le_bytes());
        number(hash, self.len() as u64);
        match self {
            Self::Memory { pixels, .. } => hash.update(&pixels[..]),
            Self::Columns { path, .. } => number(hash, size(path)),
            Self::Files(files) => {
                for file in &files[..] {
                    let name = file.file_name().unwrap_or_default();
                    hash.update(name.as_encoded_bytes());
                    number(hash, size(file));
                }
            }
            Self::Scenes { seed, first, .. } => {
                number(hash, *seed);
                number(hash, *first);
            }
            Self::Chosen(all, which) => {
                all.fingerprint(hash);
                which.iter().for_each(|&index| number(hash, index as u64));
            }
        }
    }

    /// Opens a file of images in three planes, each by columns.
    ///
    /// # Errors
    /// When the file is missing, or not a whole number of images long.
    pub(super) fn columns(path: &Path, side: u32) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let length = file
            .metadata()
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        let size = bytes(side) as u64;
        ensure!(
            length > 0 && length.is_multiple_of(size),
            "{} has {length} bytes, which is not a whole number of images of {size} bytes: it is cut short or another file; fetch it again",
            path.display()
        );
        Ok(Self::Columns {
            side,
            file: Arc::new(Mutex::new(file)),
            path: Arc::new(path.to_path_buf()),
            count: (length / size) as usize,
        })
    }
}

/// Bytes of a square image.
fn bytes(side: u32) -> usize {
    3 * (side * side) as usize
}

fn from_columns(side: u32, planes: &[u8]) -> RgbImage {
    let plane = (side * side) as usize;
    RgbImage::from_fn(side, side, |x, y| {
        let at = (x * side + y) as usize;
        image::Rgb([planes[at], planes[plane + at], planes[2 * plane + at]])
    })
}

/// Three planes by rows (CIFAR-10) as pixels, appended to `out`.
pub(super) fn interleave(planes: &[u8], out: &mut Vec<u8>) {
    let plane = planes.len() / 3;
    for at in 0..plane {
        out.extend([planes[at], planes[plane + at], planes[2 * plane + at]]);
    }
}
