//! A file that grows under another name until it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempPath;

/// A file that is written beside its place and has its name once [`Self::commit`] says that it is whole. Dropped before,
/// it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    writer: BufWriter<File>,
    temporary: TempPath,
}

impl AtomicFile {
    /// Begins a file in a folder that is there. `is_mine`: no other process writes to this path, so that what one that was
    /// killed left of it is written over; else the temporary file has a name of its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, is_mine: bool) -> Result<Self> {
        Self::begin(path, is_mine).with_context(|| cannot_write(path))
    }

    fn begin(path: &Path, is_mine: bool) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (file, temporary) = if is_mine {
            let temporary = path.with_file_name(format!(".{name}.partial"));
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true);
            (file.open(&temporary)?, TempPath::try_from_path(temporary)?)
        } else {
            super::partial::file(path)?.into_parts()
        };
        Ok(Self {
            path: path.to_path_buf(),
            writer: BufWriter::new(file),
            temporary,
        })
    }

    /// Gives the file its name, once the disk has its content.
    ///
    /// # Errors
    /// When that fails; nothing is left then.
    pub fn commit(self) -> Result<()> {
        let Self {
            path,
            writer,
            temporary,
        } = self;
        let commit = || -> io::Result<()> {
            let file = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            super::allow_reading(&file)?;
            file.sync_all()?;
            drop(file);
            temporary.persist(&path).map_err(|error| error.error)
        };
        commit().with_context(|| cannot_write(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {}: check the folder's permissions and free space",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_leaves_nothing_when_it_is_not() {
        for is_mine in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.jsonl");
            let mut dropped = AtomicFile::create(&path, is_mine).unwrap();
            dropped.write_all(b"half").unwrap();
            drop(dropped);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            let mut whole = AtomicFile::create(&path, is_mine).unwrap();
            whole.write_all(b"whole").unwrap();
            assert!(!path.exists());
            whole.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"whole");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(
            folder.path().join(".a.jsonl.partial"),
            "longer than what comes",
        )
        .unwrap();
        let mut file = AtomicFile::create(&path, true).unwrap();
        file.write_all(b"short").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
