//! Opening picture files, with sentences for what can be wrong with them.
//!
//! The result equals Pillow's `Image.open(path).convert("RGB")`, with one difference on purpose: a picture that carries
//! an EXIF orientation is turned the way it is meant to be seen, as every viewer does, where Pillow leaves it lying.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

/// Pixels in the largest picture that is opened: twice Pillow's warning threshold, where it too refuses.
pub const MAX_PIXELS: u64 = 178_956_970;

/// What is wrong with a picture file. Each message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("{0}: no such file")]
    Missing(PathBuf),
    #[error("{0}: is a folder, not a picture")]
    Folder(PathBuf),
    #[error("{0}: the file is empty")]
    Empty(PathBuf),
    #[error("{0}: cannot be read: {1}")]
    Io(PathBuf, std::io::Error),
    #[error("{0}: is not a picture (JPEG, PNG, WebP, GIF, BMP and TIFF are read)")]
    NotAPicture(PathBuf),
    #[error("{0}: {1} is not read: convert it to JPEG or PNG first")]
    Unsupported(PathBuf, &'static str),
    #[error("{0}: {1} x {2} pixels is too large (at most {MAX_PIXELS} pixels): shrink it first")]
    TooLarge(PathBuf, u32, u32),
    #[error("{0}: is damaged: {1}")]
    Damaged(PathBuf, String),
}

/// Opens a picture file as RGB. The content decides what it is, not the name.
pub fn open(path: &Path) -> Result<RgbImage, PictureError> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => PictureError::Missing(path.to_path_buf()),
        _ => PictureError::Io(path.to_path_buf(), error),
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(PictureError::Folder(path.to_path_buf()));
    }
    let mut bytes = Vec::new();
    BufReader::new(File::open(path).map_err(io)?)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    decode(&bytes, path)
}

/// Decodes a picture that is in memory; `name` is what errors call it.
pub fn decode(bytes: &[u8], name: &Path) -> Result<RgbImage, PictureError> {
    let name = || name.to_path_buf();
    if bytes.is_empty() {
        return Err(PictureError::Empty(name()));
    }
    if let Some(format) = unsupported(bytes) {
        return Err(PictureError::Unsupported(name(), format));
    }
    let damaged = |error: ImageError| PictureError::Damaged(name(), one_line(&error.to_string()));
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| PictureError::Io(name(), error))?;
    if reader.format().is_none() {
        return Err(PictureError::NotAPicture(name()));
    }
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Unsupported(_) => PictureError::NotAPicture(name()),
        other => damaged(other),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge(name(), width, height));
    }
    if width == 0 || height == 0 {
        return Err(PictureError::Damaged(
            name(),
            format!("it is {width} x {height} pixels"),
        ));
    }
    decoder.set_limits(limits()).map_err(damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(to_rgb(image))
}

/// Room for the largest picture at 16 bits and four channels.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    limits
}

/// Pillow's conversion: alpha is dropped, 16-bit channels keep their upper byte, except that 16-bit grey is clipped to
/// 255 (Pillow 12 converts its mode `I;16` so).
fn to_rgb(image: DynamicImage) -> RgbImage {
    let upper = |value: u16| (value >> 8) as u8;
    match image {
        DynamicImage::ImageLuma16(image) => {
            let (width, height) = image.dimensions();
            let pixels = image
                .into_raw()
                .into_iter()
                .flat_map(|value| [value.min(255) as u8; 3]);
            RgbImage::from_raw(width, height, pixels.collect()).expect("three bytes a pixel")
        }
        DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let image = image.into_rgb16();
            let (width, height) = image.dimensions();
            let pixels = image.into_raw().into_iter().map(upper);
            RgbImage::from_raw(width, height, pixels.collect()).expect("three bytes a pixel")
        }
        other => other.into_rgb8(),
    }
}

/// Formats that are recognised in order to be refused by name.
fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(8..12)?;
    (bytes.get(4..8)? == b"ftyp").then_some(match brand {
        b"avif" | b"avis" => "AVIF",
        b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => "HEIC",
        _ => "a video or HEIF container",
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
