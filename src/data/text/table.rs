//! Tables as spreadsheets, pandas and databases export them: which character stands between the cells is seen from the
//! header, and a row that cannot be taken apart is named and spoils no other.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use super::cell::{CAPTION, Cell, Fields, IMAGE, known};
use super::record::{Fault, Field, Quotes, literal, split};
use super::{Lines, check};

/// What may stand between cells.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];

/// How far a quoted cell may go on over line ends, in lines and in bytes.
const LONGEST_CELL: (usize, usize) = (200, 1 << 16);

/// A table's first line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    delimiter: char,
    /// The known name of each column.
    columns: Vec<Option<&'static str>>,
}

impl Header {
    /// Reads a line whose columns have names that `is_enough` wants, whatever is between them.
    pub fn read(line: &str, is_enough: impl Fn(&Self) -> bool) -> Option<Self> {
        DELIMITERS
            .into_iter()
            .map(|delimiter| Self::with_delimiter(line, delimiter))
            .find(is_enough)
    }

    fn with_delimiter(line: &str, delimiter: char) -> Self {
        let fields =
            split(line, delimiter, Quotes::Doubled).unwrap_or_else(|_| literal(line, delimiter));
        Self {
            delimiter,
            columns: fields.iter().map(|field| column(&field.value)).collect(),
        }
    }

    /// Whether a column has one of these names.
    pub fn has(&self, names: &[&str]) -> bool {
        self.place(names).is_some()
    }

    fn place(&self, names: &[&str]) -> Option<usize> {
        let at = |name: &&str| self.columns.iter().position(|known| *known == Some(*name));
        names.iter().find_map(at)
    }

    /// The column whose last cell may hold delimiters: that of the captions, when it is the last and the only one.
    fn rest(&self) -> Option<usize> {
        let is_caption = |name: &Option<&str>| name.is_some_and(|name| CAPTION.contains(&name));
        let last = self.columns.len() - 1;
        let places = self.columns.iter().positions(is_caption);
        (places == [last]).then_some(last)
    }
}

/// [`Iterator::position`] of all.
trait Positions {
    type Item;
    fn positions(self, wanted: impl Fn(Self::Item) -> bool) -> Vec<usize>;
}

impl<I: Iterator> Positions for I {
    type Item = I::Item;

    fn positions(self, wanted: impl Fn(I::Item) -> bool) -> Vec<usize> {
        self.enumerate()
            .filter_map(|(place, item)| wanted(item).then_some(place))
            .collect()
    }
}

/// The known name of a column. `caption_1`, `caption_2` and so on are captions of one image.
fn column(name: &str) -> Option<&'static str> {
    known(name).or_else(|| {
        let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let base = known(base.trim_end_matches(['_', ' ', '-']))?;
        CAPTION.contains(&base).then_some(base)
    })
}

/// The character that Excel says is between the cells: `sep=;` in a line before the header.
pub fn declared_delimiter(line: &str) -> Option<char> {
    let mut chars = line.trim_matches('"').strip_prefix("sep=")?.chars();
    match (chars.next(), chars.next()) {
        (Some(delimiter), None) if delimiter.is_ascii() && delimiter != '"' => Some(delimiter),
        _ => None,
    }
}

/// A row: where it stands, and its known fields, or why there are none.
pub struct Row {
    pub place: String,
    pub fields: Result<Fields, String>,
}

/// The rows of a table after its header.
pub struct Rows<R> {
    lines: Lines<R>,
    header: Header,
    /// Lines that were looked at before their time.
    ahead: VecDeque<Result<String, String>>,
    /// Lines and rows so far, the header among them.
    line: usize,
    row: usize,
}

