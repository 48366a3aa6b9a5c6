//! One entry of a data set or of results, whatever its file's form: the fields that readers know, under the names that
//! people give them. A field of an unexpected type spoils its entry and not the file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::is_null_word;
use crate::data::coco::ImageId;

/// Names of the file of an image, the ones asked for first first.
pub const IMAGE: [&str; 17] = [
    "image",
    "image_name",
    "file_name",
    "filename",
    "image_path",
    "image_file",
    "image_filename",
    "image_file_name",
    "img",
    "img_name",
    "img_path",
    "img_file",
    "path",
    "filepath",
    "file_path",
    "file",
    "picture",
];
/// Names of COCO's id of an image.
pub const IMAGE_ID: [&str; 2] = ["image_id", "cocoid"];
/// Names of what is said of an image.
pub const CAPTION: [&str; 13] = [
    "caption",
    "captions",
    "comment",
    "text",
    "texts",
    "raw",
    "sentence",
    "sentences",
    "title",
    "description",
    "alt_text",
    "comments",
    "reference",
];
/// Names of the part of a data set that an image is in.
pub const PART: [&str; 3] = ["split", "part", "subset"];
/// Names of an image on the web, which is no file.
pub const URL: [&str; 3] = ["url", "image_url", "img_url"];
/// Other fields that are looked at.
const OTHER: [&str; 9] = [
    "id", "imgid", "main", "shape", "color", "error", "rank", "key", "member",
];

/// A value, as far as readers look at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Whole(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    List(Vec<Cell>),
    Fields(Fields),
}

/// The known fields of an object, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<(&'static str, Cell)>);

/// An entry of a list: an object, or something that has no fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Fields(Fields),
    Other(Cell),
}

/// A name as it is compared: `Image Name` and `image-name` are `image_name`.
pub fn normalize_name(name: &str) -> String {
    let name = name.trim().trim_matches('"').trim().to_lowercase();
    name.replace([' ', '-'], "_")
}

/// The known name that this is.
pub(super) fn known(name: &str) -> Option<&'static str> {
    let find = |name: &str| {
        [&IMAGE[..], &IMAGE_ID, &CAPTION, &PART, &URL, &OTHER]
            .into_iter()
            .flatten()
            .find(|known| **known == name)
            .copied()
    };
    find(name).or_else(|| find(&normalize_name(name)))
}

impl Fields {
    /// Adds a field if it is one that is known. Of two of the same name the last one counts.
    pub fn push(&mut self, name: &str, cell: Cell) {
        if let Some(name) = known(name) {
            self.0.push((name, cell));
        }
    }

    /// The field of a name; `None` when there is none, or nothing in it.
    pub fn get(&self, name: &str) -> Option<&Cell> {
        let found = self.0.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, cell)| cell).filter(|cell| !cell.is_null())
    }

    /// The first field of these names that has something in it.
    pub fn first(&self, names: &[&str]) -> Option<&Cell> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The id under the first of these names that has something in it.
    ///
    /// # Errors
    /// When it is neither a whole number nor a text.
    pub fn id(&self, names: &[&str]) -> Result<Option<ImageId>, String> {
        self.first(names).map(Cell::id).transpose()
    }

    /// The image's file.
    ///
    /// # Errors
    /// When it is no text.
    pub fn image(&self) -> Result<Option<&str>, String> {
        match self.first(&IMAGE) {
            None => Ok(None),
            Some(Cell::Text(name)) => Ok(Some(name)),
            // `datasets` writes an image as `{"path": .., "bytes": ..}`.
            Some(Cell::Fields(fields)) if fields.get("path").is_some() => fields.image(),
            Some(other) => Err(format!("has the image {other}, which is not a file's name")),
        }
    }

    /// What is said of the image: each caption, or why it is none. Empty when the entry has no caption.
    pub fn captions(&self) -> Vec<Result<&str, String>> {
        match self.first(&CAPTION) {
            Some(cell) => cell.captions(),
            None => Vec::new(),
        }
    }
}

