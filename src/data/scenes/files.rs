//! Scenes as a data set on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{GENERATOR_VERSION, SIDE, draw, scene};
use crate::files;

/// Makes sure that `folder` holds the first `count` scenes of `seed` as PNG files with COCO caption annotations, and
/// returns the annotation file. A complete set is left as it is.
pub fn ensure(folder: &Path, seed: u64, count: usize) -> Result<PathBuf> {
    let annotations = folder.join("captions.json");
    let info = info(seed, count);
    if let Ok(text) = std::fs::read_to_string(&annotations)
        && let Ok(present) = serde_json::from_str::<serde_json::Value>(&text)
        && present["info"] == info
    {
        return Ok(annotations);
    }
    let images = folder.join("images");
    files::create_dir(&images)?;
    for index in 0..count {
        let path = images.join(file_name(index));
        let picture = draw(&scene(seed, index as u64));
        let mut png = Vec::new();
        picture
            .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
            .with_context(|| format!("encoding {}", path.display()))?;
        std::fs::write(&path, png).with_context(|| {
            format!(
                "cannot write {}: check permissions and free space",
                path.display()
            )
        })?;
    }
    // Last: its presence says that the pictures are there.
    files::write_json(&annotations, &annotation(seed, count, info))?;
    Ok(annotations)
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
