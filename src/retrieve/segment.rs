//! A finished stretch of a datastore: its entries in memory, its embeddings mapped.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use cpu_kernels::memory::MappedFloats;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::{Entry, damaged};

/// A line of the entries' file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    #[serde(flatten)]
    pub entry: Entry,
    /// CRC-32C of the embedding's bytes.
    pub crc32c: u32,
}

/// The names of a segment's files, its embeddings' first.
pub fn names(number: usize) -> [String; 2] {
    let number = number + 1;
    [
        format!("embeddings-{number:04}.f32"),
        format!("entries-{number:04}.jsonl"),
    ]
}

/// An embedding as it is written.
pub fn bytes(row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The checksum of an embedding.
pub fn checksum(row: &[f32]) -> u32 {
    crc32c::crc32c(&bytes(row))
}

/// A checked segment.
#[derive(Debug)]
pub struct Segment {
    pub entries: Vec<Entry>,
    /// `[entries, width]`
    pub embeddings: MappedFloats,
}

impl Segment {
    /// Opens a finished segment, and checks every byte of it.
    pub fn open(folder: &Path, manifest: &Manifest, number: usize) -> Result<Self> {
        let [embeddings, entries] = names(number).map(|name| folder.join(name));
        let known = manifest.segments[number];
        let text = fs::read(&entries).map_err(|error| damaged(&entries, error))?;
        if crc32c::crc32c(&text) != known.crc32c {
            return Err(damaged(&entries, "its checksum is another"));
        }
        let lines: Vec<Line> = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|error| damaged(&entries, error))?;
        if lines.len() != known.entries {
            let what = format!("{} entries instead of {}", lines.len(), known.entries);
            return Err(damaged(&entries, what));
        }
        let unreadable = |error| damaged(&embeddings, error);
        let file = File::open(&embeddings).map_err(unreadable)?;
        let width = manifest.encoder.width;
        let expected = (4 * width * lines.len()) as u64;
        let found = file.metadata().map_err(unreadable)?.len();
        if found != expected {
            return Err(damaged(
                &embeddings,
                format!("{found} bytes instead of {expected}"),
            ));
        }
        let rows = MappedFloats::open(&file).map_err(unreadable)?;
        let wrong = (rows.par_chunks_exact(width).zip(&lines))
            .position_first(|(row, line)| checksum(row) != line.crc32c);
        if let Some(row) = wrong {
            let what = format!("the checksum of row {} is another", row + 1);
            return Err(damaged(&embeddings, what));
        }
        Ok(Self {
            entries: lines.into_iter().map(|line| line.entry).collect(),
            embeddings: rows,
        })
    }
}

/// The embeddings of all segments.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub segments: &'a [Segment],
    /// The first row of each segment, and the end.
    pub starts: &'a [usize],
}

impl<'a> Rows<'a> {
    pub fn len(self) -> usize {
        self.starts[self.segments.len()]
    }

    /// One embedding.
    pub fn row(self, row: usize) -> &'a [f32] {
        let segment = self.starts.partition_point(|&start| start <= row) - 1;
        let Segment {
            entries,
            embeddings,
        } = &self.segments[segment];
        let width = embeddings.len() / entries.len();
        &embeddings[(row - self.starts[segment]) * width..][..width]
    }

    /// So many rows of one segment, from one on.
    pub fn stretch(self, first: usize, count: usize, width: usize) -> &'a [f32] {
        let segment = self.starts.partition_point(|&start| start <= first) - 1;
        let start = (first - self.starts[segment]) * width;
        &self.segments[segment].embeddings[start..start + count * width]
    }

    /// Stretches of at most `count` rows, `[rows, width]`, each with its first row's number.
    pub fn stretches(self, width: usize, count: usize) -> impl Iterator<Item = (usize, &'a [f32])> {
        (self.segments.iter().zip(self.starts)).flat_map(move |(segment, &start)| {
            let stretches = segment.embeddings.chunks(count * width).enumerate();
            stretches.map(move |(i, rows)| (start + i * count, rows))
        })
    }
}
