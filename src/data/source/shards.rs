//! WebDataset shards: tar files whose members with the same name up to the first dot make one sample.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::{Collector, clean};
use crate::data::coco::ImageId;
use crate::data::picture_source::PictureSource;
use crate::picture::is_picture_name;

/// Largest caption file that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// What a `.json` member says of its picture.
#[derive(Deserialize)]
struct Member {
    #[serde(alias = "text", default)]
    caption: Option<String>,
    #[serde(default)]
    captions: Vec<String>,
}

/// The `.tar` files of a folder, by name.
pub fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).context("cannot be listed")? {
        let path = entry.context("cannot be listed")?.path();
        if path.extension().is_some_and(|ending| ending == "tar") {
            shards.push(path);
        }
    }
    shards.sort();
    Ok(shards)
}

/// Reads what is in shards. The pictures stay in them: only their places are noted.
pub fn read(shards: &[PathBuf], collector: &mut Collector) -> Result<()> {
    for shard in shards {
        read_shard(shard, collector).with_context(|| format!("shard {}", shard.display()))?;
    }
    Ok(())
}

fn read_shard(shard: &Path, collector: &mut Collector) -> Result<()> {
    let shared = Arc::new(shard.to_path_buf());
    let stem = shard
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut archive = tar::Archive::new(File::open(shard).context("cannot be opened")?);
    for member in archive.entries_with_seek().context("is not a tar file")? {
        let mut member = member.context("is not a whole tar file")?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let name = member
            .path()
            .context("has a member whose name cannot be read")?
            .to_string_lossy()
            .into_owned();
        let (key, ending) = split_name(&name);
        let id = ImageId::Text(format!("{stem}/{key}"));
        let (offset, size) = (member.raw_file_position(), member.size());
        // A sample begins with any of its members.
        let (image, _) = collector.image(id, || (format!("{stem}/{key}"), None));
        if is_picture_name(Path::new(&name)) {
            image.picture = Some(PictureSource::Member {
                shard: shared.clone(),
                name,
                offset,
                size,
            });
        } else if matches!(ending, "txt" | "caption" | "text" | "json") && size <= MAX_TEXT {
            let mut text = String::new();
            member
                .read_to_string(&mut text)
                .with_context(|| format!("member {name} is not text"))?;
            let captions = captions(ending, &text).with_context(|| format!("member {name}"))?;
            for caption in captions.iter().filter_map(|caption| clean(caption)) {
                // Many writers say the same in `.txt` and in `.json`.
                if !image.captions.contains(&caption) {
                    image.captions.push(caption);
                }
            }
        }
    }
    Ok(())
}

/// `a/b.seg.jpg` is sample `a/b`, member `seg.jpg`, whose last ending tells what it is.
fn split_name(name: &str) -> (&str, &str) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[base..].find('.').map_or(name.len(), |dot| base + dot);
    let ending = name[dot..].rsplit('.').next().unwrap_or_default();
    (&name[..dot], ending)
}

fn captions(ending: &str, text: &str) -> Result<Vec<String>> {
    if ending != "json" {
        return Ok(text.lines().map(String::from).collect());
    }
    let member: Member = serde_json::from_str(text).map_err(|error| anyhow!("{error}"))?;
    Ok(member.captions.into_iter().chain(member.caption).collect())
}
