//! The entries of a caption file, whatever its form: JSON, JSON Lines or CSV.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// One caption of a file, with its place in it for messages.
pub(super) struct Item {
    pub(super) place: String,
    pub(super) id: String,
    pub(super) file_name: Option<String>,
    pub(super) captions: Vec<String>,
}

/// A COCO annotation file without a fault, read straight into what is used of it.
#[derive(Deserialize)]
pub(super) struct CocoFile {
    pub(super) images: Vec<CocoImage>,
    pub(super) annotations: Vec<CocoAnnotation>,
}

#[derive(Deserialize)]
pub(super) struct CocoImage {
    pub(super) id: Id,
    #[serde(default)]
    pub(super) file_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CocoAnnotation {
    pub(super) image_id: Id,
    pub(super) caption: String,
}

/// An id as COCO writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.trim().fmt(f),
        }
    }
}

/// A file by its form.
pub(super) enum Contents {
    Coco(CocoFile),
    /// Any other, one with a fault in it too: its entries are looked at one by one.
    Json(Value),
    Lines(Vec<Value>),
    Table(Vec<Value>),
}

/// Reads a file; the name's ending says whether it is CSV, the first line whether it is JSON Lines.
pub(super) fn contents(path: &Path) -> Result<Contents> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        bail!("{} is empty", path.display());
    }
    let has_ending = |ending: &str| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case(ending))
    };
    if has_ending("csv") {
        return table(text).with_context(|| path.display().to_string());
    }
    let first = text.trim_start().lines().next().unwrap_or_default();
    let is_object = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object());
    let more = text.trim().lines().count() > 1;
    if has_ending("jsonl") || (first.starts_with('{') && more && is_object(first)) {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                let line = serde_json::from_str(line).with_context(|| {
                    format!("{}: line {} is not JSON", path.display(), number + 1)
                })?;
                lines.push(line);
            }
        }
        return Ok(Contents::Lines(lines));
    }
    if first.starts_with('{')
        && let Ok(file) = serde_json::from_str(text)
    {
        return Ok(Contents::Coco(file));
    }
    serde_json::from_str(text)
        .map(Contents::Json)
        .with_context(|| format!("{} is not JSON", path.display()))
}

fn table(text: &str) -> Result<Contents> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row?;
        let cells = header
            .iter()
            .zip(row.iter())
            .filter(|(_, cell)| !cell.is_empty());
        rows.push(
            cells
                .map(|(name, cell)| (name.trim().to_string(), Value::from(cell)))
                .collect(),
        );
    }
    Ok(Contents::Table(rows))
}

/// Reads entries that have an id and one or more captions.
pub(super) fn items<'a>(entries: impl Iterator<Item = &'a Value>, kind: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (number, entry) in entries.enumerate() {
        let place = format!("{kind} {}", number + 1);
        if !entry.is_object() {
            bail!("{place} is not an object with `image_id` and `caption`");
        }
        if let Some(error) = text(entry, "error") {
            bail!("{place} is not a caption but an error: {error}");
        }
        // `infer` gives several captions an image if asked to, the best with rank 0.
        if entry
            .get("rank")
            .and_then(number_of)
            .is_some_and(|rank| rank > 0)
        {
            continue;
        }
        let id = id(entry, &["image_id", "id", "image"]).with_context(|| place.clone())?;
        let captions = captions(entry).with_context(|| format!("{place} (image {id})"))?;
        items.push(Item {
            place,
            id,
            file_name: text(entry, "file_name").or_else(|| text(entry, "image")),
            captions,
        });
    }
    Ok(items)
}

fn number_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

pub(super) fn text(entry: &Value, name: &str) -> Option<String> {
    entry.get(name)?.as_str().map(String::from)
}

/// An id under the first of these names: a number or a text.
pub(super) fn id(entry: &Value, names: &[&str]) -> Result<String> {
    let value = names.iter().find_map(|&name| entry.get(name));
    match value {
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(id.trim().to_string()),
        Some(Value::Number(id)) if id.is_u64() || id.is_i64() => Ok(id.to_string()),
        Some(other) => bail!("has the id {other}: a whole number or a text is expected"),
        None => bail!("has no `{}`", names[0]),
    }
}

fn captions(entry: &Value) -> Result<Vec<String>> {
    match (entry.get("caption"), entry.get("captions")) {
        (Some(Value::String(caption)), _) => Ok(vec![caption.clone()]),
        (_, Some(Value::Array(captions))) => captions
            .iter()
            .map(|caption| {
                caption
                    .as_str()
                    .map(String::from)
                    .context("has a caption that is no text")
            })
            .collect(),
        (None | Some(Value::Null), None | Some(Value::Null)) => bail!("has no `caption`"),
        (Some(other), _) | (_, Some(other)) => bail!("has the caption {other}, which is no text"),
    }
}
