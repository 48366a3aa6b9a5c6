//! Opening image files, with sentences for what can be wrong with them.
//!
//! The result equals Pillow's `Image.open(path).convert("RGB")`, with one difference on purpose: an image that carries
//! an EXIF orientation is turned the way it is meant to be seen, as every viewer does, where Pillow leaves it lying.
//!
//! The sentences of [`OpenError`] stand here beside the checks that give them.

mod bmp;
pub mod format;
mod icon;
mod jpeg;
pub mod thumbnail;
mod tiff;
mod webp;

use std::borrow::Cow;
use std::fs::{File, FileType};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult,
    Limits, RgbImage,
};

use self::format::{READ, SNIFF_BYTES, Sniffed};
use crate::guard::guarded;
use crate::path_text::one_line;

/// Pixels in the largest image that is opened: twice Pillow's warning threshold, where it too refuses.
pub const MAX_PIXELS: u64 = 178_956_970;
/// Bytes of the largest file that is opened: room for the largest image, uncompressed.
pub const MAX_BYTES: u64 = 2 << 30;

/// Whether what is there of a truncated image is taken.
static ALLOW_TRUNCATED: AtomicBool = AtomicBool::new(false);

/// What is wrong with an image file. Each message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: no such file", one_line(.0))]
    Missing(PathBuf),
    #[error("{}: is a link that leads to no file", one_line(.0))]
    BrokenLink(PathBuf),
    #[error("{}: is a folder, not an image", one_line(.0))]
    Folder(PathBuf),
    #[error("{}: is {kind}, which is not opened: only files are", one_line(.0), kind = .1)]
    Special(PathBuf, &'static str),
    #[error("{}: the file is empty", one_line(.0))]
    Empty(PathBuf),
    #[error("{}: cannot be read: {error}", one_line(.0), error = .1)]
    Io(PathBuf, std::io::Error),
    #[error("{}: is not an image{} ({READ})", one_line(.0), but(.1))]
    NotAnImage(PathBuf, Option<&'static str>),
    #[error("{}: {format} is not read: convert it to JPEG or PNG first", one_line(.0), format = .1)]
    Unsupported(PathBuf, &'static str),
    #[error("{}: {width} x {height} pixels is too large (at most {MAX_PIXELS} pixels): shrink it first", one_line(.0), width = .1, height = .2)]
    TooLarge(PathBuf, u32, u32),
    #[error("{}: {bytes} bytes are too many for an image (at most {MAX_BYTES} bytes)", one_line(.0), bytes = .1)]
    LongFile(PathBuf, u64),
    #[error("{}: is damaged: it is cut short; --allow-truncated takes what is there", one_line(.0))]
    Truncated(PathBuf),
    #[error("{}: is damaged: {what}", one_line(.0), what = .1)]
    Damaged(PathBuf, String),
}

/// What a file is instead of an image.
fn but(kind: &Option<&'static str>) -> String {
    kind.map_or_else(String::new, |kind| format!(" but {kind}"))
}

impl OpenError {
    /// What is wrong in a word, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::BrokenLink(_) => "broken_link",
            Self::Folder(_) => "folder",
            Self::Special(..) => "special",
            Self::Empty(_) => "empty",
            Self::Io(..) => "unreadable",
            Self::NotAnImage(..) => "not_an_image",
            Self::Unsupported(..) => "unsupported",
            Self::TooLarge(..) | Self::LongFile(..) => "too_large",
            Self::Truncated(_) => "truncated",
            Self::Damaged(..) => "damaged",
        }
    }

    /// The format of an image that is refused for it.
    pub fn unread_format(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported(_, format) => Some(format),
            _ => None,
        }
    }
}

/// Whether a file is meant to be an image by the ending of its name; see [`crate::inputs::is_image`].
pub fn is_image_name(path: &Path) -> bool {
    format::has_image_ending(path)
}

/// Takes truncated images from now on, or refuses them, in the whole process, as Pillow's `LOAD_TRUNCATED_IMAGES` does. In
/// the beginning they are refused. What is missing is black, or gray in a JPEG.
pub fn allow_truncated(allow: bool) {
    ALLOW_TRUNCATED.store(allow, Ordering::Relaxed);
}

/// Whether truncated images are taken; see [`allow_truncated`].
pub fn allows_truncated() -> bool {
    ALLOW_TRUNCATED.load(Ordering::Relaxed)
}

