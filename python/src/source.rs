//! Images as Python gives them.

use std::path::{Path, PathBuf};

use clipcap::guard::guarded;
use clipcap::images::{self, MAX_PIXELS, OpenError};
use clipcap::models::clip::Preprocessing;
use image::RgbImage;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use rayon::prelude::*;

use crate::error::in_python;

/// An image's pixels or where they are.
#[derive(FromPyObject)]
pub enum Source {
    /// Rows of pixels from the top, a byte a channel: the bytes, height, width and number of channels (1, 3 or 4).
    Pixels(PyBackedBytes, u32, u32, usize),
    /// An encoded file.
    Encoded(PyBackedBytes),
    /// The path of a file.
    File(PathBuf),
}

/// An image and what errors call it; a file is called by its path.
pub type Named = (String, Source);

/// Opens images and cuts out what CLIP looks at, on all cores, in order; of what fails the message.
pub fn open_crops(
    images: &[Named],
    preprocessing: &Preprocessing,
) -> Vec<Result<RgbImage, String>> {
    let open = |(name, source): &Named| {
        let crop = || Ok::<_, OpenError>(preprocessing.crop(&source.open(Path::new(name))?));
        match guarded(crop) {
            Ok(opened) => opened.map_err(|error| in_python(&error.to_string())),
            Err(panicked) => Err(format!("{name}: {panicked}")),
        }
    };
    images.par_iter().map(open).collect()
}

impl Source {
    fn open(&self, name: &Path) -> Result<RgbImage, OpenError> {
        match self {
            Self::File(path) => images::open(path),
            Self::Encoded(bytes) => images::decode(bytes, name),
            Self::Pixels(bytes, height, width, channels) => {
                pixels(bytes, *height, *width, *channels, name)
            }
        }
    }
}

/// `[height, width, channels]` as RGB: gray is repeated, alpha is left out.
fn pixels(
    bytes: &[u8],
    height: u32,
    width: u32,
    channels: usize,
    name: &Path,
) -> Result<RgbImage, OpenError> {
    if u64::from(height) * u64::from(width) > MAX_PIXELS {
        return Err(OpenError::TooLarge(name.to_path_buf(), width, height));
    }
    let rgb = match channels {
        1 => bytes.iter().flat_map(|&gray| [gray; 3]).collect(),
        4 => (bytes.as_chunks::<4>().0.iter())
            .flat_map(|&[red, green, blue, _]| [red, green, blue])
            .collect(),
        _ => bytes.to_vec(),
    };
    let image = RgbImage::from_raw(width, height, rgb).filter(|image| !image.is_empty());
    image.ok_or_else(|| OpenError::Empty(name.to_path_buf()))
}

/// Takes truncated images from now on, or refuses them.
#[pyfunction]
pub fn allow_truncated(allow: bool) {
    images::allow_truncated(allow);
}

/// Whether truncated images are taken.
#[pyfunction]
pub fn allows_truncated() -> bool {
    images::allows_truncated()
}
