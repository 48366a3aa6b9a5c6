//! Tar shards, plain or compressed with gzip or Zstandard.
//!
//! Parts of a plain shard are read where they are. A compressed one is unpacked into a temporary file when the first part
//! of it is asked for; the last few that were asked for are kept so.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// Unpacked shards that are kept.
const KEPT: usize = 2;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

type Source = BufReader<File>;

/// An unpacked shard. Who reads a part moves its position.
type Unpacked = Arc<Mutex<File>>;

/// The shards that were unpacked last, the newest last.
static UNPACKED: Mutex<VecDeque<(PathBuf, Unpacked)>> = Mutex::new(VecDeque::new());

/// A shard's bytes, unpacked.
///
/// # Errors
/// When it cannot be opened or read, or is compressed in a way that is not read.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut source = BufReader::new(File::open(path)?);
    let head = source.fill_buf()?;
    Ok(if head.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(source))
    } else if head.starts_with(ZSTD) {
        Box::new(Frames::new(source))
    } else {
        Box::new(source)
    })
}

/// `size` bytes from `offset` of a shard, counted in what is unpacked of it.
///
/// # Errors
/// When it cannot be read, or there is no room to unpack it.
pub fn read_part(path: &Path, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head)?;
    if head.starts_with(GZIP) || head.starts_with(ZSTD) {
        let unpacked = unpacked(path)?;
        let mut file = unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        return read_at(&mut file, offset, size);
    }
    read_at(&mut file, offset, size)
}

fn read_at(file: &mut File, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unpacked(path: &Path) -> io::Result<Unpacked> {
    // Held while one is unpacked, so that it is done once.
    let mut kept = UNPACKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, file)) = kept.iter().find(|(known, _)| known == path) {
        return Ok(file.clone());
    }
    let mut file = tempfile::tempfile()?;
    io::copy(&mut open(path)?, &mut file).map_err(|error| {
        let place = std::env::temp_dir();
        let reason = format!(
            "cannot be unpacked in {} (TMPDIR names another place): {error}",
            place.display()
        );
        io::Error::new(error.kind(), reason)
    })?;
    let file = Arc::new(Mutex::new(file));
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back((path.to_path_buf(), file.clone()));
    Ok(file)
}

/// All frames of a Zstandard file, one after the other: parallel compressors write several.
struct Frames {
    /// The frame that is being read.
    frame: Option<Box<StreamingDecoder<Source, ruzstd::decoding::FrameDecoder>>>,
    /// What comes after the last frame that was read.
    rest: Option<Source>,
}

impl Frames {
    fn new(source: Source) -> Self {
        Self {
            frame: None,
            rest: Some(source),
        }
    }

    /// Begins the next frame; `false` when there is none.
    fn begin(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(false);
        };
        skip_frames(&mut rest)?;
        if rest.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let frame = StreamingDecoder::new(rest).map_err(io::Error::other)?;
        self.frame = Some(Box::new(frame));
        Ok(true)
    }
}

/// Passes over frames that hold something else than data.
fn skip_frames(source: &mut Source) -> io::Result<()> {
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] = *source.fill_buf()? {
        let length = 8 + u64::from(u32::from_le_bytes([a, b, c, d]));
        if io::copy(&mut source.take(length), &mut io::sink())? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

impl Read for Frames {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let length = frame.read(into)?;
                if length > 0 || into.is_empty() {
                    return Ok(length);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.rest = Some(frame.into_inner());
            }
            if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn parts_are_the_same_however_a_shard_is_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000_u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        let (first, second) = bytes.split_at(500_001);
        let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
        let forms = [
            bytes.clone(),
            gzip(&bytes),
            [gzip(first), gzip(second)].concat(),
            zstd(&bytes),
            [zstd(first), skippable.to_vec(), zstd(second)].concat(),
        ];
        for (number, form) in forms.iter().enumerate() {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, form).unwrap();
            let mut whole = Vec::new();
            open(&path).unwrap().read_to_end(&mut whole).unwrap();
            assert!(whole == bytes, "form {number}");
            for (offset, size) in [(0, 10), (500_000, 50), (1_199_990, 10), (7, 0)] {
                let part = read_part(&path, offset, size).unwrap();
                let at = offset as usize;
                assert_eq!(part, bytes[at..at + size as usize], "form {number}");
            }
        }
    }

    #[test]
    fn a_shard_that_is_cut_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![7; 100_000];
        for form in [gzip(&bytes), zstd(&bytes)] {
            let path = folder.path().join("cut");
            std::fs::write(&path, &form[..form.len() - 5]).unwrap();
            assert!(open(&path).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }
}
