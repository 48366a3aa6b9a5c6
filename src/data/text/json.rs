//! JSON as it is found: with Python's `NaN`, `Infinity` and `-Infinity`, which stand for nothing, and in any encoding
//! that [`super::reader`] knows.

use std::io::{self, BufRead, BufReader, Read};

use serde::de::DeserializeOwned;

use super::cell::Entry;
use super::{BUFFER, NUL, not_utf8};

/// Python's words that are not JSON. All are read as `null`.
const CONSTANTS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// The longest of them, in bytes.
const LONGEST: usize = 9;

/// Reads a whole document. The reader is of text from [`super::reader`].
///
/// # Errors
/// When it is not JSON, or not UTF-8; the message has the line.
pub fn read_document<T: DeserializeOwned>(reader: impl BufRead) -> serde_json::Result<T> {
    serde_json::from_reader(BufReader::with_capacity(BUFFER, Standard::new(reader)))
}

/// Reads an entry that is a text of its own, such as a line.
///
/// # Errors
/// When it is not JSON, in one line.
pub fn read_entry(text: &str) -> Result<Entry, String> {
    serde_json::from_str(text)
        .or_else(|_| read_document(text.as_bytes()))
        .map_err(|error| {
            // A line has no lines of its own.
            let message = error
                .to_string()
                .replace(" at line 1 column ", " at column ");
            format!("is not JSON: {message}")
        })
}

/// Whether a text begins with a whole JSON object on a line of its own that is followed by more, as JSON Lines do.
pub fn begins_with_line(head: &[u8]) -> Option<Entry> {
    let text = head.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let (line, rest) = text.split_at(end);
    if rest.trim_ascii().is_empty() {
        return None;
    }
    match read_entry(std::str::from_utf8(line).ok()?) {
        Ok(Entry::Fields(fields)) => Some(Entry::Fields(fields)),
        _ => None,
    }
}

/// Makes standard JSON of what Python writes, and makes sure that it is text.
struct Standard<R> {
    reader: R,
    /// Bytes that were read and not looked at, since more of them are needed.
    input: Vec<u8>,
    output: Vec<u8>,
    /// Where the rest of the output begins.
    given: usize,
    place: Place,
    line: usize,
    ended: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    String,
    /// In a string, after a backslash.
    Escape,
}

impl<R: BufRead> Standard<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            input: Vec::new(),
            output: Vec::new(),
            given: 0,
            place: Place::Outside,
            line: 1,
            ended: false,
        }
    }

    /// Reads until there is some output, or none will come.
    fn fill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.given = 0;
        while self.output.is_empty() && !(self.ended && self.input.is_empty()) {
            let buffer = self.reader.fill_buf()?;
            let length = buffer.len();
            self.ended = length == 0;
            self.input.extend_from_slice(buffer);
            self.reader.consume(length);
            let input = std::mem::take(&mut self.input);
            let taken = self.take(&input)?;
            self.input = input[taken..].to_vec();
        }
        Ok(())
    }

    /// Looks at bytes, and returns how many of them: the last may be only a part of a character or a word.
    fn take(&mut self, input: &[u8]) -> io::Result<usize> {
        let (valid, bad) = match std::str::from_utf8(input) {
            Ok(_) => (input.len(), None),
            Err(error) => {
                let at = error.valid_up_to();
                let is_bad = error.error_len().is_some() || self.ended;
                (at, is_bad.then(|| not_utf8(input[at])))
            }
        };
        let mut at = 0;
        while at < valid {
            let byte = input[at];
            if byte == 0 {
                return Err(self.refuse(NUL));
            }
            self.line += usize::from(byte == b'\n');
            if self.place == Place::Outside && matches!(byte, b'N' | b'I' | b'-') {
                let rest = &input[at..];
                if rest.len() < LONGEST && !self.ended && bad.is_none() {
                    return Ok(at);
                }
                if let Some(word) = CONSTANTS.iter().find(|word| rest.starts_with(word)) {
                    self.output.extend_from_slice(b"null");
                    at += word.len();
                    continue;
                }
            }
            self.place = match (self.place, byte) {
                (Place::Outside, b'"') | (Place::Escape, _) => Place::String,
                (Place::String, b'"') => Place::Outside,
                (Place::String, b'\\') => Place::Escape,
                (place, _) => place,
            };
            self.output.push(byte);
            at += 1;
        }
        match bad {
            Some(reason) => Err(self.refuse(&reason)),
            None => Ok(valid),
        }
    }

    fn refuse(&self, reason: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("line {} {reason}", self.line),
        )
    }
}

impl<R: BufRead> Read for Standard<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.output.len() {
            self.fill()?;
        }
        let rest = &self.output[self.given..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(bytes: &[u8], size: usize) -> io::Result<String> {
        let mut text = String::new();
        Standard::new(BufReader::with_capacity(size, bytes)).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn pythons_words_become_null_outside_strings_alone() {
        let text = r#"{"a": NaN, "b": [-Infinity,Infinity,-1,Infinit], "NaN \" é NaN": "-Infinity\\", "c": NaN}"#;
        let expected =
            r#"{"a": null, "b": [null,null,-1,Infinit], "NaN \" é NaN": "-Infinity\\", "c": null}"#;
        for size in [1, 2, 3, 5, 8, 100] {
            assert_eq!(standard(text.as_bytes(), size).unwrap(), expected, "{size}");
        }
        assert_eq!(standard(b"NaN", 2).unwrap(), "null");
        assert_eq!(standard(b"-", 2).unwrap(), "-");
        assert_eq!(standard(b"", 2).unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_named_with_its_line() {
        for size in [1, 4, 100] {
            let error = standard(b"[\n\"caf\xe9\"]", size).unwrap_err().to_string();
            assert!(error.contains("line 2 has the byte 0xE9"), "{error}");
            let error = standard(b"[\n\n\"\xc3", size).unwrap_err().to_string();
            assert!(error.contains("line 3 has the byte 0xC3"), "{error}");
            let error = standard(b"[\0\n\0", size).unwrap_err().to_string();
            assert!(error.contains("line 1 has a NUL byte"), "{error}");
        }
        let error = read_document::<Entry>(&b"\n[\"\xe9\"]"[..])
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2 has the byte"), "{error}");
    }

    #[test]
    fn an_entry_is_read_or_refused_in_a_line() {
        assert!(matches!(
            read_entry(r#"{"caption": NaN}"#),
            Ok(Entry::Fields(_))
        ));
        let error = read_entry("{\"caption\"").unwrap_err();
        assert!(
            error.contains("at column 10") && !error.contains('\n'),
            "{error}"
        );
    }

    #[test]
    fn json_lines_are_told_from_a_document() {
        assert!(begins_with_line(b"\n{\"image\": 1}\n{\"image\": 2}").is_some());
        for text in [
            "{\"image\": 1}\n",
            "{\n\"image\": 1}",
            "[1]\n[2]",
            "{\"image\": 1}",
            "",
        ] {
            assert!(begins_with_line(text.as_bytes()).is_none(), "{text}");
        }
    }
}
