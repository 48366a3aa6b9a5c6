//! Where a data set's image is: a file, or a member of a tar shard.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::{shard_file, shard_members};
use crate::images::{self, OpenError};

/// An image that can be opened when it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageSource {
    File(PathBuf),
    /// `size` bytes from `offset` of a tar file, unpacked if it is compressed; `name` is the member's.
    Member {
        shard: Arc<PathBuf>,
        name: String,
        offset: u64,
        size: u64,
    },
}

impl ImageSource {
    /// Opens the image as RGB.
    pub fn open(&self) -> Result<RgbImage, OpenError> {
        match self {
            Self::File(path) => images::open(path),
            Self::Member {
                shard,
                name,
                offset,
                size,
            } => {
                let place = shard_members::place(shard, Path::new(name));
                let bytes = shard_file::read_part(shard, *offset, *size)
                    .map_err(|error| OpenError::Io(place.clone(), error))?;
                images::decode(&bytes, &place)
            }
        }
    }

    /// The image's file, or the shard that it is in.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Member { shard, .. } => shard,
        }
    }

    /// Bytes of the encoded image; `None` when its file cannot be looked at.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::File(path) => fs::metadata(path).ok().map(|file| file.len()),
            Self::Member { size, .. } => Some(*size),
        }
    }

    /// Adds to a hash what tells this image from another: its place, its file's size and time of change, and whether
    /// it is taken though it is truncated.
    pub fn fingerprint(&self, hash: &mut Sha256) {
        if images::allows_truncated() {
            hash.update("truncated");
        }
        let path = match self {
            Self::File(path) => path,
            Self::Member {
                shard,
                offset,
                size,
                ..
            } => {
                hash.update(offset.to_le_bytes());
                hash.update(size.to_le_bytes());
                shard.as_path()
            }
        };
        hash.update(path.as_os_str().as_encoded_bytes());
        if let Ok(metadata) = fs::metadata(path) {
            hash.update(metadata.len().to_le_bytes());
            let changed = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
        }
    }
}
