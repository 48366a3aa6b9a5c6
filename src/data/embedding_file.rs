//! A file of embeddings whose rows are read when they are asked for, so that a data set's need not fit in memory.
//!
//! It is a safetensors file with one float32 tensor, `clip_embedding` `[rows, width]`, and the sha256 of its bytes. A row
//! that begins with what is not a number is missing.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use safetensors::tensor::{Dtype, Metadata};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::files;

/// The tensor's name.
const NAME: &str = "clip_embedding";
/// Longest header that is read: this file's has some 200 bytes.
const MAX_HEADER: u64 = 1 << 16;

/// One row of an [`EmbeddingFile`].
#[derive(Clone, Debug)]
pub struct Embedding {
    file: Arc<EmbeddingFile>,
    row: usize,
}

/// An open file, whose bytes have been checked.
#[derive(Debug)]
pub struct EmbeddingFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the rows begin.
    start: u64,
    width: usize,
    missing: Vec<bool>,
}

impl Embedding {
    /// The values.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn read(&self) -> Result<Vec<f32>> {
        let file = &self.file;
        (file.read(self.row)).with_context(|| format!("cannot read {}", file.path.display()))
    }
}

impl EmbeddingFile {
    /// Opens a file of `count` rows of `width` values, and reads it once to check it.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn open(path: &Path, count: usize, width: usize) -> Result<Self> {
        let damaged = || format!("{} is damaged: delete it and run again", path.display());
        let mut file =
            File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (start, sha256) = header(&mut file, count, width).with_context(damaged)?;
        let mut missing = Vec::with_capacity(count);
        let found = scan(&mut file, width, |row| missing.push(is_missing(row)));
        if missing.len() != count || found.with_context(damaged)? != sha256 {
            bail!(damaged());
        }
        Ok(Self {
            path: path.to_path_buf(),
            file: Mutex::new(file),
            start,
            width,
            missing,
        })
    }

    /// The rows; `None` of those that are missing.
    pub fn rows(self) -> Vec<Option<Embedding>> {
        let file = Arc::new(self);
        let row = |row| Embedding {
            file: file.clone(),
            row,
        };
        (0..file.missing.len())
            .map(|place| (!file.missing[place]).then(|| row(place)))
            .collect()
    }

    fn read(&self, row: usize) -> io::Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * self.width];
        // A reader that failed leaves nothing half done.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + (row * bytes.len()) as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(values(&bytes))
    }
}

/// Where the rows begin, and the sha256 they should have.
fn header(file: &mut File, count: usize, width: usize) -> Result<(u64, String)> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let size = u64::from_le_bytes(length);
    if size > MAX_HEADER {
        bail!("its header is too long");
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact(&mut bytes)?;
    let metadata: Metadata = serde_json::from_slice(&bytes)?;
    let start = 8 + size;
    let tensor = metadata.info(NAME).context("it holds no embeddings")?;
    let sha256 = (metadata.metadata().as_ref()).and_then(|all| all.get("sha256"));
    match sha256 {
        Some(sha256)
            if tensor.dtype == Dtype::F32
                && tensor.shape == [count, width]
                && file.metadata()?.len() == start + (4 * count * width) as u64 =>
        {
            Ok((start, sha256.clone()))
        }
        _ => bail!("it holds other embeddings"),
    }
}

/// Goes through what is left of a file, row by row, and gives its sha256. A row cut short is left out.
pub fn scan(file: impl Read, width: usize, mut each: impl FnMut(&[u8])) -> io::Result<String> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut hash = Sha256::new();
    let mut row = vec![0; 4 * width];
    loop {
        match reader.read_exact(&mut row) {
            Ok(()) => {
                hash.update(&row);
                each(&row);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files::hex(&hash.finalize()))
}

/// Writes `count` rows that `each` gives one after the other; it is called twice, first for their sha256.
pub fn write(
    path: &Path,
    count: usize,
    width: usize,
    each: impl Fn(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
) -> Result<()> {
    let mut hash = Sha256::new();
    each(&mut |row| {
        hash.update(row);
        Ok(())
    })
    .with_context(|| format!("writing {}", path.display()))?;
    let header = json!({
        "__metadata__": {"sha256": files::hex(&hash.finalize())},
        NAME: {
            "dtype": "F32",
            "shape": [count, width],
            "data_offsets": [0, 4 * count * width],
        },
    });
    let mut header = header.to_string();
    // Tensors begin at a multiple of 8 bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    files::write_atomic(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(header.as_bytes())?;
        each(&mut |row| writer.write_all(row))
    })
}

/// A row as bytes.
pub fn bytes(row: Option<&[f32]>, width: usize) -> Vec<u8> {
    let missing = vec![f32::NAN; width];
    let values = row.unwrap_or(&missing);
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn values(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

fn is_missing(row: &[u8]) -> bool {
    values(&row[..4])[0].is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use std::fs;

    fn write_rows(path: &Path, rows: &[Option<Vec<f32>>]) {
        write(path, rows.len(), 2, |give| {
            let mut rows = rows.iter();
            rows.try_for_each(|row| give(&bytes(row.as_deref(), 2)))
        })
        .unwrap();
    }

    #[test]
    fn embeddings_come_back_as_they_were_written_holes_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let rows = [Some(vec![1.0, -2.5]), None, Some(vec![0.0, 1e-9])];
        write_rows(&path, &rows);
        let found = EmbeddingFile::open(&path, 3, 2).unwrap().rows();
        // The last first: rows are found, not read in order.
        for (found, row) in found.iter().zip(&rows).rev() {
            assert_eq!(found.as_ref().map(|row| row.read().unwrap()), *row);
        }
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor(NAME).unwrap().shape(), [3, 2]);
    }

    #[test]
    fn a_file_of_another_length_or_with_other_bytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.safetensors");
        write_rows(&path, &[Some(vec![1.0, -2.5])]);
        let refused = |count| {
            let error = format!("{:#}", EmbeddingFile::open(&path, count, 2).unwrap_err());
            assert!(
                error.contains("key.safetensors is damaged: delete it"),
                "{error}"
            );
        };
        refused(2);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        refused(1);
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        refused(1);
        fs::write(&path, b"not it").unwrap();
        refused(1);
    }
}