impl Cell {
    fn is_null(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => is_null_word(text.trim()),
            _ => false,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Fields(fields) => Some(fields),
            _ => None,
        }
    }

    /// A whole number that is not negative, written as a number or as a text.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Whole(number) => Some(*number),
            Self::Float(number) if number.fract() == 0.0 && *number >= 0.0 => Some(*number as u64),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// # Errors
    /// When it is neither a whole number nor a text.
    pub fn id(&self) -> Result<ImageId, String> {
        let id = match self {
            Self::Whole(number) => Some(ImageId::Number(*number)),
            Self::Negative(number) => Some(ImageId::Text(number.to_string())),
            Self::Float(number) => ImageId::from_float(*number),
            Self::Text(text) => Some(ImageId::parse(text)),
            _ => None,
        };
        id.ok_or_else(|| format!("has the id {self}: a whole number or a text is expected"))
    }

    /// Each caption in it, or why it is none.
    pub fn captions(&self) -> Vec<Result<&str, String>> {
        match self {
            Self::List(cells) => cells.iter().map(Self::caption).collect(),
            other => vec![other.caption()],
        }
    }

    fn caption(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) if !self.is_null() => Ok(text),
            // Karpathy's sentences.
            Self::Fields(fields) => match fields.first(&CAPTION) {
                Some(Self::Text(text)) => Ok(text),
                _ => Err("has a sentence without a text".into()),
            },
            other if other.is_null() => Err(format!("has the caption {other}")),
            other => Err(format!("has the caption {other}, which is not text")),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Whole(number) => number.fmt(f),
            Self::Negative(number) => number.fmt(f),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "\"{}\"", shorten(text)),
            Self::List(_) => f.write_str("[..]"),
            Self::Fields(_) => f.write_str("{..}"),
        }
    }
}

/// A text short enough for a message of one line.
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", printable(&text[..end])),
        None => printable(text),
    }
}

/// A text without line breaks and other controls, which are escaped.
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Cell::deserialize(deserializer)? {
            Cell::Fields(fields) => Self::Fields(fields),
            other => Self::Other(other),
        })
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell, E> {
        Ok(Cell::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(u64::try_from(value).map_or(Cell::Negative(value), Cell::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Cell, E> {
        Ok(Cell::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cell, A::Error> {
        let mut cells = Vec::new();
        while let Some(cell) = list.next_element()? {
            cells.push(cell);
        }
        Ok(Cell::List(cells))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<str>>()? {
            match known(&name) {
                Some(name) => fields.0.push((name, map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Cell::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        match serde_json::from_str(text).unwrap() {
            Entry::Fields(fields) => fields,
            Entry::Other(cell) => panic!("{cell}"),
        }
    }

    #[test]
    fn fields_are_found_under_peoples_names_and_the_first_with_a_value_counts() {
        let fields = fields(
            r#"{"text": "A dog.", "caption": null, "path": "b.png", "Image Name": "a.png", "what": [1, {"x": null}], "split": "NaN"}"#,
        );
        assert_eq!(fields.image().unwrap(), Some("a.png"));
        assert_eq!(fields.captions(), [Ok("A dog.")]);
        assert_eq!(fields.first(&PART), None);
        assert_eq!(fields.get("what"), None);
    }

    #[test]
    fn a_field_of_another_type_is_named_and_spoils_nothing_else() {
        let fields =
            fields(r#"{"image": 3, "captions": ["A dog.", null, 7, {"raw": "Two."}, {}]}"#);
        assert!(fields.image().unwrap_err().contains("the image 3"));
        let captions = fields.captions();
        assert_eq!((&captions[0], &captions[3]), (&Ok("A dog."), &Ok("Two.")));
        assert!(captions[1].as_ref().unwrap_err().contains("caption null"));
        assert!(
            captions[2]
                .as_ref()
                .unwrap_err()
                .contains("caption 7, which is not text")
        );
        assert!(captions[4].is_err());
        let other: Entry = serde_json::from_str("[1, \"x\"]").unwrap();
        assert!(matches!(other, Entry::Other(Cell::List(_))));
    }

    #[test]
    fn a_number_a_text_and_a_float_are_one_id() {
        for text in ["1", "\"1\"", "1.0", "\"1.0\"", "\" 1 \""] {
            let fields = fields(&format!("{{\"image_id\": {text}}}"));
            assert_eq!(
                fields.id(&IMAGE_ID).unwrap(),
                Some(ImageId::Number(1)),
                "{text}"
            );
        }
        for text in ["1.5", "true", "[1]", "1e300"] {
            let error = fields(&format!("{{\"image_id\": {text}}}"))
                .id(&IMAGE_ID)
                .unwrap_err();
            assert!(error.contains("a whole number or a text"), "{error}");
        }
        let text = fields(r#"{"image_id": "01"}"#).id(&IMAGE_ID).unwrap();
        assert_eq!(text, Some(ImageId::Text("01".into())));
    }

    #[test]
    fn an_image_of_hugging_faces_library_is_its_path() {
        let fields = fields(r#"{"image": {"bytes": null, "path": "a.png"}, "text": "A dog."}"#);
        assert_eq!(fields.image().unwrap(), Some("a.png"));
    }
}
