//! Picture embeddings, computed once a picture and kept in a file.
//!
//! While they are computed, rows are appended to `<key>.partial`, so that a run that is cut off goes on where it was. A
//! whole set is `<key>.safetensors`, with the sha256 of its values, which is checked whenever it is read. The row of a
//! picture that could not be read is not a number; the next run tries it again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::picture_source::PictureSource;
use crate::captioner::ImageEncoder;
use crate::files;
use crate::model_folder::ModelFolder;
use crate::picture::PictureError;

/// Pictures encoded together: enough to keep the cores busy, few enough to keep memory flat.
const BATCH: usize = 32;

/// Embeddings in the order of the pictures asked for, and the pictures that could not be read.
#[derive(Debug, Default)]
pub struct Embeddings {
    /// `None` where the picture could not be read.
    pub rows: Vec<Option<Vec<f32>>>,
    pub unreadable: Vec<PictureError>,
}

/// Embeds pictures, or reads what an earlier call kept in `folder`.
///
/// The cache file's name is a hash of CLIP's weights, the preprocessing, and every picture's place, size and time of
/// change, so a changed picture or encoder is never mistaken for an old one. `progress` is told how many are done.
///
/// # Errors
/// When the cache is damaged or cannot be written, or the device fails; an unreadable picture is no error.
pub fn cached(
    folder: &Path,
    model: &ModelFolder,
    encoder: &ImageEncoder,
    pictures: &[PictureSource],
    progress: &dyn Fn(usize),
) -> Result<Embeddings> {
    let mut hash = cache_hash(model)?;
    for picture in pictures {
        picture.fingerprint(&mut hash);
    }
    let cache = Cache::new(folder, hash, model, pictures.len())?;
    let mut unreadable = Vec::new();
    let embed = |part: Range<usize>| embed(encoder, &pictures[part], &mut unreadable);
    let mut rows = cache.fill(progress, embed)?;
    // What an earlier run could not read is tried again.
    if unreadable.is_empty() && retry(encoder, pictures, &mut rows, &mut unreadable)? {
        cache.write(&rows)?;
    }
    Ok(Embeddings { rows, unreadable })
}

/// Embeds pictures and keeps nothing.
pub fn uncached(
    encoder: &ImageEncoder,
    pictures: &[PictureSource],
    progress: &dyn Fn(usize),
) -> Result<Embeddings> {
    let mut found = Embeddings::default();
    for chunk in pictures.chunks(BATCH) {
        let rows = embed(encoder, chunk, &mut found.unreadable)?;
        found.rows.extend(rows);
        progress(found.rows.len());
    }
    Ok(found)
}

