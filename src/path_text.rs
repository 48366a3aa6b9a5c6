//! Paths as text, in results and messages.

use std::fmt::Write;
use std::path::Path;

/// A path as text. Bytes that are no text become `\xff` and the like, so that two names stay two.
pub fn text(path: &Path) -> String {
    bytes(path.as_os_str().as_encoded_bytes())
}

/// Bytes as text, those that are none as `\xff` and the like.
pub fn bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A path as text of one line: line breaks and other controls in it are escaped.
pub fn one_line(path: &Path) -> String {
    let text = text(path);
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped_and_nothing_else_is() {
        assert_eq!(one_line(Path::new("é \\ \"a\".png")), "é \\ \"a\".png");
        assert_eq!(text(Path::new("a\nb.png")), "a\nb.png");
        assert_eq!(one_line(Path::new("a\nb\u{1b}.png")), "a\\nb\\u{1b}.png");
    }

    #[test]
    #[cfg(unix)]
    fn names_that_are_no_text_stay_apart() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes| text(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(name(b"caf\xe9.png"), "caf\\xe9.png");
        assert_ne!(name(b"\xff.png"), name(b"\xfe.png"));
    }
}
