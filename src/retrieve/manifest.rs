//! `index.json`: what a datastore holds.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Kind, damaged};
use crate::files;

/// Its name.
pub const FILE: &str = "index.json";
/// The format that is written and read.
const FORMAT: u32 = 1;

/// What embedded the entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// What the model was called.
    pub model: String,
    /// The sha256 of its weights and settings: what tells it from others, whatever they are called.
    pub fingerprint: String,
    /// Values of an embedding.
    pub width: usize,
}

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub kind: Kind,
    pub encoder: Encoder,
    /// Whether somebody is building it, or was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// What is being added, as its builder calls it: a build that was cut off is finished by the same one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding: Option<String>,
    /// The finished ones, in order.
    pub segments: Vec<Known>,
    /// The graph over the first of the entries, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Known>,
}

/// A file of entries, or over them, and what tells whether it is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub entries: usize,
    /// CRC-32C of the file; of a segment the one with the entries, which has the embeddings' in it.
    pub crc32c: u32,
}

impl Manifest {
    /// Of a datastore without entries.
    pub fn new(kind: Kind, encoder: Encoder) -> Self {
        Self {
            format: FORMAT,
            kind,
            encoder,
            unfinished: true,
            adding: None,
            segments: Vec::new(),
            graph: None,
        }
    }

    /// Reads it from a datastore's folder.
    ///
    /// # Errors
    /// When there is none, or it is of another format.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            bail!(
                "{} is not a datastore: it has no {FILE}; `clipcap index` builds one",
                folder.display()
            );
        }
        let manifest: Self = files::read_json(&path).map_err(|error| {
            let error = format!("{:#}", error.root_cause());
            damaged(&path, error)
        })?;
        ensure!(
            manifest.format == FORMAT,
            "{} is of format {}, and this program reads {FORMAT}: build it again with `clipcap index`",
            path.display(),
            manifest.format
        );
        ensure!(
            (1..=1 << 20).contains(&manifest.encoder.width),
            "{}: embeddings of {} values make no sense: build it again with `clipcap index`",
            path.display(),
            manifest.encoder.width
        );
        Ok(manifest)
    }

    /// Writes it into a datastore's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_json(&folder.join(FILE), self)
    }

    /// Entries in finished segments.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.entries).sum()
    }

    /// # Errors
    /// When another encoder embedded the entries.
    pub fn check_encoder(&self, folder: &Path, encoder: &Encoder) -> Result<()> {
        let own = &self.encoder;
        if own.fingerprint == encoder.fingerprint && own.width == encoder.width {
            return Ok(());
        }
        let short = |encoder: &Encoder| encoder.fingerprint.chars().take(12).collect::<String>();
        bail!(
            "{} was embedded by the encoder of {} ({}, {} values), and {} has another ({}, {} values): build one with `clipcap index --model {}`",
            folder.display(),
            own.model,
            short(own),
            own.width,
            encoder.model,
            short(encoder),
            encoder.width,
            encoder.model
        )
    }
}