/// Opens an image file as RGB. The content decides what it is, not the name.
///
/// # Errors
/// When it is no regular file, or not an image that can be decoded.
pub fn open(path: impl AsRef<Path>) -> Result<RgbImage, OpenError> {
    let path = path.as_ref();
    decode(&read(path)?, path)
}

/// The bytes of a file that begins like an image.
fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    let name = || path.to_path_buf();
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => OpenError::Missing(name()),
        _ => OpenError::Io(name(), error),
    };
    let metadata = std::fs::metadata(path).map_err(|error| match is_broken_link(path, &error) {
        true => OpenError::BrokenLink(name()),
        false => io(error),
    })?;
    if metadata.is_dir() {
        return Err(OpenError::Folder(name()));
    }
    if !metadata.is_file() && !is_from_shell(path, metadata.file_type()) {
        return Err(OpenError::Special(name(), special(metadata.file_type())));
    }
    if metadata.len() > MAX_BYTES {
        return Err(OpenError::LongFile(name(), metadata.len()));
    }
    let mut file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    // Nothing more of a file that is something else.
    if !bytes.is_empty() {
        known_format(&bytes, path)?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
    }
    Ok(bytes)
}

/// Whether a file that cannot be found is a link, perhaps to itself.
fn is_broken_link(path: &Path, error: &std::io::Error) -> bool {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    is_link && error.kind() != std::io::ErrorKind::PermissionDenied
}

/// Whether this is a pipe that the shell made for this program, `<(command)`: unlike another pipe it has a writer.
fn is_from_shell(path: &Path, file_type: FileType) -> bool {
    let places = ["/dev/fd", "/proc/self/fd", "/dev/stdin"];
    special(file_type) == PIPE && places.iter().any(|place| path.starts_with(place))
}

const PIPE: &str = "a named pipe";

/// What a file is that is neither regular nor a folder.
pub(crate) fn special(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return PIPE;
        } else if file_type.is_socket() {
            return "a socket";
        } else if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    let _ = file_type;
    "a special file"
}

/// Decodes an image that is in memory; `name` is what errors call it.
///
/// # Errors
/// When it is not an image that can be decoded: a decoder's panic is such an error too.
pub fn decode(bytes: &[u8], name: &Path) -> Result<RgbImage, OpenError> {
    guarded(|| decode_unguarded(bytes, name)).unwrap_or_else(|panicked| {
        Err(OpenError::Damaged(name.to_path_buf(), panicked.to_string()))
    })
}

fn known_format(bytes: &[u8], name: &Path) -> Result<ImageFormat, OpenError> {
    match format::sniff(bytes) {
        Some(Sniffed::Read(format)) => Ok(format),
        Some(Sniffed::Unread(format)) => Err(OpenError::Unsupported(name.to_path_buf(), format)),
        None => format::by_ending(name).ok_or_else(|| {
            let kind = format::other_kind(bytes);
            OpenError::NotAnImage(name.to_path_buf(), kind)
        }),
    }
}

fn decode_unguarded(bytes: &[u8], path: &Path) -> Result<RgbImage, OpenError> {
    let name = || path.to_path_buf();
    if bytes.is_empty() {
        return Err(OpenError::Empty(name()));
    }
    let format = known_format(bytes, path)?;
    if !allows_truncated() && !is_whole(bytes, format) {
        return Err(OpenError::Truncated(name()));
    }
    let (bytes, format) = match format {
        ImageFormat::Bmp => (bmp::windows_bitmap(bytes), format),
        ImageFormat::Ico => icon::largest(bytes),
        _ => (Cow::Borrowed(bytes), format),
    };
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(_) => OpenError::Unsupported(name(), form(format)),
        error if is_cut_short(&error) && !allows_truncated() => OpenError::Truncated(name()),
        error => OpenError::Damaged(name(), one_line_text(&error.to_string())),
    };
    let found = match with_image(&bytes, format, path) {
        Err(Failed::Image(ImageError::Unsupported(_))) if format == ImageFormat::Tiff => {
            let other = tiff::decode(&bytes, MAX_PIXELS * 8);
            let other = other.map_err(|error| Failed::Image(tiff_error(error)));
            other.and_then(|found| {
                let (image, orientation) =
                    found.ok_or_else(|| Failed::Image(unsupported_tiff()))?;
                Ok((DynamicImage::ImageRgb8(image), orientation))
            })
        }
        found => found,
    };
    let (mut image, orientation) = found.map_err(|error| match error {
        Failed::Image(error) => failed(error),
        Failed::Named(error) => error,
    })?;
    image.apply_orientation(orientation);
    Ok(to_rgb(image))
}

