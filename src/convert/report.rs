//! What a conversion read, kept and dropped.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Dropped names shown before "and so many more".
const SHOWN: usize = 3;

/// A finished conversion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model folder.
    pub output: PathBuf,
    pub parts: Vec<PartReport>,
}

/// One part of the model folder. In `source.json` it stands under its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartReport {
    /// `clip`, `gpt2` or `mapper`.
    #[serde(skip)]
    pub part: &'static str,
    pub made_by: &'static str,
    pub version: &'static str,
    /// What was given on the command line.
    pub source: PathBuf,
    pub format: String,
    pub architecture: String,
    pub files: Vec<SourceFile>,
    pub tensors: usize,
    pub parameters: usize,
    /// Element types kept on disk.
    pub dtypes: Vec<String>,
    /// Tensors that no network needs.
    pub dropped: Vec<String>,
    pub notes: Vec<String>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceFile {
    pub name: String,
    pub sha256: String,
}

impl Report {
    /// Lines for a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.parts.iter().flat_map(PartReport::lines).collect();
        lines.push(format!("wrote {}", self.output.display()));
        lines
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl PartReport {
    /// The files that were taken, of those that there are.
    fn file_names(&self) -> String {
        match &self.files[..] {
            [] => "no file".into(),
            [file] => file.name.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{:<7} {} ({}: {})",
                self.part,
                self.source.display(),
                self.file_names(),
                self.format
            ),
            format!("        {}", self.architecture),
            format!(
                "        kept {} tensors, {} parameters, {}",
                self.tensors,
                self.parameters,
                self.dtypes.join(" and ")
            ),
        ];
        if !self.dropped.is_empty() {
            let shown = self.dropped[..self.dropped.len().min(SHOWN)].join(", ");
            let more = match self.dropped.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            lines.push(format!("        dropped {shown}{more}"));
        }
        lines.extend(
            self.notes
                .iter()
                .map(|note| format!("        note: {note}")),
        );
        lines
    }
}
