//! Text files as people's programs write them: UTF-8 with or without a byte-order mark, UTF-16 with one, lines that end
//! as on Unix, Windows or an old Mac.

pub mod cell;
pub mod json;
mod record;
pub mod table;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use encoding_rs_io::DecodeReaderBytesBuilder;

/// Bytes read at once.
const BUFFER: usize = 1 << 16;

/// Opens a file as UTF-8 without a byte-order mark. Whether the bytes are UTF-8 is found by [`check`], row by row.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<impl BufRead + use<>> {
    Ok(reader(File::open(path).context("cannot be opened")?))
}

/// UTF-16 with a byte-order mark comes out as UTF-8; a mark is taken off; anything else comes out as it is.
pub fn reader(source: impl Read) -> impl BufRead {
    let decoder = DecodeReaderBytesBuilder::new()
        .bom_sniffing(true)
        .strip_bom(true)
        .utf8_passthru(true)
        .build(source);
    BufReader::with_capacity(BUFFER, decoder)
}

/// Whole text in memory, as [`reader`] and [`check`] read it.
///
/// # Errors
/// When it is no text, with the reason and what to do.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    let mut text = Vec::with_capacity(bytes.len());
    reader(bytes)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    check(&text)?;
    String::from_utf8(text).map_err(|error| error.to_string())
}

/// Bytes as text.
///
/// # Errors
/// When they are not, with the reason and what to do.
pub fn check(bytes: &[u8]) -> Result<&str, String> {
    if bytes.contains(&0) {
        return Err(NUL.into());
    }
    std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes[error.valid_up_to()]))
}

const NUL: &str =
    "has a NUL byte, as UTF-16 without a byte-order mark and damaged files have: save it as UTF-8";

fn not_utf8(byte: u8) -> String {
    format!(
        "has the byte 0x{byte:02X}, which is not UTF-8 (Windows-1252 or Latin-1?): save it as UTF-8, as `iconv -f WINDOWS-1252 -t UTF-8` does"
    )
}

/// Lines without their ends: LF, CR LF or CR.
pub struct Lines<R> {
    reader: R,
    /// The last line ended with CR, so that a LF now belongs to it.
    after_return: bool,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            after_return: false,
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut begun = false;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(begun.then_some(line));
            }
            if std::mem::take(&mut self.after_return) && buffer[0] == b'\n' {
                self.reader.consume(1);
                continue;
            }
            begun = true;
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let length = end.unwrap_or(buffer.len());
            line.extend_from_slice(&buffer[..length]);
            match end {
                Some(end) => {
                    self.after_return = buffer[end] == b'\r';
                    self.reader.consume(end + 1);
                    return Ok(Some(line));
                }
                None => self.reader.consume(length),
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_line().transpose()
    }
}

/// What begins a text, and the whole of it again.
///
/// # Errors
/// When it cannot be read.
pub fn peek<R: BufRead>(mut reader: R) -> io::Result<(Vec<u8>, impl BufRead + use<R>)> {
    let mut head = Vec::with_capacity(BUFFER);
    reader.by_ref().take(BUFFER as u64).read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(reader)))
}

/// White space collapsed; `None` when nothing is left.
pub fn clean(text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// Whether a cell says that there is nothing in it, as pandas, MySQL and Python write it.
pub fn is_null_word(cell: &str) -> bool {
    let words = ["null", "nan", "none", "n/a", "#n/a", "<na>", "\\n"];
    cell.is_empty() || words.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        Lines::new(reader(bytes))
            .map(|line| String::from_utf8(line.unwrap()).unwrap())
            .collect()
    }

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
        let bytes = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        units.flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_and_line_end_gives_the_same_lines() {
        let text = "image,caption\r\na.png,Un café 犬 😀\r\n\r\nlast";
        let expected = ["image,caption", "a.png,Un café 犬 😀", "", "last"];
        let forms = [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            utf16(text, false),
            utf16(text, true),
            text.replace("\r\n", "\n").into_bytes(),
            text.replace("\r\n", "\r").into_bytes(),
            format!("{text}\n").into_bytes(),
        ];
        for bytes in forms {
            assert_eq!(lines(&bytes), expected, "{bytes:?}");
            assert!(check(lines(&bytes).concat().as_bytes()).is_ok());
        }
        assert_eq!(lines(b""), Vec::<String>::new());
        assert_eq!(lines(b"\n\r\r\n"), ["", "", ""]);
    }

    #[test]
    fn line_ends_are_found_across_the_ends_of_buffers() {
        let text = "ab\r\ncd\rdef\n\nend";
        for size in 1..8 {
            let reader = BufReader::with_capacity(size, text.as_bytes());
            let lines: Vec<_> = Lines::new(reader).map(Result::unwrap).collect();
            assert_eq!(lines, [&b"ab"[..], b"cd", b"def", b"", b"end"]);
        }
    }

    #[test]
    fn what_is_no_text_is_named_with_a_fix() {
        let error = decode(b"caf\xe9").unwrap_err();
        assert!(
            error.contains("0xE9") && error.contains("save it as UTF-8"),
            "{error}"
        );
        let error = decode(b"a\0b\0").unwrap_err();
        assert!(error.contains("NUL") && error.contains("UTF-16"), "{error}");
        assert_eq!(decode(&utf16("é", true)).unwrap(), "é");
    }

    #[test]
    fn words_for_nothing_are_known() {
        for word in ["", "null", "NaN", "None", "\\N", "N/A", "<NA>"] {
            assert!(is_null_word(word), "{word}");
        }
        assert!(!is_null_word("Nana") && !is_null_word("none of them"));
    }
}
