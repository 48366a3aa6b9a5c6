//! The members of WebDataset shards, one after the other, as training and captioning read them: tar files whose members
//! with the same name up to the first dot make one sample.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};

use super::shard_file;
use super::tar_source::{MOST_NAME, Notes, TarSource};
use crate::inputs::is_hidden;

/// Endings of shards.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// Endings of members that hold captions.
const TEXTS: [&str; 4] = ["txt", "caption", "text", "json"];

/// Whether a file is a shard by its name.
pub fn is_shard(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    stem_of(&name).is_some()
}

/// A shard's name without the endings of shards.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    stem_of(&name).unwrap_or(&name).to_string()
}

fn stem_of(name: &str) -> Option<&str> {
    let lower = name.to_lowercase();
    let ending = ENDINGS.iter().find(|ending| lower.ends_with(*ending))?;
    name.get(..name.len() - ending.len())
}

/// The shards of a folder, by name.
///
/// # Errors
/// When the folder cannot be listed.
pub fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).context("cannot be listed")? {
        let path = entry.context("cannot be listed")?.path();
        let is_seen = path.file_name().is_some_and(|name| !is_hidden(name));
        if is_seen && is_shard(&path) && path.is_file() {
            shards.push(path);
        }
    }
    shards.sort();
    Ok(shards)
}

/// What a member is called in messages: its name behind the shard's, whatever it is. An absolute name stays behind it too.
pub fn place(shard: &Path, member: &Path) -> PathBuf {
    let mut place = OsString::from(shard);
    place.push("/");
    place.push(member);
    PathBuf::from(place)
}

/// `a/b.seg.jpg` is sample `a/b`, member `seg.jpg`.
pub fn split_name(name: &str) -> (&str, &str) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[base..].find('.').map_or(name.len(), |dot| base + dot);
    (&name[..dot], name.get(dot + 1..).unwrap_or_default())
}

/// The last part of a member's ending, if it is that of a text: what holds captions and is never an image.
pub fn text_ending(ending: &str) -> Option<&'static str> {
    let last = ending.rsplit('.').next().unwrap_or_default().to_lowercase();
    TEXTS.into_iter().find(|text| *text == last)
}

/// Largest image in a shard, in bytes: one is held in memory while others are read, and photographs are of some megabytes, those
/// of the largest cameras without loss of some hundred.
pub const MAX_IMAGE: u64 = 256 << 20;

/// Why a member with a name of so many bytes is not read.
pub fn long_name(length: u64) -> String {
    format!("has a name of {length} bytes, of which at most {MOST_NAME} are read: shorten it")
}

/// Why a member of so many bytes is not read as an image.
pub fn large_image(size: u64) -> String {
    format!(
        "{size} bytes are too many for an image in a shard (at most {MAX_IMAGE}): make it smaller, or take it out"
    )
}

/// A member of a shard. Reading it gives its content.
pub struct Member<'a> {
    pub path: PathBuf,
    /// Whether it has content of its own: links have none.
    pub is_file: bool,
    /// Where its content begins, counted in what is unpacked of the shard.
    pub offset: u64,
    /// Bytes of content, as the shard says.
    pub size: u64,
    /// The length of its name, or of what stands beside it, where that is too long to be read; of the name there is the
    /// beginning then.
    pub long_name: Option<u64>,
    entry: tar::Entry<'a, Source>,
}

impl Read for Member<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.entry.read(into)
    }
}

/// Calls `visit` with each member of a shard in order, but for folders and hidden names.
///
/// # Errors
/// When the shard is not a whole tar file, or `visit` fails. What was visited before was whole.
pub fn walk(shard: &Path, mut visit: impl FnMut(Member<'_>) -> Result<()>) -> Result<()> {
    let notes = Rc::new(Notes::default());
    let file = shard_file::open(shard).context("cannot be opened")?;
    let source = Source {
        inner: TarSource::new(file, notes.clone()),
        has_ended: false,
    };
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries().context("is not a tar file")? {
        let entry = entry.context("is not a whole tar file")?;
        let long_name = notes.long_name.take();
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = entry
            .path()
            .context("has a member whose name cannot be read")?
            .into_owned();
        if path
            .iter()
            .any(|name| name != "." && name != ".." && is_hidden(name))
        {
            continue;
        }
        visit(Member {
            path,
            is_file: kind.is_file(),
            offset: entry.raw_file_position() + notes.dropped.get(),
            size: entry.size(),
            long_name,
            entry,
        })?;
    }
    finish(archive.into_inner())
}

/// What a tar file ends with is there, and nothing behind it but zeros and a compressed file's checksum.
fn finish(mut source: Source) -> Result<()> {
    if source.has_ended {
        bail!("is not a whole tar file: it ends without the end-of-archive marker");
    }
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = source.read(&mut buffer).context("is not whole")?;
        if read == 0 {
            return Ok(());
        }
        if buffer[..read].iter().any(|&byte| byte != 0) {
            bail!(
                "has more bytes behind the end-of-archive marker: if it is several tar files in one, take them apart"
            );
        }
    }
}

/// A shard's bytes, and whether the last of them were asked for.
struct Source {
    inner: TarSource<Box<dyn Read>>,
    has_ended: bool,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.has_ended |= read == 0 && !into.is_empty();
        Ok(read)
    }
}
