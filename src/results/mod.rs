//! Captions of many images on their way to a file: as lines, as a table, or one file an image, and how an interrupted
//! run is taken up again.

mod coco;
mod file;
mod sidecar;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::captioner::Caption;
use crate::path_text;

pub use coco::{CocoResults, CocoWanted};
pub use file::ResultsFile;
pub use sidecar::{Place, Sidecars};

/// What stands in a file of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `image: caption`, one line a caption.
    Text,
    /// One JSON object a caption.
    Jsonl,
    /// A table with a header.
    Csv,
}

/// A format, and whether captions were compared with their images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub format: Format,
    /// Adds CLIP's similarity to the columns of a table; JSON has it where a caption has it.
    pub similarity: bool,
    /// The same with the captions' agreement.
    pub consensus: bool,
}

impl Layout {
    /// What the file begins with.
    pub fn head(self) -> Result<String> {
        match self.format {
            Format::Csv => csv_rows(&[self.columns()]),
            Format::Text | Format::Jsonl => Ok(String::new()),
        }
    }

    /// What an image is called in the file. Names stay apart, and where a line is a caption a name has no line break.
    pub fn name(self, image: &Path) -> String {
        match self.format {
            Format::Text => path_text::one_line(image),
            Format::Jsonl | Format::Csv => path_text::text(image),
        }
    }

    fn columns(self) -> Vec<String> {
        let mut columns = vec!["image", "rank", "caption", "log_prob", "score"];
        columns.extend(self.similarity.then_some("similarity"));
        columns.extend(self.consensus.then_some("consensus"));
        columns.push("error");
        columns.into_iter().map(String::from).collect()
    }

    /// The lines of one image's captions, best first.
    pub fn captions(self, image: &str, captions: &[Caption]) -> Result<String> {
        match self.format {
            Format::Text => {
                let line = |found: &Caption| format!("{image}: {}\n", one_line(&found.caption));
                Ok(captions.iter().map(line).collect())
            }
            Format::Jsonl => (captions.iter().enumerate())
                .map(|(rank, caption)| json_line(image, rank, caption))
                .collect(),
            Format::Csv => {
                let rows: Vec<_> = (captions.iter().enumerate())
                    .map(|(rank, caption)| self.csv_row(image, rank, caption))
                    .collect();
                csv_rows(&rows)
            }
        }
    }

    fn csv_row(self, image: &str, rank: usize, found: &Caption) -> Vec<String> {
        let mut row = vec![
            image.to_string(),
            rank.to_string(),
            found.caption.clone(),
            found.log_prob.to_string(),
            found.score.to_string(),
        ];
        let number = |value: Option<f32>| value.map_or_else(String::new, |value| value.to_string());
        if self.similarity {
            row.push(number(found.similarity));
        }
        if self.consensus {
            row.push(number(found.consensus));
        }
        row.push(String::new());
        row
    }

    /// The line of an image that has no caption; empty for text, which has only captions.
    pub fn error(self, image: &str, reason: &str) -> Result<String> {
        match self.format {
            Format::Text => Ok(String::new()),
            Format::Jsonl => Ok(json!({"image": image, "error": reason}).to_string() + "\n"),
            Format::Csv => {
                let mut row = vec![String::new(); self.columns().len()];
                row[0] = image.to_string();
                row.pop();
                row.push(reason.to_string());
                csv_rows(&[row])
            }
        }
    }
}

fn json_line(image: &str, rank: usize, caption: &Caption) -> Result<String> {
    let mut line = Map::new();
    line.insert("image".into(), image.into());
    line.insert("rank".into(), rank.into());
    let Value::Object(fields) = serde_json::to_value(caption)? else {
        unreachable!("a struct is an object");
    };
    line.extend(fields);
    Ok(Value::Object(line).to_string() + "\n")
}

fn csv_rows(rows: &[Vec<String>]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    let bytes = writer.into_inner().context("writing a table")?;
    Ok(String::from_utf8(bytes)?)
}

/// A caption without the line breaks that a model may have put in it.
pub fn one_line(caption: &str) -> String {
    caption
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
