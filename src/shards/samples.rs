//! The samples of a shard, one after the other.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::data::shard_members::{self, MAX_IMAGE, Member, split_name, text_ending};
use crate::images::OpenError;
use crate::images::format::{SNIFF_BYTES, has_image_ending, sniff};
use crate::inputs::{Content, Input};
use crate::path_text;

/// The image of a sample, or why it has none that can be used.
pub struct Sample {
    /// The name of its members up to the first dot: WebDataset's `__key__`.
    pub key: String,
    /// The name of the image in the shard.
    pub member: String,
    /// The image, which is not open yet.
    pub image: Result<Input, Refused>,
}

/// Why an image is not used.
pub struct Refused {
    /// The same in a word, for counting.
    pub kind: &'static str,
    /// One line that begins with the shard's name, without its folder, and the member's.
    pub reason: String,
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        Self {
            kind: error.kind(),
            reason: error.to_string(),
        }
    }
}

/// What of a shard is no image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Samples that have no image.
    pub without_image: u64,
    /// Members that are neither an image nor a text, links among them.
    pub members: u64,
}

/// Reads a shard, a tar file or Parquet, and gives `emit` each of its images. Members with the same key that follow each other are one sample, as for
/// WebDataset; of several images in it the one with the shortest ending is the sample's, `1.jpg` and not `1.seg.png`.
///
/// # Errors
/// When the shard is not a whole tar file, or `emit` fails. What was given before was whole.
pub fn read(shard: &Path, emit: &mut dyn FnMut(Sample) -> Result<()>) -> Result<Others> {
    #[cfg(feature = "parquet")]
    if super::find::is_parquet(shard) {
        return super::parquet::read(shard, emit);
    }
    let mut reader = Reader {
        // Records are the same wherever the shard lies.
        shard: Path::new(shard.file_name().unwrap_or_default()),
        current: None,
        others: Others::default(),
        emit,
    };
    shard_members::walk(shard, |member| reader.member(member))?;
    reader.flush()?;
    Ok(reader.others)
}

struct Reader<'a> {
    /// The shard's name.
    shard: &'a Path,
    current: Option<Current>,
    others: Others,
    emit: &'a mut dyn FnMut(Sample) -> Result<()>,
}

/// The sample that is being read.
struct Current {
    key: String,
    /// Its image, with the dots in its ending.
    image: Option<(usize, Sample)>,
    /// Further images of it, which are refused.
    refused: Vec<Sample>,
}

impl Reader<'_> {
    fn member(&mut self, mut member: Member<'_>) -> Result<()> {
        let name = path_text::text(&member.path);
        let name = name.trim_start_matches("./");
        let (key, ending) = split_name(name);
        self.begin(key)?;
        if let Some(length) = member.long_name {
            let refused = refused(
                self.shard,
                name,
                "long_name",
                shard_members::long_name(length),
            );
            let sample = Sample {
                key: key.to_string(),
                member: name.to_string(),
                image: Err(refused),
            };
            self.begin(key)?.refused.push(sample);
            return Ok(());
        }
        if !member.is_file {
            if !has_image_ending(Path::new(name)) {
                self.others.members += 1;
                return Ok(());
            }
            let link = Sample {
                key: key.to_string(),
                member: name.to_string(),
                image: Err(link(&shard_members::place(self.shard, Path::new(name)))),
            };
            self.begin(key)?.refused.push(link);
            return Ok(());
        }
        if text_ending(ending).is_some() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        if !is_image(name, &mut member, &mut bytes)? {
            self.others.members += 1;
            return Ok(());
        }
        let dots = ending.split('.').count();
        let shard = self.shard;
        let place = shard_members::place(shard, Path::new(name));
        let current = self.begin(key)?;
        let before = current.image.as_ref();
        if before.is_some_and(|(others, _)| *others < dots) {
            return Ok(());
        }
        let is_second = before.is_some_and(|(others, _)| *others == dots);
        let sample = Sample {
            key: key.to_string(),
            member: name.to_string(),
            image: match is_second {
                true => Err(second(&place)),
                false => content(shard, name, member, bytes)?.map(|bytes| Input {
                    path: place,
                    root: None,
                    content: Content::Bytes(Arc::new(bytes)),
                }),
            },
        };
        match is_second {
            true => current.refused.push(sample),
            false => current.image = Some((dots, sample)),
        }
        Ok(())
    }

    /// The sample that a key belongs to: the one under way, or a new one.
    fn begin(&mut self, key: &str) -> Result<&mut Current> {
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.key != key)
        {
            self.flush()?;
        }
        Ok(self.current.get_or_insert_with(|| Current {
            key: key.to_string(),
            image: None,
            refused: Vec::new(),
        }))
    }

    /// Gives what is known of the sample under way.
    fn flush(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        match current.image {
            None if current.refused.is_empty() => self.others.without_image += 1,
            None => {}
            Some((_, sample)) => (self.emit)(sample)?,
        }
        current.refused.into_iter().try_for_each(&mut *self.emit)
    }
}

/// A member that is not read, and why.
fn refused(shard: &Path, name: &str, kind: &'static str, reason: String) -> Refused {
    let place = shard_members::place(shard, Path::new(name));
    let reason = format!("{}: {reason}", path_text::one_line(&place));
    Refused { kind, reason }
}

fn link(place: &Path) -> Refused {
    Refused {
        kind: "link",
        reason: format!(
            "{}: is a link to another file, and has no content: pack files in place of links (tar --dereference --hard-dereference)",
            path_text::one_line(place)
        ),
    }
}

fn second(place: &Path) -> Refused {
    Refused {
        kind: "second_image",
        reason: format!(
            "{}: is a second image of its sample",
            path_text::one_line(place)
        ),
    }
}

/// Whether a member is an image: by its ending, or else by its first bytes, which are then in `bytes`.
fn is_image(name: &str, member: &mut Member<'_>, bytes: &mut Vec<u8>) -> Result<bool> {
    if has_image_ending(Path::new(name)) {
        return Ok(true);
    }
    member.take(SNIFF_BYTES as u64).read_to_end(bytes)?;
    Ok(sniff(bytes).is_some())
}

/// The whole content of a member, the first bytes of which are read. One that is too large for an image is not read.
fn content(
    shard: &Path,
    name: &str,
    mut member: Member<'_>,
    mut bytes: Vec<u8>,
) -> Result<Result<Vec<u8>, Refused>> {
    if member.size > MAX_IMAGE {
        let reason = shard_members::large_image(member.size);
        return Ok(Err(refused(shard, name, "too_large", reason)));
    }
    member.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < member.size {
        bail!(
            "is not a whole tar file: it ends within member {}",
            path_text::one_line(&member.path)
        );
    }
    Ok(Ok(bytes))
}