/// Whether a file ends where it says, for the formats whose decoder fills in what is missing.
fn is_whole(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg::is_whole(bytes),
        ImageFormat::WebP => {
            let size = bytes.get(4..8).and_then(|size| size.try_into().ok());
            size.is_some_and(|size| bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes(size)))
        }
        _ => true,
    }
}

/// What was wrong, as the decoder or as this module says it.
enum Failed {
    Image(ImageError),
    Named(OpenError),
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// Decodes with the `image` crate.
fn with_image(
    bytes: &[u8],
    format: ImageFormat,
    path: &Path,
) -> Result<(DynamicImage, Orientation), Failed> {
    let name = || path.to_path_buf();
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let error = OpenError::TooLarge(name(), width, height);
        return Err(Failed::Named(error));
    }
    if width == 0 || height == 0 {
        let what = format!("it is {width} x {height} pixels");
        return Err(Failed::Named(OpenError::Damaged(name(), what)));
    }
    decoder.set_limits(limits())?;
    let orientation = match format == ImageFormat::WebP && !webp::chunks_fit(bytes) {
        true => Orientation::NoTransforms,
        false => decoder.orientation().unwrap_or(Orientation::NoTransforms),
    };
    let image = match allows_truncated() {
        true => DynamicImage::from_decoder(Lenient(decoder))?,
        false => DynamicImage::from_decoder(decoder)?,
    };
    Ok((image, orientation))
}

/// A decoder that gives what it could read of a truncated image, if that is anything.
struct Lenient<D>(D);

impl<D: ImageDecoder> ImageDecoder for Lenient<D> {
    fn dimensions(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn color_type(&self) -> ColorType {
        self.0.color_type()
    }

    fn read_image(self, pixels: &mut [u8]) -> ImageResult<()> {
        match self.0.read_image(pixels) {
            Err(error) if is_cut_short(&error) && pixels.iter().any(|&value| value != 0) => Ok(()),
            result => result,
        }
    }

    fn read_image_boxed(self: Box<Self>, pixels: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(pixels)
    }
}

/// Whether a decoder came to the end of the bytes before it came to the end of the image.
fn is_cut_short(error: &ImageError) -> bool {
    match error {
        ImageError::IoError(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        error => {
            let text = error.to_string().to_lowercase();
            [
                "unexpected end",
                "unexpected eof",
                "failed to fill whole buffer",
                "not enough bytes",
                "image truncated",
            ]
            .iter()
            .any(|what| text.contains(what))
        }
    }
}

fn unsupported_tiff() -> ImageError {
    use image::error::{UnsupportedError, UnsupportedErrorKind};
    let kind = UnsupportedErrorKind::GenericFeature(form(ImageFormat::Tiff).to_string());
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(
        ImageFormat::Tiff.into(),
        kind,
    ))
}

fn tiff_error(error: ::tiff::TiffError) -> ImageError {
    match error {
        ::tiff::TiffError::IoError(error) => ImageError::IoError(error),
        ::tiff::TiffError::UnsupportedError(_) => unsupported_tiff(),
        error => ImageError::Decoding(image::error::DecodingError::new(
            ImageFormat::Tiff.into(),
            error,
        )),
    }
}

/// Room for the largest image at 16 bits and four channels.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    limits
}

/// Pillow's conversion: alpha is dropped, 16-bit channels keep their upper byte, except that 16-bit gray is clipped to
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

/// What an image of a format that is read, but not in all its forms, is called when it is refused.
fn form(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Tiff => "this form of TIFF (a rare compression or kind of color)",
        ImageFormat::Jpeg => "this form of JPEG (lossless, arithmetic or 12 bits)",
        ImageFormat::Bmp => "this form of BMP",
        ImageFormat::Png => "this form of PNG",
        ImageFormat::Gif => "this form of GIF",
        ImageFormat::WebP => "this form of WebP",
        ImageFormat::Ico => "this form of ICO",
        ImageFormat::Pnm => "this form of PNM",
        ImageFormat::Tga => "this form of TGA",
        ImageFormat::Dds => "this form of DDS",
        ImageFormat::Qoi => "this form of QOI",
        _ => "this form of the format",
    }
}

fn one_line_text(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
