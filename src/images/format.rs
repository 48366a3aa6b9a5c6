//! What a file is by its first bytes: an image format that is read, one that is only recognized, or something else.

use std::path::Path;

use image::ImageFormat;

/// As many first bytes of a file as [`sniff`] looks at.
pub const SNIFF_BYTES: usize = 256;

/// The formats that are read, for messages.
pub const READ: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, ICO, PNM, TGA, QOI and DDS are read";

/// An image format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// One that is read.
    Read(ImageFormat),
    /// One that is recognized in order to be refused by name.
    Unread(&'static str),
}

/// Endings of files that are meant to be images, whatever is in them.
const ENDINGS: [&str; 38] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp",
    "dib", "tif", "tiff", "ico", "cur", "tga", "pnm", "pbm", "pgm", "ppm", "pam", "qoi", "dds",
    "heic", "heif", "hif", "avif", "jxl", "jp2", "j2k", "psd", "exr", "hdr", "ff", "svg", "pcx",
];

/// Formats whose files begin like this.
const SIGNATURES: [(&[u8], Sniffed); 40] = [
    (b"\x89PNG\r\n\x1a\n", Sniffed::Read(ImageFormat::Png)),
    (b"\xff\xd8\xff", Sniffed::Read(ImageFormat::Jpeg)),
    (b"GIF87a", Sniffed::Read(ImageFormat::Gif)),
    (b"GIF89a", Sniffed::Read(ImageFormat::Gif)),
    (b"II*\0\x10\0\0\0CR", Sniffed::Unread("a camera's raw file")),
    (b"II*\0", Sniffed::Read(ImageFormat::Tiff)),
    (b"MM\0*", Sniffed::Read(ImageFormat::Tiff)),
    (b"II+\0", Sniffed::Read(ImageFormat::Tiff)),
    (b"MM\0+", Sniffed::Read(ImageFormat::Tiff)),
    (b"qoif", Sniffed::Read(ImageFormat::Qoi)),
    (b"DDS ", Sniffed::Read(ImageFormat::Dds)),
    (b"\0\0\0\x0cJXL ", Sniffed::Unread("JPEG XL")),
    (b"\xff\x0a", Sniffed::Unread("JPEG XL")),
    (b"\0\0\0\x0cjP  ", Sniffed::Unread("JPEG 2000")),
    (b"\xff\x4f\xff\x51", Sniffed::Unread("JPEG 2000")),
    (b"II\xbc", Sniffed::Unread("JPEG XR")),
    (b"8BPS", Sniffed::Unread("Photoshop")),
    (b"v/1\x01", Sniffed::Unread("OpenEXR")),
    (b"#?RADIANCE", Sniffed::Unread("Radiance HDR")),
    (b"#?RGBE", Sniffed::Unread("Radiance HDR")),
    (b"farbfeld", Sniffed::Unread("farbfeld")),
    (b"gimp xcf", Sniffed::Unread("GIMP XCF")),
    (b"icns", Sniffed::Unread("ICNS")),
    (b"\x8aMNG\r\n", Sniffed::Unread("MNG")),
    (b"\x8bJNG\r\n", Sniffed::Unread("JNG")),
    (b"BPG\xfb", Sniffed::Unread("BPG")),
    (b"FLIF", Sniffed::Unread("FLIF")),
    (b"AT&TFORM", Sniffed::Unread("DjVu")),
    (b"\xd7\xcd\xc6\x9a", Sniffed::Unread("WMF")),
    (b"/* XPM */", Sniffed::Unread("XPM")),
    (b"%!PS", Sniffed::Unread("PostScript")),
    (b"Image type:", Sniffed::Unread("IM")),
    (b"PF\n", Sniffed::Unread("PFM")),
    (b"Pf\n", Sniffed::Unread("PFM")),
    (b"\x01\xda", Sniffed::Unread("SGI")),
    (b"\x59\xa6\x6a\x95", Sniffed::Unread("Sun raster")),
    (b"FUJIFILMCCD-RAW", Sniffed::Unread("a camera's raw file")),
    (b"IIRO", Sniffed::Unread("a camera's raw file")),
    (b"IIU\0", Sniffed::Unread("a camera's raw file")),
    (b"FOVb", Sniffed::Unread("a camera's raw file")),
];

/// Whether a file is meant to be an image by the ending of its name.
pub fn has_image_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.to_lowercase().as_str()))
}

/// The image format of a file that begins so; `None` when it is none that is known. [`SNIFF_BYTES`] are enough.
pub fn sniff(bytes: &[u8]) -> Option<Sniffed> {
    if bytes.get(4..8) == Some(b"ftyp") {
        return container(bytes).map(Sniffed::Unread);
    }
    let found = SIGNATURES
        .iter()
        .find(|(signature, _)| bytes.starts_with(signature));
    if let Some((_, format)) = found {
        return Some(*format);
    }
    let read = if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        ImageFormat::WebP
    } else if is_bmp(bytes) {
        ImageFormat::Bmp
    } else if is_icon(bytes) {
        ImageFormat::Ico
    } else if is_pnm(bytes) {
        ImageFormat::Pnm
    } else if is_svg(bytes) {
        return Some(Sniffed::Unread("SVG"));
    } else if matches!(bytes, [0x0a, 0..=5, 1, 1 | 2 | 4 | 8, ..]) {
        return Some(Sniffed::Unread("PCX"));
    } else {
        return None;
    };
    Some(Sniffed::Read(read))
}

