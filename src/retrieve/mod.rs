//! Datastores: embeddings of captions or images on disk, to be searched for what is nearest to another embedding.
//!
//! ```text
//! index.json              what it holds, the encoder that embedded it, its finished segments
//! embeddings-0001.f32     a segment's embeddings, of length 1: rows of float32, mapped into memory
//! entries-0001.jsonl      what each row is of, a line each, with the row's checksum
//! graph.hnsw              the graph that finds neighbors among many rows (Malkov and Yashunin 2016)
//! *.partial               a segment that is being built
//! ```
//!
//! A segment is never changed once it is finished: more entries are more segments, and a copy may share its files.

mod build;
mod graph;
mod manifest;
mod nearest;
mod project;
mod segment;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;
use graph::Graph;
use manifest::Manifest;
use segment::Segment;

pub use build::{Builder, Built};
pub use manifest::Encoder;
pub use nearest::{Hit, Keep};
pub use project::TEMPERATURE;

/// The folder of a model's own datastore, in its model folder.
pub const FOLDER: &str = "datastore";

/// Entries from which a graph is searched instead of all of them.
pub const EXACT_BELOW: usize = 100_000;

/// What a datastore's entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Captions,
    Images,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Captions => "captions",
            Self::Images => "images",
        })
    }
}

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A caption, or an image's path.
    pub entry: String,
    /// The id of the image that a caption is of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// An open datastore, whose files have been checked.
#[derive(Debug)]
pub struct Datastore {
    path: PathBuf,
    manifest: Manifest,
    segments: Vec<Segment>,
    /// The first row of each segment, and the end.
    starts: Vec<usize>,
    graph: Option<Graph>,
}

impl Datastore {
    /// Opens a folder, and reads it once to check it.
    ///
    /// # Errors
    /// When it is no datastore, is damaged, or its building was not finished; the message names the file and the fix.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = Manifest::open(path)?;
        let mut segments = Vec::new();
        for number in 0..manifest.segments.len() {
            segments.push(Segment::open(path, &manifest, number)?);
        }
        let mut starts = vec![0];
        for segment in &segments {
            starts.push(starts[starts.len() - 1] + segment.entries.len());
        }
        let graph = match &manifest.graph {
            Some(known) => Some(Graph::open(path, known)?),
            None => None,
        };
        let datastore = Self {
            path: path.to_path_buf(),
            manifest,
            segments,
            starts,
            graph,
        };
        if datastore.is_empty() {
            bail!(
                "{} holds nothing: building it was not finished; run the same `index` again",
                path.display()
            );
        }
        Ok(datastore)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the entries are.
    pub fn kind(&self) -> Kind {
        self.manifest.kind
    }

    /// The encoder that embedded them.
    pub fn encoder(&self) -> &Encoder {
        &self.manifest.encoder
    }

    /// Entries in all.
    pub fn len(&self) -> usize {
        self.starts[self.segments.len()]
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a graph is searched: there is one, of all entries.
    pub fn has_graph(&self) -> bool {
        (self.graph.as_ref()).is_some_and(|graph| graph.len() == self.len())
    }

    /// What a row is of.
    pub fn entry(&self, row: usize) -> &Entry {
        let segment = self.starts.partition_point(|&start| start <= row) - 1;
        &self.segments[segment].entries[row - self.starts[segment]]
    }

    /// An entry's embedding, of length 1.
    pub fn embedding(&self, row: usize) -> &[f32] {
        self.rows().row(row)
    }

    fn rows(&self) -> segment::Rows<'_> {
        segment::Rows {
            segments: &self.segments,
            starts: &self.starts,
        }
    }

    /// # Errors
    /// When another encoder embedded the entries: what it calls near, this one does not.
    pub fn check_encoder(&self, encoder: &Encoder) -> Result<()> {
        self.manifest.check_encoder(&self.path, encoder)
    }

    /// # Errors
    /// When the entries are not of this kind; `purpose` says what needs them.
    pub fn check_kind(&self, kind: Kind, purpose: &str) -> Result<()> {
        if self.kind() != kind {
            bail!(
                "{} holds {}, and {purpose} needs {kind}: build one of {kind} with `clipcap index`",
                self.path.display(),
                self.kind()
            );
        }
        Ok(())
    }

    /// Gives another folder the same datastore, without copying where the file system can.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn link_to(&self, folder: &Path) -> Result<()> {
        files::create_dir(folder)?;
        let mut names: Vec<String> = vec![manifest::FILE.to_string()];
        for number in 0..self.segments.len() {
            names.extend(segment::names(number));
        }
        if self.graph.is_some() {
            names.push(graph::FILE.to_string());
        }
        for name in names {
            files::link_or_copy(&self.path.join(&name), &folder.join(&name))
                .with_context(|| format!("copying {}", self.path.display()))?;
        }
        Ok(())
    }
}

/// Whether a folder has a datastore that nobody is still building.
pub fn is_finished(folder: &Path) -> bool {
    Manifest::open(folder).is_ok_and(|manifest| !manifest.unfinished && manifest.len() > 0)
}

/// What tells a datastore's contents from others', in hexadecimal: a hash of its kind, its encoder and the checksums of its
/// finished segments.
///
/// # Errors
/// When the folder is no datastore.
pub fn fingerprint(folder: &Path) -> Result<String> {
    let manifest = Manifest::open(folder)?;
    let contents = (
        manifest.kind,
        &manifest.encoder.fingerprint,
        &manifest.segments,
    );
    Ok(files::hex(&Sha256::digest(serde_json::to_vec(&contents)?)))
}

/// What to do about a file of a datastore that is not as it was written.
fn damaged(file: &Path, what: impl std::fmt::Display) -> anyhow::Error {
    let folder = file.parent().unwrap_or(Path::new("."));
    anyhow::anyhow!(
        "{} is damaged ({what}): delete {} and build it again with `clipcap index`",
        file.display(),
        folder.display()
    )
}

#[cfg(test)]
mod tests;
