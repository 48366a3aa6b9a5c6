//! Files and folders on their way, beside what they become: `.NAME.RANDOM.partial`. Whoever fills one has a lock on it, so that
//! what a killed process left is told from what is in use, and is removed by the next that writes to the same name.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::lock::{Lock, Tried, is_at, open_folder};
use super::{hex, parent};

/// What their names end with.
const ENDING: &str = ".partial";
/// What a folder on its way is called in the one that is locked.
pub const NEW: &str = "new";
/// What one that is being replaced is called there; once it is there, the new one is whole.
pub const OLD: &str = "old";
/// Random characters in their names.
const RANDOM: usize = 6;
/// Longest name that theirs have in them whole; file systems end names at 255 bytes.
const LONGEST: usize = 200;

/// What killed processes may have left in folders, as it was when this process first wrote there.
static LEFT: Mutex<Option<HashMap<PathBuf, Vec<OsString>>>> = Mutex::new(None);

/// A new file beside `path`, locked for as long as it is open.
pub fn file(path: &Path) -> io::Result<NamedTempFile> {
    sweep(path);
    loop {
        let file = (tempfile::Builder::new().prefix(&prefix(path)))
            .suffix(ENDING)
            .rand_bytes(RANDOM)
            .tempfile_in(parent(path))?;
        if hold(file.as_file().try_clone()?, file.path())?.is_some() {
            return Ok(file);
        }
    }
}

/// A new folder beside `path`, and the lock on it.
pub fn folder(path: &Path) -> io::Result<(TempDir, Option<Lock>)> {
    sweep(path);
    loop {
        let folder = (tempfile::Builder::new().prefix(&prefix(path)))
            .suffix(ENDING)
            .rand_bytes(RANDOM)
            .tempdir_in(parent(path))?;
        let Some(opened) = open_folder(folder.path())? else {
            return Ok((folder, None));
        };
        if let Some(lock) = hold(opened, folder.path())? {
            return Ok((folder, Some(lock)));
        }
    }
}

/// The lock on what was just made; `None` where another process took it for a leftover before there was one.
fn hold(file: File, path: &Path) -> io::Result<Option<Lock>> {
    Ok(match Lock::try_on(file)? {
        Tried::Held(lock) if !lock.is_effective || is_at(lock.file(), path) => Some(lock),
        _ => None,
    })
}

/// What the names of all that is on its way to `path` begin with.
fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    match name.to_str().filter(|name| name.len() <= LONGEST) {
        Some(name) => format!(".{name}."),
        None => format!(".{}.", hex(&Sha256::digest(name.as_encoded_bytes())[..8])),
    }
}

/// Removes what killed processes left on its way to `path`. What cannot be removed stays, and does no harm.
fn sweep(path: &Path) {
    let prefix = prefix(path);
    for name in left(&parent(path), &prefix) {
        let _ = remove(path, &parent(path).join(name));
    }
}

/// The leftovers of a folder whose names begin so; each is given once.
fn left(folder: &Path, prefix: &str) -> Vec<OsString> {
    let mut known = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let names = known.entry(folder.to_path_buf()).or_insert_with(|| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        let is_partial = |name: &OsString| {
            name.to_str()
                .is_some_and(|name| name.starts_with('.') && name.ends_with(ENDING))
        };
        names.filter(is_partial).collect()
    });
    let is_wanted = |name: &mut OsString| {
        let middle =
            (name.to_str()).and_then(|name| name.strip_prefix(prefix)?.strip_suffix(ENDING));
        middle.is_some_and(|middle| {
            middle.len() == RANDOM && middle.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    names.extract_if(.., is_wanted).collect()
}

/// Removes a file or folder on its way to `path`, unless a process is at work on it. Of a folder that was being replaced when
/// the process was killed, what is whole gets the place of the old one.
fn remove(path: &Path, leftover: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(leftover)?.is_dir();
    let opened = match is_folder {
        true => open_folder(leftover)?,
        false => Some(File::open(leftover)?),
    };
    let Some(opened) = opened else {
        return Ok(()); // nobody can tell whether it is in use
    };
    let lock = match Lock::try_on(opened)? {
        Tried::Held(lock) if lock.is_effective && is_at(lock.file(), leftover) => lock,
        _ => return Ok(()),
    };
    if !is_folder {
        return fs::remove_file(leftover);
    }
    let (new, old) = (leftover.join(NEW), leftover.join(OLD));
    if old.is_dir() && fs::symlink_metadata(path).is_err() {
        fs::rename(if new.is_dir() { &new } else { &old }, path)?;
    }
    fs::remove_dir_all(leftover)?;
    drop(lock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{replace_folder, write_atomic, write_folder};

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_process_left_is_removed_by_who_writes_to_the_same_name() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in [
            ".a.json.Ab12cd.partial",
            ".b.json.Ab12cd.partial",
            ".a.json.x.partial",
        ] {
            fs::write(path(name), "half").unwrap();
        }
        fs::create_dir_all(path(".model.Ab12cd.partial/deep")).unwrap();
        write_atomic(&path("a.json"), |writer| writer.write_all(b"{}")).unwrap();
        assert_eq!(
            names(place.path()),
            [
                ".a.json.x.partial",
                ".b.json.Ab12cd.partial",
                ".model.Ab12cd.partial",
                "a.json"
            ],
        );
        // Whoever fills a folder may lock it.
        write_folder(&path("model"), |folder| Lock::wait(folder, &|_| ())).unwrap();
        assert_eq!(
            names(place.path()),
            [
                ".a.json.x.partial",
                ".b.json.Ab12cd.partial",
                "a.json",
                "model"
            ],
        );
    }

    #[test]
    #[cfg(unix)]
    fn what_another_process_is_at_work_on_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.json");
        let in_use = place.path().join(".a.json.Ab12cd.partial");
        fs::write(&in_use, "half").unwrap();
        let Tried::Held(lock) = Lock::try_on(File::open(&in_use).unwrap()).unwrap() else {
            panic!("nobody else has it");
        };
        write_atomic(&path, |writer| writer.write_all(b"{}")).unwrap();
        assert_eq!(in_use.exists(), lock.is_effective);
        // Its own file is locked while it is filled.
        let own = file(&path).unwrap();
        let tried = Lock::try_on(File::open(own.path()).unwrap()).unwrap();
        assert!(matches!(tried, Tried::Taken(_)) || !lock.is_effective);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_was_being_replaced_has_its_place_again() {
        for (has_new, kept) in [(true, "new"), (false, "old")] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("best");
            let beside = place.path().join(".best.Ab12cd.partial");
            let fill = |name: &str| {
                fs::create_dir_all(beside.join(name)).unwrap();
                fs::write(beside.join(name).join("a"), name).unwrap();
            };
            fill("old");
            if has_new {
                fill("new");
            }
            let failed: anyhow::Result<()> = replace_folder(&path, |_| anyhow::bail!("no more"));
            assert!(failed.is_err());
            assert_eq!(names(place.path()), ["best"]);
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), kept);
        }
    }

    #[test]
    fn long_names_and_odd_ones_have_room_too() {
        let place = tempfile::tempdir().unwrap();
        for name in ["n".repeat(250), "n".repeat(200), "ä b\nc".into()] {
            let path = place.path().join(name);
            write_atomic(&path, |writer| writer.write_all(b"{}")).unwrap();
            assert!(path.is_file());
        }
    }
}