/// Reads a table; `None` when its first line is no header that `is_enough`.
///
/// # Errors
/// When it cannot be read.
pub fn open<R: BufRead>(
    reader: R,
    is_enough: impl Fn(&Header) -> bool,
) -> io::Result<Option<Rows<R>>> {
    let mut lines = Lines::new(reader);
    let mut line = 1;
    let mut next = || -> io::Result<String> {
        let text = lines.next().transpose()?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let first = next()?;
    let header = match declared_delimiter(&first) {
        Some(delimiter) => {
            line += 1;
            let header = Header::with_delimiter(&next()?, delimiter);
            is_enough(&header).then_some(header)
        }
        None => Header::read(&first, is_enough),
    };
    Ok(header.map(|header| Rows {
        lines,
        header,
        ahead: VecDeque::new(),
        line,
        row: line,
    }))
}

impl<R: BufRead> Rows<R> {
    /// The next row that has something in it.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        loop {
            if self.look(0)?.is_none() {
                return Ok(None);
            }
            let Some(line) = self.ahead.pop_front() else {
                return Ok(None);
            };
            self.line += 1;
            self.row += 1;
            let place = match self.row == self.line {
                true => format!("row {}", self.row),
                false => format!("row {} (line {})", self.row, self.line),
            };
            let fields = match line {
                Ok(line) if self.is_empty(&line) => continue,
                Ok(line) => self.cells(line)?.and_then(|cells| self.fields(cells)),
                Err(reason) => Err(reason),
            };
            return Ok(Some(Row { place, fields }));
        }
    }

    /// Excel writes rows without anything in them as delimiters.
    fn is_empty(&self, line: &str) -> bool {
        line.chars()
            .all(|c| c == self.header.delimiter || c.is_whitespace())
    }

    /// A line after those that were taken.
    fn look(&mut self, place: usize) -> io::Result<Option<&Result<String, String>>> {
        while self.ahead.len() <= place {
            let Some(line) = self.lines.next().transpose()? else {
                return Ok(None);
            };
            let line = check(&line).map(String::from);
            self.ahead.push_back(line);
        }
        Ok(self.ahead.get(place))
    }

    /// The cells of a row that begins with this line.
    fn cells(&mut self, line: String) -> io::Result<Result<Vec<String>, String>> {
        let (delimiter, count) = (self.header.delimiter, self.header.columns.len());
        let bare = literal(&line, delimiter);
        // Quotes are what they are in most tables with tabs and bars.
        let is_loose = matches!(delimiter, '\t' | '|') && bare.len() == count;
        let ways = [Quotes::Doubled, Quotes::Escaped].map(|way| split(&line, delimiter, way));
        if is_loose && !ways.contains(&Err(Fault::Unclosed)) {
            return Ok(Ok(unquoted(bare)));
        }
        if let Some(fields) = ways.iter().flatten().find(|fields| fields.len() == count) {
            return Ok(Ok(values(fields.clone())));
        }
        if ways.contains(&Err(Fault::Unclosed)) {
            if let Some(cells) = self.cells_over_lines(&line)? {
                return Ok(Ok(cells));
            }
            return Ok(match is_loose {
                true => Ok(unquoted(bare)),
                false => Err(
                    "opens a quote that is not closed: close it, or write \"\" for a quote within a quoted cell"
                        .into(),
                ),
            });
        }
        let fields = ways.into_iter().find_map(Result::ok).unwrap_or(bare);
        Ok(self.fit(&line, fields))
    }

    /// Cells when they are more or fewer than the header's.
    fn fit(&self, line: &str, mut fields: Vec<Field>) -> Result<Vec<String>, String> {
        let count = self.header.columns.len();
        let found = fields.len();
        while fields.len() > count && fields.last().is_some_and(|field| field.value.is_empty()) {
            fields.pop();
        }
        if fields.len() <= count {
            return Ok(values(fields));
        }
        match self.header.rest() {
            Some(last) if !fields[last..].iter().any(|field| field.quoted) => {
                let rest = line[fields[last].start..].trim().to_string();
                fields.truncate(last);
                Ok(values(fields).into_iter().chain([rest]).collect())
            }
            _ => Err(format!(
                "has {found} cells and the header {count}: quote cells that have a {:?} in them",
                self.header.delimiter
            )),
        }
    }

    /// The cells of a row with line ends between quotes. `None` when no quote closes it as one should, or when it would
    /// take other rows with it.
    fn cells_over_lines(&mut self, first: &str) -> io::Result<Option<Vec<String>>> {
        let (delimiter, count) = (self.header.delimiter, self.header.columns.len());
        let mut text = first.to_string();
        for taken in 1..=LONGEST_CELL.0 {
            let line = match self.look(taken - 1)? {
                Some(Ok(line)) => line.clone(),
                _ => return Ok(None),
            };
            if self.is_row(first, &line) || text.len() + line.len() > LONGEST_CELL.1 {
                return Ok(None);
            }
            text = text + "\n" + &line;
            let ways = [Quotes::Doubled, Quotes::Escaped].map(|way| split(&text, delimiter, way));
            if let Some(fields) = ways.iter().flatten().find(|fields| fields.len() == count) {
                self.ahead.drain(..taken);
                self.line += taken;
                return Ok(Some(values(fields.clone())));
            }
            if !ways.contains(&Err(Fault::Unclosed)) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether a line is a row like the one that begins with `first`: one that a stray quote must not swallow.
    fn is_row(&self, first: &str, line: &str) -> bool {
        let key = self
            .header
            .place(&IMAGE)
            .or(self.header.place(&["image_id", "id"]));
        let cells = |line: &str| literal(line, self.header.delimiter);
        let kind = |cells: &[Field]| {
            let cell = key.and_then(|key| cells.get(key));
            cell.map_or(Kind::Other, |cell| Kind::of(&cell.value))
        };
        let (first, line) = (cells(first), cells(line));
        line.len() >= self.header.columns.len()
            && match kind(&first) {
                Kind::Other => false,
                known => known == kind(&line),
            }
    }

    /// The known cells under their names.
    fn fields(&self, cells: Vec<String>) -> Result<Fields, String> {
        let mut fields = Fields::default();
        let mut captions: Vec<Cell> = Vec::new();
        let mut named = None;
        for (&name, cell) in self.header.columns.iter().zip(cells) {
            match name {
                // Of several columns the first kind with a name of captions is meant.
                Some(name) if CAPTION.contains(&name) => {
                    let is_chosen = self.header.place(&CAPTION) == self.header.place(&[name]);
                    if is_chosen && !super::is_null_word(&cell) {
                        captions.extend(caption_cells(cell)?);
                        named = Some(name);
                    } else if !is_chosen {
                        fields.push(name, Cell::Text(cell));
                    }
                }
                Some(name) => fields.push(name, Cell::Text(cell)),
                None => {}
            }
        }
        if let Some(name) = named {
            fields.push(name, Cell::List(captions));
        }
        Ok(fields)
    }
}

fn values(fields: Vec<Field>) -> Vec<String> {
    fields.into_iter().map(|field| field.value).collect()
}

/// Takes quotes off where they are around a whole cell.
fn unquoted(fields: Vec<Field>) -> Vec<String> {
    let inside = |value: String| match split(&value, '\0', Quotes::Doubled).as_deref() {
        Ok([field]) if field.quoted => field.value.clone(),
        _ => value,
    };
    values(fields).into_iter().map(inside).collect()
}

/// A cell's captions: some tables hold all of an image's in one cell, as a JSON list.
fn caption_cells(cell: String) -> Result<Vec<Cell>, String> {
    if cell.starts_with('[') && cell.ends_with(']') {
        if let Ok(Cell::List(list)) = serde_json::from_str(&cell) {
            return Ok(list);
        }
        if cell.starts_with("['") || cell.starts_with("[\"") {
            return Err(
                "has a list that is not JSON in one cell: write it with json.dumps, or one caption a row"
                    .into(),
            );
        }
    }
    Ok(vec![Cell::Text(cell)])
}

/// What a cell that tells one image from another holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    FileName,
    Number,
    Other,
}

impl Kind {
    fn of(cell: &str) -> Self {
        let cell = cell.trim_matches('"');
        let is_ending = |ending: &str| {
            (2..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        match cell.rsplit_once('.') {
            Some((stem, ending)) if !stem.is_empty() && is_ending(ending) => Self::FileName,
            _ if !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit()) => Self::Number,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
