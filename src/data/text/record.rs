//! One line of a table taken apart, strictly: what is not well formed is said, and not read anyhow.

/// A cell and where it begins in its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub value: String,
    pub start: usize,
    pub quoted: bool,
}

/// Why a line cannot be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A cell begins with a quote that is not closed.
    Unclosed,
    /// A quote is closed and more of the cell follows.
    Continued,
}

/// How a quote within a quoted cell is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Twice, as Excel and pandas do.
    Doubled,
    /// After a backslash, as MySQL does; outside quotes it keeps a delimiter in its cell.
    Escaped,
}

/// Splits at every delimiter, with quotes as they are.
pub fn literal(line: &str, delimiter: char) -> Vec<Field> {
    let mut start = 0;
    line.split(delimiter)
        .map(|cell| {
            let field = Field {
                value: cell.trim().to_string(),
                start,
                quoted: false,
            };
            start += cell.len() + delimiter.len_utf8();
            field
        })
        .collect()
}

/// Splits with quotes understood.
///
/// # Errors
/// When a quoted cell is not closed right before a delimiter or the end.
pub fn split(line: &str, delimiter: char, quotes: Quotes) -> Result<Vec<Field>, Fault> {
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let (field, length) = cell(&line[start..], delimiter, quotes)?;
        fields.push(Field { start, ..field });
        start += length;
        if start == line.len() {
            return Ok(fields);
        }
        start += delimiter.len_utf8();
    }
}

/// The first cell of a text, and its length.
fn cell(text: &str, delimiter: char, quotes: Quotes) -> Result<(Field, usize), Fault> {
    let indent = text.len() - text.trim_start_matches(' ').len();
    match text[indent..].strip_prefix('"') {
        Some(quoted) => {
            let (value, length) = quoted_cell(quoted, quotes)?;
            let rest = &quoted[length..];
            let after = rest.trim_start_matches(' ');
            if !after.is_empty() && !after.starts_with(delimiter) {
                return Err(Fault::Continued);
            }
            let field = Field {
                value: value.trim().to_string(),
                start: 0,
                quoted: true,
            };
            Ok((field, text.len() - after.len()))
        }
        None => Ok(bare_cell(text, delimiter, quotes)),
    }
}

/// The inside of quotes, and its length with the closing one.
fn quoted_cell(text: &str, quotes: Quotes) -> Result<(String, usize), Fault> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (c, next) {
            ('"', Some('"')) => {
                value.push('"');
                chars.next();
            }
            ('"', _) => return Ok((value, at + 1)),
            ('\\', Some(next @ ('"' | '\\'))) if quotes == Quotes::Escaped => {
                value.push(next);
                chars.next();
            }
            (c, _) => value.push(c),
        }
    }
    Err(Fault::Unclosed)
}

fn bare_cell(text: &str, delimiter: char, quotes: Quotes) -> (Field, usize) {
    let mut value = String::new();
    let mut length = text.len();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == delimiter {
            length = at;
            break;
        }
        match chars.peek() {
            Some((_, next)) if c == '\\' && *next == delimiter && quotes == Quotes::Escaped => {
                value.push(delimiter);
                chars.next();
            }
            _ => value.push(c),
        }
    }
    let field = Field {
        value: value.trim().to_string(),
        start: 0,
        quoted: false,
    };
    (field, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &str, quotes: Quotes) -> Result<Vec<String>, Fault> {
        let fields = split(line, ',', quotes)?;
        for field in &fields {
            assert!(field.start == 0 || line.as_bytes()[field.start - 1] == b',');
        }
        Ok(fields.into_iter().map(|field| field.value).collect())
    }

    #[test]
    fn cells_are_split_with_quotes_understood() {
        for (line, expected) in [
            ("a,b", vec!["a", "b"]),
            ("", vec![""]),
            (",", vec!["", ""]),
            ("a, \"b, c\" ,d", vec!["a", "b, c", "d"]),
            (r#""a ""b""","#, vec![r#"a "b""#, ""]),
            (
                r#"a 6" pipe,"""#.trim_end_matches('"'),
                vec![r#"a 6" pipe"#, ""],
            ),
            (r#""C:\dir\",x"#, vec![r"C:\dir\", "x"]),
            ("\"é, 犬\",ü", vec!["é, 犬", "ü"]),
        ] {
            assert_eq!(values(line, Quotes::Doubled).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn backslashes_keep_quotes_and_delimiters() {
        let line = r#"a,"a sign \"stop\", red""#;
        assert_eq!(values(line, Quotes::Doubled), Err(Fault::Continued));
        let expected = ["a", "a sign \"stop\", red"];
        assert_eq!(values(line, Quotes::Escaped).unwrap(), expected);
        assert_eq!(
            values(r"a\, b,\c", Quotes::Escaped).unwrap(),
            ["a, b", r"\c"]
        );
    }

    #[test]
    fn a_stray_quote_is_a_fault() {
        assert_eq!(values("a,\"b", Quotes::Doubled), Err(Fault::Unclosed));
        assert_eq!(values("a,\"b\" c", Quotes::Doubled), Err(Fault::Continued));
        assert_eq!(values("a,\"b\"\"", Quotes::Doubled), Err(Fault::Unclosed));
    }
}
