//! Locks between processes. The system takes them off a process that ends, however it ends, so none is ever left behind.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Time after which whoever waits is told for whom.
const SILENCE: Duration = Duration::from_secs(1);

/// What came of asking for a lock once.
#[derive(Debug)]
pub enum Tried {
    /// It is held until the value is dropped.
    Held(Lock),
    /// Another process has it: who, as far as the system tells.
    Taken(String),
}

/// A lock on a file or folder, for as long as the value lives.
///
/// On Windows, and where the file system has no locks, nobody is kept out: what is written must be safe without, if less saving.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Whether the file system has locks at all.
    pub is_effective: bool,
}

impl Lock {
    /// Asks once for the lock on an open file.
    ///
    /// # Errors
    /// When the system fails; a file system without locks is no failure.
    pub fn try_on(file: File) -> io::Result<Tried> {
        let held = |file, is_effective| Ok(Tried::Held(Self { file, is_effective }));
        let kind = file.metadata()?.file_type();
        // Pipes and devices are for everybody. Windows would keep this process too from reading what it has locked.
        if cfg!(windows) || !(kind.is_file() || kind.is_dir()) {
            return held(file, false);
        }
        match file.try_lock() {
            Ok(()) => held(file, true),
            Err(TryLockError::WouldBlock) => Ok(Tried::Taken(holder(&file))),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => held(file, false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Asks once for the lock on a folder, or on a file that is made if need be.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn try_take(path: &Path) -> Result<Tried> {
        let opened = match path.is_dir() {
            true => open_folder(path),
            false => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(Some),
        };
        let tried = opened.and_then(|file| match file {
            Some(file) => Self::try_on(file),
            None => no_lock(),
        });
        tried.with_context(|| format!("cannot lock {}", path.display()))
    }

    /// What it is on; a file that [`Self::try_take`] opened can be appended to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits for the lock on a folder, or on a file that is made if need be. `note` is told for whom, if that takes a while.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn wait(path: &Path, note: &dyn Fn(&str)) -> Result<Self> {
        Self::wait_at_most(path, Duration::MAX, note)
    }

    /// [`Self::wait`], for so long and no longer.
    ///
    /// # Errors
    /// When it cannot be opened, or another process still has it; the message says which.
    pub fn wait_at_most(path: &Path, limit: Duration, note: &dyn Fn(&str)) -> Result<Self> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let who = match Self::try_take(path)? {
                Tried::Held(lock) => return Ok(lock),
                Tried::Taken(who) => who,
            };
            if begun.elapsed() >= limit {
                bail!(
                    "{}: {who} has worked on it for {} s: wait for it, or end it",
                    path.display(),
                    begun.elapsed().as_secs()
                );
            }
            if begun.elapsed() >= SILENCE && !told {
                told = true;
                note(&format!(
                    "waiting for {who}, which works on {}",
                    path.display()
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A lock for a file that is replaced whole each time: it is on another one beside it, which is removed with the lock.
#[derive(Debug)]
pub struct LockBeside {
    /// Let go after the file is removed.
    lock: Lock,
    path: PathBuf,
}

impl LockBeside {
    /// Asks once for the lock that belongs to a file.
    ///
    /// # Errors
    /// When another process has it, or the file beside cannot be made; the message says which.
    pub fn take(file: &Path) -> Result<Self> {
        match Self::try_take(file)? {
            Ok(lock) => Ok(lock),
            Err(who) => bail!(
                "{}: {who} is writing to it: wait for it, or name another file",
                file.display()
            ),
        }
    }

    /// [`Self::take`], which gives who has the lock when another process does.
    ///
    /// # Errors
    /// When the file beside cannot be made.
    pub fn try_take(file: &Path) -> Result<std::result::Result<Self, String>> {
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        name.push(".lock");
        let path = file.with_file_name(name);
        loop {
            let cannot_write = || format!("cannot write {}: check its folder", file.display());
            match Lock::try_take(&path).with_context(cannot_write)? {
                Tried::Held(lock) if !lock.is_effective || is_at(lock.file(), &path) => {
                    return Ok(Ok(Self { lock, path }));
                }
                Tried::Held(_) => {} // it was removed just now
                Tried::Taken(who) => return Ok(Err(who)),
            }
        }
    }

    /// Whether the file system has locks at all.
    pub fn is_effective(&self) -> bool {
        self.lock.is_effective
    }
}

impl Drop for LockBeside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
pub(super) fn open_folder(path: &Path) -> io::Result<Option<File>> {
    File::open(path).map(Some)
}

/// Folders cannot be opened here.
#[cfg(not(unix))]
pub(super) fn open_folder(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// What stands for a lock where there is none to be had.
fn no_lock() -> io::Result<Tried> {
    Ok(Tried::Held(Lock {
        file: tempfile::tempfile()?,
        is_effective: false,
    }))
}

/// Whether a failure means that this file system, or this kind of file, has no locks.
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let no_locks = cfg!(target_os = "linux") && error.raw_os_error() == Some(37); // ENOLCK
    no_locks || matches!(error.kind(), Kind::Unsupported | Kind::InvalidInput)
}

/// Whether a path still leads to this open file: it may have been removed or replaced since.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => place(open) == place(there),
        _ => false,
    }
}

/// Whether a path still leads to this open file; what is open cannot be removed here.
#[cfg(not(unix))]
pub fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Who has the lock, for messages.
fn holder(file: &File) -> String {
    match holder_id(file) {
        Some(id) => format!("another run (process {id})"),
        None => "another run".to_string(),
    }
}

/// Linux lists all locks: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
#[cfg(target_os = "linux")]
fn holder_id(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let inode = file.metadata().ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, id, place, ..] = fields[..] else {
            return None;
        };
        let found = place.rsplit(':').next()?.parse::<u64>().ok()?;
        let id: u32 = id.parse().ok()?;
        (found == inode && id > 0).then_some(id)
    })
}

#[cfg(not(target_os = "linux"))]
fn holder_id(_: &File) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_says_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_path_buf(), folder.path().join("file")] {
            let Tried::Held(lock) = Lock::try_take(&path).unwrap() else {
                panic!("nobody else is there");
            };
            if !lock.is_effective {
                return; // this file system has none
            }
            let Tried::Taken(who) = Lock::try_take(&path).unwrap() else {
                panic!("it was had twice");
            };
            assert!(who.starts_with("another run"), "{who}");
            if cfg!(target_os = "linux") {
                let id = std::process::id().to_string();
                assert!(who.contains(&id), "{who}");
            }
            let error = Lock::wait_at_most(&path, Duration::ZERO, &|_| ()).unwrap_err();
            assert!(error.to_string().contains("another run"), "{error}");
            drop(lock);
            assert!(matches!(Lock::try_take(&path).unwrap(), Tried::Held(_)));
        }
    }

    #[test]
    fn a_lock_beside_a_file_goes_with_whoever_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results.json");
        let first = LockBeside::take(&file).unwrap();
        if first.lock.is_effective {
            let error = LockBeside::take(&file).unwrap_err().to_string();
            assert!(error.contains("results.json: another run"), "{error}");
        }
        drop(first);
        drop(LockBeside::take(&file).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_was_replaced_is_told_from_the_one_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        File::create(&path).unwrap();
        assert!(!is_at(&file, &path));
    }
}
