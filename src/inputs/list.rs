//! What comes on standard input: names of images, one a line, or an image.

use std::io::{self, BufRead, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::ImageFormat;

use super::{Content, Found, Input, InputError, Names, STDIN, nothing, one};
use crate::images::format::{SNIFF_BYTES, Sniffed, sniff};

/// Bytes of the largest image that is taken from standard input.
const MAX_BYTES: u64 = 1 << 30;

/// The names in a list, one a line, or the image that there is instead.
pub(super) fn read(mut stdin: impl BufRead + Send + 'static, names: Names) -> Found {
    let mut first = Vec::new();
    // No more than the first line: the others may not be written yet.
    let line = (&mut stdin).take(SNIFF_BYTES as u64);
    if let Err(error) = { line }.read_until(b'\n', &mut first) {
        return one(Err(failed(&error)));
    }
    if is_image_data(&first) {
        return one(image(first, stdin));
    }
    let text: Box<dyn BufRead + Send> = match &first[..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => match utf_16(first, stdin) {
            Ok(text) => Box::new(Cursor::new(text)),
            Err(error) => return one(Err(failed(&error))),
        },
        [0xef, 0xbb, 0xbf, rest @ ..] => Box::new(Cursor::new(rest.to_vec()).chain(stdin)),
        _ => Box::new(Cursor::new(first).chain(stdin)),
    };
    Box::new(text.split(b'\n').flat_map(move |line| match line {
        Ok(line) => {
            let name = line.strip_suffix(b"\r").unwrap_or(&line);
            match name.is_empty() {
                true => nothing(),
                false => names.expand(path_from_bytes(name)),
            }
        }
        Err(error) => one(Err(failed(&error))),
    }))
}

/// The text of a list in UTF-16, as PowerShell writes it.
fn utf_16(mut bytes: Vec<u8>, mut rest: impl Read) -> io::Result<String> {
    rest.read_to_end(&mut bytes)?;
    let (pairs, _) = bytes.as_chunks::<2>();
    let unit = match bytes[0] {
        0xff => u16::from_le_bytes,
        _ => u16::from_be_bytes,
    };
    // Behind the byte order mark.
    let units = pairs[1..].iter().map(|&pair| unit(pair));
    char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether this is the start of an image and not of a list: names hold no zeros, and what could be a name may be a file.
fn is_image_data(first: &[u8]) -> bool {
    if first.starts_with(b"\x89PNG\r\n") || first.starts_with(b"\xff\xd8\xff") {
        return true;
    }
    let Some(format) = sniff(first) else {
        return false;
    };
    if first.contains(&0) {
        return true;
    }
    let may_be_text = matches!(format, Sniffed::Read(ImageFormat::Pnm) | Sniffed::Unread(_));
    may_be_text && !path_from_bytes(first.trim_ascii_end()).exists()
}

fn image(mut bytes: Vec<u8>, rest: impl Read) -> Result<Input, InputError> {
    rest.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    Ok(Input {
        path: PathBuf::from(STDIN),
        root: None,
        content: Content::Bytes(Arc::new(bytes)),
    })
}

fn failed(error: &io::Error) -> InputError {
    super::walk::unreadable(Path::new(STDIN), error)
}

#[cfg(unix)]
fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}
