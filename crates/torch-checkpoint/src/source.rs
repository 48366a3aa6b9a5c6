//! Bytes that are read where they lie: a range of a file, or of memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

/// Bytes that a [`Cursor`] fetches at a time.
const WINDOW: usize = 64 * 1024;

/// A range of bytes. Cloning it, or cutting a part out of it, reads nothing.
#[derive(Clone, Debug)]
pub struct Section {
    backing: Arc<Backing>,
    start: u64,
    len: u64,
}

#[derive(Debug)]
enum Backing {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

impl Section {
    /// A whole file.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Self {
                backing: Arc::new(Backing::File(Mutex::new(file))),
                start: 0,
                len,
            })
        };
        open().with_context(|| format!("cannot open {}", path.display()))
    }

    /// Bytes that are in memory already.
    pub fn memory(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self {
            backing: Arc::new(Backing::Memory(bytes)),
            start: 0,
            len,
        }
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> u64 {
        self.len
    }

    /// A part of it.
    ///
    /// # Errors
    /// When the part is not wholly inside.
    pub fn part(&self, offset: u64, len: u64) -> Result<Self> {
        let end = offset.checked_add(len);
        ensure!(
            end.is_some_and(|end| end <= self.len),
            "it is cut short: {len} bytes are wanted at byte {offset}, and there are {} in all",
            self.len
        );
        Ok(Self {
            backing: self.backing.clone(),
            start: self.start + offset,
            len,
        })
    }

    /// All of its bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len)?];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset` on; there must be enough of them.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = self.start + offset;
        match &*self.backing {
            Backing::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(bytes)
            }
            Backing::Memory(all) => {
                let start = start as usize; // inside a vector
                bytes.copy_from_slice(&all[start..start + bytes.len()]);
                Ok(())
            }
        }
    }

    /// Whether both are the same bytes of the same file, without reading them.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backing, &other.backing)
            && (self.start, self.len) == (other.start, other.len)
    }
}

/// Reads a [`Section`] from front to back, a window at a time.
#[derive(Debug)]
pub struct Cursor {
    section: Section,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Cursor {
    /// Begins at byte `position`.
    pub fn new(section: Section, position: u64) -> Self {
        Self {
            section,
            position,
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// Where the next byte is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes after the position.
    pub fn remaining(&self) -> u64 {
        self.section.byte_len().saturating_sub(self.position)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)
            .ok()
            .with_context(|| format!("it is cut short, at byte {}", self.position))?;
        Ok(bytes)
    }

    /// The next `len` bytes, which must be there.
    pub fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let part = self.skip(len)?;
        part.read()
    }

    /// Goes on after the next `len` bytes, and returns them unread.
    pub fn skip(&mut self, len: u64) -> Result<Section> {
        let part = self.section.part(self.position, len)?;
        self.position += len;
        Ok(part)
    }

    /// The bytes up to a line feed, which is read too.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.array::<1>()? {
                [b'\n'] => return Ok(line),
                [byte] => line.push(byte),
            }
            ensure!(line.len() <= 4096, "a line of it is longer than 4096 bytes");
        }
    }

    /// The bytes of the window from the position on; none at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u64;
        if !(self.window_start..window_end).contains(&self.position) {
            let len = self.remaining().min(WINDOW as u64) as usize;
            self.window.resize(len, 0);
            self.window_start = self.position;
            self.section.read_at(self.position, &mut self.window)?;
        }
        Ok(&self.window[(self.position - self.window_start) as usize..])
    }
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let window = self.fill()?;
        let len = window.len().min(out.len());
        out[..len].copy_from_slice(&window[..len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.section.byte_len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