/// The format of a file that has no signature, by its ending.
pub fn by_ending(path: &Path) -> Option<ImageFormat> {
    let ending = path.extension()?.to_str()?.to_lowercase();
    (ending == "tga").then_some(ImageFormat::Tga)
}

/// What a file that is no image is, as far as its first bytes tell.
pub fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    let text = trimmed(bytes).to_ascii_lowercase();
    let begins = |with: &str| text.starts_with(with.as_bytes());
    if bytes.get(4..8) == Some(b"ftyp") {
        Some("a video")
    } else if begins("<!doctype html") || begins("<html") || begins("<head") {
        Some("a web page")
    } else if begins("version https://git-lfs") {
        Some("a Git LFS pointer: fetch the file itself with `git lfs pull`")
    } else if bytes.starts_with(b"%PDF") {
        Some("a PDF")
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some("a ZIP archive")
    } else if begins("{") || begins("[") {
        Some("JSON")
    } else if bytes.iter().all(|&byte| byte == 0) {
        Some("zeros only")
    } else if std::str::from_utf8(&bytes[..bytes.len().min(16)]).is_ok() && !bytes.contains(&0) {
        Some("text")
    } else {
        None
    }
}

/// Without a byte order mark and white space at the start.
fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii_start()
}

/// `BM`, and the size of one of the headers there are: text may begin with the two letters too.
fn is_bmp(bytes: &[u8]) -> bool {
    const HEADERS: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];
    let size = bytes.get(14..18).and_then(|size| size.try_into().ok());
    bytes.starts_with(b"BM") && size.is_none_or(|size| HEADERS.contains(&u32::from_le_bytes(size)))
}

/// An icon or a cursor: at least one image, whose entry has its reserved byte.
fn is_icon(bytes: &[u8]) -> bool {
    let [0, 0, 1 | 2, 0, low, high, _, _, _, 0, ..] = *bytes else {
        return false;
    };
    (1..=256).contains(&u16::from_le_bytes([low, high]))
}

/// `P1` to `P7`, and numbers or a comment after it.
fn is_pnm(bytes: &[u8]) -> bool {
    let [b'P', kind @ b'1'..=b'7', space, rest @ ..] = bytes else {
        return false;
    };
    let next = rest.trim_ascii_start().first();
    space.is_ascii_whitespace()
        && next.is_none_or(|&byte| byte == b'#' || (byte.is_ascii_digit() ^ (*kind == b'7')))
}

fn is_svg(bytes: &[u8]) -> bool {
    let text = trimmed(&bytes[..bytes.len().min(SNIFF_BYTES)]);
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    text.starts_with(b"<svg")
        || text.starts_with(b"<!DOCTYPE svg")
        || (text.starts_with(b"<?xml") && (has(b"<svg") || has(b"<!DOCTYPE svg")))
}

/// The image format in an ISO container, by the brands in its first box: the main one and, from byte 16 on, those it is
/// compatible with. `None`: it holds a video.
fn container(bytes: &[u8]) -> Option<&'static str> {
    let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let first_box = &bytes[8..size.clamp(8, bytes.len())];
    let has = |brands: &[&[u8; 4]]| {
        let (brands_there, _) = first_box.as_chunks::<4>();
        brands_there.iter().any(|brand| brands.contains(&brand))
    };
    if has(&[b"avif", b"avis"]) {
        Some("AVIF")
    } else if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ]) {
        Some("HEIC")
    } else if has(&[b"crx "]) {
        Some("a camera's raw file")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let icon = [0, 0, 1, 0, 1, 0, 16, 16, 0, 0, 1, 0];
        for (bytes, format) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], ImageFormat::Png),
            (b"\xff\xd8\xff\xe0", ImageFormat::Jpeg),
            (b"RIFF\0\0\0\0WEBPVP8 ", ImageFormat::WebP),
            (b"MM\0*\0\0\0\x08", ImageFormat::Tiff),
            (&icon, ImageFormat::Ico),
            (b"P6\n# made by hand\n2 2\n255\n", ImageFormat::Pnm),
            (b"P7\nWIDTH 2\n", ImageFormat::Pnm),
        ] {
            assert_eq!(sniff(bytes), Some(Sniffed::Read(format)), "{bytes:?}");
        }
        for (bytes, name) in [
            (&b"<?xml version='1.0'?>\n<svg xmlns"[..], "SVG"),
            (b"\xef\xbb\xbf <svg>", "SVG"),
            (b"8BPS\0\x01", "Photoshop"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        ] {
            assert_eq!(sniff(bytes), Some(Sniffed::Unread(name)), "{bytes:?}");
        }
    }

    #[test]
    fn other_files_are_no_images_though_they_begin_with_the_same_letters() {
        for (bytes, kind) in [
            (&b"BMW makes cars, and these are words"[..], "text"),
            (b"P1 is the first point", "text"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"{\"a\": 1}", "JSON"),
            (b"PK\x03\x04\0\0", "a ZIP archive"),
            (b"\0\0\0\x18ftypisom\0\0\0\0isom", "a video"),
        ] {
            assert_eq!(sniff(bytes), None, "{bytes:?}");
            assert_eq!(other_kind(bytes), Some(kind));
        }
        assert_eq!(other_kind(b"\x7fELF\x02\x01\0"), None);
    }

    #[test]
    fn endings_count_in_any_case() {
        for name in ["a.JPG", "a.b.jfif", "a.Heic", "a.tga"] {
            assert!(has_image_ending(Path::new(name)), "{name}");
        }
        for name in ["a.txt", "png", "a.png ", "a"] {
            assert!(!has_image_ending(Path::new(name)), "{name}");
        }
    }
}
