//! WebDataset shards: tar files whose members with the same name up to the first dot make one sample.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::collector::Collector;
use crate::data::coco::ImageId;
use crate::data::image_source::ImageSource;
use crate::data::shard_members::{
    self, MAX_IMAGE, Member, is_shard, large_image, long_name, split_name, text_ending,
};
use crate::data::text::cell::{CAPTION, Entry};
use crate::data::text::json::read_document;
use crate::data::text::{clean, decode, reader};
use crate::images::format::{SNIFF_BYTES, has_image_ending, sniff};
use crate::inputs::is_hidden;
use crate::path_text::one_line;

/// Largest caption file that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// Passes over what is beside shards.
///
/// # Errors
/// When the folder cannot be listed.
pub fn note_others(folder: &Path, collector: &mut Collector) -> Result<()> {
    for entry in fs::read_dir(folder).context("cannot be listed")? {
        let path = entry.context("cannot be listed")?.path();
        let is_seen = path.file_name().is_some_and(|name| !is_hidden(name));
        if is_seen && !(is_shard(&path) && path.is_file()) {
            collector.pass_over(&path);
        }
    }
    Ok(())
}

/// Reads what is in shards. The images stay in them: only their places are noted.
///
/// # Errors
/// When a shard is not a whole tar file. A member that cannot be used is left out.
pub fn read(shards: &[PathBuf], collector: &mut Collector) -> Result<()> {
    for shard in shards {
        let mut reader = Shard::new(shard);
        reader.read(collector).with_context(|| {
            format!(
                "shard {}: download it again, or take it out",
                shard.display()
            )
        })?;
    }
    Ok(())
}

/// A shard that is being read.
struct Shard<'a> {
    path: &'a Path,
    shared: Arc<PathBuf>,
    /// Its name without endings, which ids begin with.
    stem: String,
    /// The ending of each sample's image.
    images: HashMap<usize, String>,
}

impl<'a> Shard<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            shared: Arc::new(path.to_path_buf()),
            stem: shard_members::stem(path),
            images: HashMap::new(),
        }
    }

    fn read(&mut self, collector: &mut Collector) -> Result<()> {
        let shard = format!("shard {}", self.path.display());
        shard_members::walk(self.path, |mut member| {
            if let Some(length) = member.long_name {
                let place = format!("{shard}: member {}", one_line(&member.path));
                collector.leave_out(&place, &long_name(length));
                return Ok(());
            }
            if !member.is_file {
                // A link, which has no content of its own.
                collector.pass_over(&shard_members::place(self.path, &member.path));
                return Ok(());
            }
            let name = member.path.to_string_lossy().into_owned();
            self.member(&name, &mut member, collector)
        })
    }

    fn member(
        &mut self,
        name: &str,
        member: &mut Member<'_>,
        collector: &mut Collector,
    ) -> Result<()> {
        let name = name.trim_start_matches("./");
        let (key, ending) = split_name(name);
        let text = text_ending(ending);
        let (offset, size) = (member.offset, member.size);
        if text.is_none() && !is_image(name, member)? {
            collector.pass_over(&shard_members::place(self.path, Path::new(name)));
            return Ok(());
        }
        if text.is_none() && size > MAX_IMAGE {
            let place = format!("shard {}: member {name}", self.path.display());
            collector.leave_out(&place, &large_image(size));
            return Ok(());
        }
        // A sample begins with any of its members.
        let called = format!("{}/{key}", self.stem);
        let sample = collector.image(ImageId::Text(called.clone()), || (called, None));
        let Some(text) = text else {
            let source = ImageSource::Member {
                shard: self.shared.clone(),
                name: name.to_string(),
                offset,
                size,
            };
            self.add_image(sample, ending, source, collector);
            return Ok(());
        };
        let place = format!("shard {}: member {name}", self.path.display());
        match read_captions(member, size, text == "json") {
            Ok(captions) => {
                for caption in captions {
                    collector.caption(sample, &place, caption.as_deref().map_err(Clone::clone));
                }
            }
            Err(reason) => collector.caption(sample, &place, Err(reason)),
        }
        Ok(())
    }

    /// Of several images the sample's is the one with the shortest ending: `1.jpg` and not `1.seg.png`.
    fn add_image(
        &mut self,
        sample: usize,
        ending: &str,
        source: ImageSource,
        collector: &mut Collector,
    ) {
        let parts = |ending: &str| ending.split('.').count();
        match self.images.get(&sample) {
            Some(before) if parts(before) < parts(ending) => return,
            Some(before) if parts(before) == parts(ending) => {
                let place = format!("shard {}", self.path.display());
                let name = &collector.images[sample].file_name;
                let reason = format!("sample {name} has a second image, .{ending} after .{before}");
                collector.leave_out(&place, &reason);
                return;
            }
            _ => {}
        }
        self.images.insert(sample, ending.to_string());
        collector.images[sample].source = Some(source);
    }
}

/// Whether a member is an image: by its ending, or else by its first bytes.
fn is_image(name: &str, member: &mut impl Read) -> Result<bool> {
    if has_image_ending(Path::new(name)) {
        return Ok(true);
    }
    let mut first = Vec::with_capacity(SNIFF_BYTES);
    member
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut first)
        .context("is not a whole tar file")?;
    Ok(sniff(&first).is_some())
}

type Captions = Vec<Result<String, String>>;

fn read_captions(member: &mut impl Read, size: u64, is_json: bool) -> Result<Captions, String> {
    if size > MAX_TEXT {
        return Err(format!("is too large for a caption ({size} bytes)"));
    }
    let mut bytes = Vec::new();
    member
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if !is_json {
        let text = decode(&bytes)?;
        return Ok(text.lines().filter_map(clean).map(Ok).collect());
    }
    let entry: Entry =
        read_document(reader(&bytes[..])).map_err(|error| format!("is not JSON: {error}"))?;
    Ok(match &entry {
        // Some write one in `caption` and all in `captions`; img2dataset has `caption` alone.
        Entry::Fields(fields) => (CAPTION.iter().filter_map(|name| fields.get(name)))
            .flat_map(|cell| cell.captions())
            .map(|caption| caption.map(String::from))
            .collect(),
        Entry::Other(_) => Vec::new(),
    })
}
