//! Picture embeddings, computed once a picture and kept in a file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::captioner::ImageEncoder;
use crate::files;
use crate::model_folder::{ModelFolder, Part};
use crate::picture::{self, PictureError};

/// Pictures encoded together: enough to keep the cores busy, few enough to keep memory flat.
const BATCH: usize = 32;

/// Embeddings in the order of the files asked for, and the files that could not be read.
#[derive(Debug, Default)]
pub struct Embeddings {
    /// `None` where the file could not be read.
    pub rows: Vec<Option<Vec<f32>>>,
    pub unreadable: Vec<PictureError>,
    /// The cache file they were read from, or written to.
    pub cache: PathBuf,
}

/// Embeds picture files, or reads what an earlier call kept in `folder`.
///
/// The cache file's name is a hash of CLIP's weights, the preprocessing, and every file's path, size and time of change,
/// so a changed picture or encoder is never mistaken for an old one. `progress` is told how many are done.
pub fn cached(
    folder: &Path,
    model: &ModelFolder,
    encoder: &ImageEncoder,
    paths: &[PathBuf],
    progress: &dyn Fn(usize),
) -> Result<Embeddings> {
    let cache = folder.join(format!("{}.safetensors", cache_key(model, paths)?));
    if cache.is_file() {
        let rows = read(&cache, paths.len())?;
        progress(paths.len());
        return Ok(Embeddings {
            rows,
            unreadable: Vec::new(),
            cache,
        });
    }
    let mut embeddings = embed(encoder, paths, progress)?;
    // A set with holes is not kept: the user may mend the files and come back.
    if embeddings.unreadable.is_empty() && !paths.is_empty() {
        files::create_dir(folder)?;
        write(&cache, &embeddings.rows)?;
    }
    embeddings.cache = cache;
    Ok(embeddings)
}

/// Embeds picture files: decoding on all cores, CLIP in batches.
pub fn embed(
    encoder: &ImageEncoder,
    paths: &[PathBuf],
    progress: &dyn Fn(usize),
) -> Result<Embeddings> {
    let mut all = Embeddings::default();
    for chunk in paths.chunks(BATCH) {
        let crops: Vec<Result<RgbImage, PictureError>> = chunk
            .par_iter()
            .map(|path| picture::open(path).map(|image| encoder.crop(&image)))
            .collect();
        let readable: Vec<RgbImage> = crops
            .iter()
            .filter_map(|crop| crop.as_ref().ok().cloned())
            .collect();
        let mut rows = encoder.embed(&readable)?.into_iter();
        for crop in crops {
            match crop {
                Ok(_) => all.rows.push(rows.next()),
                Err(error) => {
                    all.rows.push(None);
                    all.unreadable.push(error);
                }
            }
        }
        progress(all.rows.len());
    }
    Ok(all)
}

fn cache_key(model: &ModelFolder, paths: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(files::sha256(&model.path.join(Part::Clip.file_name()))?);
    hash.update(serde_json::to_vec(model.encoder_config()?)?);
    for path in paths {
        hash.update(path.as_os_str().as_encoded_bytes());
        if let Ok(metadata) = fs::metadata(path) {
            hash.update(metadata.len().to_le_bytes());
            let changed = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
        }
    }
    Ok(files::hex(&hash.finalize()[..12]))
}

fn write(path: &Path, rows: &[Option<Vec<f32>>]) -> Result<()> {
    let width = rows.iter().flatten().map(Vec::len).next().unwrap_or(0);
    let bytes: Vec<u8> = rows
        .iter()
        .flatten()
        .flatten()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![rows.len(), width], &bytes)?;
    let serialized =
        safetensors::serialize([("clip_embedding", view)], None::<HashMap<String, String>>)?;
    files::write_atomic(path, |writer| writer.write_all(&serialized))
}

fn read(path: &Path, count: usize) -> Result<Vec<Option<Vec<f32>>>> {
    let damaged = || format!("{} is damaged: delete it and run again", path.display());
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tensors = SafeTensors::deserialize(&bytes).with_context(damaged)?;
    let tensor = tensors.tensor("clip_embedding").with_context(damaged)?;
    let [rows, width] = *tensor.shape() else {
        bail!(damaged());
    };
    if rows != count || tensor.dtype() != Dtype::F32 || width == 0 {
        bail!(damaged());
    }
    let values: Vec<f32> = tensor
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    Ok(values.chunks(width).map(|row| Some(row.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.safetensors");
        let rows = vec![Some(vec![1.0, -2.5]), Some(vec![0.0, 1e-9])];
        write(&path, &rows).unwrap();
        assert_eq!(read(&path, 2).unwrap(), rows);
    }

    #[test]
    fn a_cache_of_another_length_or_with_other_bytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.safetensors");
        write(&path, &[Some(vec![1.0, -2.5])]).unwrap();
        assert!(format!("{:#}", read(&path, 2).unwrap_err()).contains("e.safetensors is damaged"));
        fs::write(&path, b"not it").unwrap();
        assert!(format!("{:#}", read(&path, 1).unwrap_err()).contains("delete it"));
    }
}