/// Embeds sentences, or reads what an earlier call kept in `folder`; see [`cached`].
pub fn cached_texts(
    folder: &Path,
    model: &ModelFolder,
    encoder: &ImageEncoder,
    texts: &[String],
    progress: &dyn Fn(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut hash = cache_hash(model)?;
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    let cache = Cache::new(folder, hash, model, texts.len())?;
    let rows = cache.fill(progress, |part| {
        let rows = encoder.embed_texts(&texts[part])?;
        Ok(rows.into_iter().map(Some).collect())
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Embeds a few pictures: decoding on all cores, CLIP in one batch.
fn embed(
    encoder: &ImageEncoder,
    pictures: &[PictureSource],
    unreadable: &mut Vec<PictureError>,
) -> Result<Vec<Option<Vec<f32>>>> {
    let crops: Vec<Result<RgbImage, PictureError>> = pictures
        .par_iter()
        .map(|picture| picture.open().map(|image| encoder.crop(&image)))
        .collect();
    let readable: Vec<RgbImage> = crops.iter().flatten().cloned().collect();
    let mut embedded = encoder.embed(&readable)?.into_iter();
    let row = |crop| match crop {
        Ok(_) => embedded.next(),
        Err(error) => {
            unreadable.push(error);
            None
        }
    };
    Ok(crops.into_iter().map(row).collect())
}

/// Tries again what an earlier run could not read; whether there is anything new.
fn retry(
    encoder: &ImageEncoder,
    pictures: &[PictureSource],
    rows: &mut [Option<Vec<f32>>],
    unreadable: &mut Vec<PictureError>,
) -> Result<bool> {
    let missing: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].is_none()).collect();
    let mut grew = false;
    for chunk in missing.chunks(BATCH) {
        let again: Vec<PictureSource> = chunk.iter().map(|&i| pictures[i].clone()).collect();
        for (&i, row) in chunk.iter().zip(embed(encoder, &again, unreadable)?) {
            grew |= row.is_some();
            rows[i] = row;
        }
    }
    Ok(grew)
}

/// What every embedding depends on.
fn cache_hash(model: &ModelFolder) -> Result<Sha256> {
    let mut hash = Sha256::new();
    hash.update(model.picture_fingerprint()?);
    Ok(hash)
}

/// The files of one set of embeddings.
struct Cache {
    whole: PathBuf,
    partial: PathBuf,
    width: usize,
    count: usize,
}

/// An open partial file.
struct Partial<'a> {
    path: &'a Path,
    writer: BufWriter<File>,
    width: usize,
}

impl Cache {
    fn new(folder: &Path, hash: Sha256, model: &ModelFolder, count: usize) -> Result<Self> {
        files::create_dir(folder)?;
        let width = model.embedding_dim()?;
        Ok(Self::named(
            folder,
            &files::hex(&hash.finalize()[..12]),
            width,
            count,
        ))
    }

    fn named(folder: &Path, key: &str, width: usize, count: usize) -> Self {
        Self {
            whole: folder.join(format!("{key}.safetensors")),
            partial: folder.join(format!("{key}.partial")),
            width,
            count,
        }
    }

    /// All rows: from the whole file, or from the partial one and `embed` for what it lacks.
    fn fill(
        &self,
        progress: &dyn Fn(usize),
        mut embed: impl FnMut(Range<usize>) -> Result<Vec<Option<Vec<f32>>>>,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        if let Some(rows) = self.read()? {
            progress(rows.len());
            return Ok(rows);
        }
        let mut rows = self.read_partial()?;
        let mut partial = self.append(&rows)?;
        while rows.len() < self.count {
            let new = embed(rows.len()..self.count.min(rows.len() + BATCH))?;
            partial.add(&new)?;
            rows.extend(new);
            progress(rows.len());
        }
        self.write(&rows)?;
        Ok(rows)
    }

    /// The whole set, if there is one.
    fn read(&self) -> Result<Option<Vec<Option<Vec<f32>>>>> {
        if !self.whole.is_file() {
            return Ok(None);
        }
        let damaged = || {
            format!(
                "{} is damaged: delete it and run again",
                self.whole.display()
            )
        };
        let bytes = fs::read(&self.whole)
            .with_context(|| format!("cannot read {}", self.whole.display()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(damaged)?;
        let tensor = tensors.tensor("clip_embedding").with_context(damaged)?;
        let sha256 = metadata
            .metadata()
            .as_ref()
            .and_then(|all| all.get("sha256"));
        if tensor.dtype() != Dtype::F32
            || tensor.shape() != [self.count, self.width]
            || sha256 != Some(&files::hex(&Sha256::digest(tensor.data())))
        {
            bail!(damaged());
        }
        Ok(Some(rows(tensor.data(), self.width)))
    }

    /// The rows that an earlier run got done; a row cut short is done again.
    fn read_partial(&self) -> Result<Vec<Option<Vec<f32>>>> {
        let mut bytes = Vec::new();
        match File::open(&self.partial) {
            Ok(mut file) => file
                .read_to_end(&mut bytes)
                .with_context(|| format!("cannot read {}", self.partial.display()))?,
            Err(_) => 0,
        };
        let mut rows = rows(&bytes, self.width);
        rows.truncate(self.count);
        Ok(rows)
    }

    /// Begins the partial file anew with the rows there are.
    fn append(&self, rows: &[Option<Vec<f32>>]) -> Result<Partial<'_>> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&self.partial)
            .with_context(|| self.cannot_write(&self.partial))?;
        let mut partial = Partial {
            path: &self.partial,
            writer: BufWriter::new(file),
            width: self.width,
        };
        partial.add(rows)?;
        Ok(partial)
    }

    fn write(&self, rows: &[Option<Vec<f32>>]) -> Result<()> {
        let data = bytes(rows, self.width);
        let sha256 = HashMap::from([("sha256".to_string(), files::hex(&Sha256::digest(&data)))]);
        let view = TensorView::new(Dtype::F32, vec![rows.len(), self.width], &data)?;
        let serialized = safetensors::serialize([("clip_embedding", view)], Some(sha256))?;
        files::write_atomic(&self.whole, |writer| writer.write_all(&serialized))?;
        // What is left of it does no harm.
        let _ = fs::remove_file(&self.partial);
        Ok(())
    }

    fn cannot_write(&self, path: &Path) -> String {
        format!(
            "cannot write {}: check permissions and free space",
            path.display()
        )
    }
}

impl Partial<'_> {
    fn add(&mut self, rows: &[Option<Vec<f32>>]) -> Result<()> {
        self.writer
            .write_all(&bytes(rows, self.width))
            .and_then(|()| self.writer.flush())
            .with_context(|| {
                format!(
                    "cannot write {}: check permissions and free space",
                    self.path.display()
                )
            })
    }
}

fn bytes(rows: &[Option<Vec<f32>>], width: usize) -> Vec<u8> {
    let hole = vec![f32::NAN; width];
    rows.iter()
        .flat_map(|row| row.as_ref().unwrap_or(&hole))
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn rows(bytes: &[u8], width: usize) -> Vec<Option<Vec<f32>>> {
    bytes
        .chunks_exact(4 * width)
        .map(|row| {
            let (values, _) = row.as_chunks::<4>();
            let row: Vec<f32> = values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            (!row[0].is_nan()).then_some(row)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path, count: usize) -> Cache {
        Cache::named(folder, "key", 2, count)
    }

    #[test]
    fn embeddings_come_back_as_they_were_written_holes_too() {
        let folder = tempfile::tempdir().unwrap();
        let rows = vec![Some(vec![1.0, -2.5]), None, Some(vec![0.0, 1e-9])];
        cache(folder.path(), 3).write(&rows).unwrap();
        assert_eq!(cache(folder.path(), 3).read().unwrap(), Some(rows));
    }

    #[test]
    fn a_cache_of_another_length_or_with_other_bytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), 1)
            .write(&[Some(vec![1.0, -2.5])])
            .unwrap();
        let refused = |count| {
            let error = format!("{:#}", cache(folder.path(), count).read().unwrap_err());
            assert!(
                error.contains("key.safetensors is damaged: delete it"),
                "{error}"
            );
        };
        refused(2);
        let path = folder.path().join("key.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        refused(1);
        fs::write(&path, b"not it").unwrap();
        refused(1);
    }

    #[test]
    fn what_was_cut_off_goes_on_after_its_last_whole_row() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [Some(vec![1.0, 2.0]), Some(vec![3.0, 4.0])];
        drop(cache(folder.path(), 5).append(&rows).unwrap());
        let path = folder.path().join("key.partial");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([7, 7, 7]);
        fs::write(&path, bytes).unwrap();
        assert_eq!(cache(folder.path(), 5).read_partial().unwrap(), rows);
        assert_eq!(cache(folder.path(), 5).read().unwrap(), None);
    }
}
