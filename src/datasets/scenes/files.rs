//! Scenes as a data set on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{GENERATOR_VERSION, SIDE, draw, scene};
use crate::files::{self, Lock};

/// How long another process that makes the same set is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Makes sure that `folder` holds the first `count` scenes of `seed` as PNG files with COCO caption annotations, and
/// returns the annotation file. A complete set is left as it is, and one that another process is making is waited for.
pub fn ensure(folder: &Path, seed: u64, count: usize) -> Result<PathBuf> {
    let annotations = folder.join("captions.json");
    let info = info(seed, count);
    if is_complete(&annotations, &info) {
        return Ok(annotations);
    }
    let images = folder.join("images");
    files::create_dir(&images)?;
    let _lock = Lock::wait_at_most(folder, PATIENCE, &|_| ())?;
    // Another process may have made it while it was waited for.
    if is_complete(&annotations, &info) {
        return Ok(annotations);
    }
    for index in 0..count {
        let path = images.join(file_name(index));
        let image = draw(&scene(seed, index as u64));
        let mut png = Vec::new();
        image
            .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
            .with_context(|| format!("encoding {}", path.display()))?;
        files::write_atomic(&path, |writer| writer.write_all(&png))?;
    }
    // Last: its presence says that the images are there.
    files::write_json(&annotations, &annotation(seed, count, info))?;
    Ok(annotations)
}

fn is_complete(annotations: &Path, info: &serde_json::Value) -> bool {
    let text = std::fs::read_to_string(annotations).ok();
    let present = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    present.is_some_and(|present| present["info"] == *info)
}

fn file_name(index: usize) -> String {
    format!("{index:06}.png")
}

fn info(seed: u64, count: usize) -> serde_json::Value {
    json!({
        "description": "Generated scenes of shapes with captions",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "count": count,
    })
}

fn annotation(seed: u64, count: usize, info: serde_json::Value) -> serde_json::Value {
    let mut images = Vec::with_capacity(count);
    let mut annotations = Vec::with_capacity(5 * count);
    for index in 0..count {
        let scene = scene(seed, index as u64);
        images.push(json!({
            "id": index, "file_name": file_name(index), "width": SIDE, "height": SIDE, "main": scene.kind(),
        }));
        for caption in &scene.captions {
            annotations
                .push(json!({"id": annotations.len(), "image_id": index, "caption": caption}));
        }
    }
    json!({"info": info, "licenses": [], "images": images, "annotations": annotations})
}
