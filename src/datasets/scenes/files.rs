//! Scenes as a data set on disk.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{GENERATOR_VERSION, SIDE, draw, scene};
use crate::files::{self, Lock};

/// How long another process that makes the same set is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a set's annotations say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInfo {
    description: String,
    generator_version: u32,
    pub seed: u64,
    pub count: usize,
}

impl SetInfo {
    fn new(seed: u64, count: usize) -> Self {
        Self {
            description: "Generated scenes of shapes with captions".to_string(),
            generator_version: GENERATOR_VERSION,
            seed,
            count,
        }
    }

    /// That of an annotation file; `None` of any file but a set's.
    fn read(annotations: &Path) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            info: SetInfo,
        }
        let file = File::open(annotations).ok()?;
        let head: Head = serde_json::from_reader(BufReader::new(file)).ok()?;
        Some(head.info)
    }

    /// That of the annotations of a set that this version made; `None` of any other file.
    pub fn find(annotations: &Path) -> Option<Self> {
        Self::read(annotations).filter(|info| *info == Self::new(info.seed, info.count))
    }
}

/// Makes sure that `folder` holds the first `count` scenes of `seed` as PNG files with COCO caption annotations, and
/// returns the annotation file. A complete set is left as it is, and one that another process is making is waited for.
pub fn ensure(folder: &Path, seed: u64, count: usize) -> Result<PathBuf> {
    let annotations = folder.join("captions.json");
    let info = SetInfo::new(seed, count);
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
    files::write_json(&annotations, &annotation(seed, count, &info))?;
    Ok(annotations)
}

fn is_complete(annotations: &Path, info: &SetInfo) -> bool {
    SetInfo::read(annotations).is_some_and(|present| present == *info)
}

fn file_name(index: usize) -> String {
    format!("{index:06}.png")
}

fn annotation(seed: u64, count: usize, info: &SetInfo) -> serde_json::Value {
    let mut images = Vec::with_capacity(count);
    let mut annotations = Vec::with_capacity(5 * count);
    for index in 0..count {
        let scene = scene(seed, index as u64);
        images.push(json!({
            "id": index, "file_name": file_name(index), "width": SIDE, "height": SIDE,
        }));
        for caption in &scene.captions {
            annotations
                .push(json!({"id": annotations.len(), "image_id": index, "caption": caption}));
        }
    }
    json!({"info": info, "licenses": [], "images": images, "annotations": annotations})
}
