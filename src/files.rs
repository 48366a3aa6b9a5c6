//! Files that are there whole or not at all, and locks between processes.

mod atomic;
mod lock;
mod partial;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::suggest;

pub use atomic::AtomicFile;
pub use lock::{Lock, LockBeside, Tried, is_at};

/// The folder a path stands in; `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a folder and those above it.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| {
        format!(
            "cannot make the folder {}: check its permissions and free space",
            path.display()
        )
    })
}

/// Writes beside `path` and renames: a reader, or a crash, never sees half a file.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut temporary = partial::file(path)?;
        {
            let mut writer = io::BufWriter::new(temporary.as_file_mut());
            fill(&mut writer)?;
            writer.flush()?;
        }
        allow_reading(temporary.as_file())?;
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| {
        format!(
            "cannot write {}: check the folder's permissions and free space",
            path.display()
        )
    })
}

/// # Errors
/// When a folder to be made is there already, with something in it.
pub fn check_free(folder: &Path) -> Result<()> {
    let is_free = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    };
    ensure!(
        is_free,
        "{} is there already: delete it, or name another folder",
        folder.display()
    );
    Ok(())
}

/// Fills a folder beside `path` and renames it: it is there whole, or not at all.
pub fn write_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_free(path)?;
    create_dir(&parent(path))?;
    let failed = || {
        format!(
            "cannot make the folder {}: check its permissions and free space",
            path.display()
        )
    };
    // It is filled within another: whoever fills it may lock it.
    let (beside, _lock) = partial::folder(path).with_context(failed)?;
    let new = beside.path().join(partial::NEW);
    let filled = fill_new(&new, fill)?;
    // An empty folder may be there. Another process may have filled it since it was looked at.
    let _ = fs::remove_dir(path);
    if let Err(error) = fs::rename(&new, path) {
        check_free(path)?;
        return Err(error).with_context(failed);
    }
    Ok(filled)
}

/// Fills a folder beside `path` and puts it in the place of the one that is there, if there is one.
pub fn replace_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let cannot_replace = || format!("cannot replace {}: check its permissions", path.display());
    create_dir(&parent(path))?;
    // It may give back what was there when a process that replaced it was killed.
    let (beside, _lock) = partial::folder(path).with_context(cannot_replace)?;
    if !path.exists() {
        drop(beside);
        return write_folder(path, fill);
    }
    let [new, old] = [partial::NEW, partial::OLD].map(|name| beside.path().join(name));
    let filled = fill_new(&new, fill)?;
    fs::rename(path, &old).with_context(cannot_replace)?;
    fs::rename(&new, path)
        .inspect_err(|_| drop(fs::rename(&old, path)))
        .with_context(cannot_replace)?;
    Ok(filled)
}

/// Makes a folder and fills it.
fn fill_new<T>(new: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    create_dir(new)?;
    let filled = fill(new)?;
    allow_entering(new).with_context(|| format!("cannot make the folder {}", new.display()))?;
    Ok(filled)
}

#[cfg(unix)]
fn allow_entering(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn allow_entering(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Temporary files are private; what is kept has the mode any other new file has here.
#[cfg(unix)]
fn allow_reading(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn allow_reading(_: &fs::File) -> io::Result<()> {
    Ok(())
}

/// Writes a value as indented JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_atomic(path, |writer| writer.write_all(text.as_bytes()))
}

/// Whether a file can be made in a folder, or in the nearest one above it that is there. Nothing stays.
///
/// # Errors
/// When it cannot; the message says why.
pub fn can_write(folder: &Path) -> Result<()> {
    let here = Path::new(".");
    let there = (folder.ancestors())
        .find(|above| fs::symlink_metadata(above).is_ok())
        .unwrap_or(here);
    ensure!(there.is_dir(), "{} is not a folder", there.display());
    tempfile::Builder::new()
        .prefix(".clipcap")
        .tempfile_in(there)
        .context("it cannot be written")?;
    Ok(())
}

/// Whether a folder can be filled once the work for it is done: it is none yet or can be written to.
///
/// # Errors
/// When it cannot; the message names it and the fix.
pub fn check_folder(folder: &Path) -> Result<()> {
    can_write(folder).with_context(|| {
        format!(
            "cannot write into {}: name another folder, or change its permissions",
            folder.display()
        )
    })
}

/// Whether a file can be written once the work for it is done; one that is there will be replaced.
///
/// # Errors
/// When it cannot; the message names it and the fix.
pub fn check_file(file: &Path) -> Result<()> {
    ensure!(
        !file.is_dir(),
        "{} is a folder: name a file",
        file.display()
    );
    ensure!(
        file.file_name().is_some(),
        "{} is no name of a file: name one",
        file.display()
    );
    let folder = parent(file);
    ensure!(
        folder.is_dir(),
        "cannot write {}: {} is no folder; make it, or name another file",
        file.display(),
        folder.display()
    );
    can_write(&folder).with_context(|| {
        format!(
            "cannot write {}: name another file, or change its folder's permissions",
            file.display()
        )
    })
}

/// Reads a JSON file; the error names the file, and serde's part of it the key, line and column.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_json(&text).with_context(|| format!("{} is not as expected", path.display()))
}

/// Reads a JSON file that this program wrote. The error says what to do too: what `fix` tells.
pub fn read_own_json<T: DeserializeOwned>(path: &Path, fix: impl FnOnce() -> String) -> Result<T> {
    read_json(path).map_err(|error| anyhow::anyhow!("{error:#}: {}", fix()))
}

/// [`read_json`]; `None` where there is no such file.
pub fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => read_json(path).map(Some),
    }
}

/// Reads JSON; the error says what else the text is, or which key was meant, where that can be told.
pub fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let begin = text.trim_start_matches('\u{feff}').trim_start();
        anyhow::anyhow!(match begin {
            "" => "it is empty: what made or fetched it failed".to_string(),
            page if page.starts_with('<') => {
                "it is a web page, not JSON: fetch the file itself".to_string()
            }
            pointer if pointer.starts_with("version https://git-lfs") => {
                "it is a Git LFS pointer, not the file itself: get it with `git lfs pull`"
                    .to_string()
            }
            _ => suggest::explain(&error),
        })
    })
}

/// Gives `target` the bytes of `source` without copying them where the file system can.
pub fn link_or_copy(source: &Path, target: &Path) -> Result<()> {
    if fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    let mut reader =
        fs::File::open(source).with_context(|| format!("cannot read {}", source.display()))?;
    write_atomic(target, |writer| io::copy(&mut reader, writer).map(drop))
}

/// The sha256 of a file's bytes, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file =
        fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &1).unwrap();
        let error = write_atomic(&path, |writer| {
            writer.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
        assert!(format!("{error:#}").contains("a.json"), "{error:#}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_folder_leaves_nothing_and_a_full_one_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        let fill = |folder: &Path| write_json(&folder.join("a.json"), &1);
        let failing = |folder: &Path| -> Result<()> {
            fill(folder)?;
            anyhow::bail!("no more")
        };
        assert!(write_folder(&path, failing).is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        fs::create_dir(&path).unwrap();
        write_folder(&path, fill).unwrap();
        assert!(path.join("a.json").is_file());
        let error = write_folder(&path, fill).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error:#}");
    }

    #[test]
    fn a_folder_is_replaced_when_the_new_one_is_whole_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("best");
        let write = |text: &'static str| {
            move |folder: &Path| -> Result<()> {
                fs::write(folder.join("a"), text)?;
                ensure!(text != "bad", "no more");
                Ok(())
            }
        };
        replace_folder(&path, write("first")).unwrap();
        assert!(replace_folder(&path, write("bad")).is_err());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "first");
        replace_folder(&path, write("second")).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "second");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn places_that_cannot_be_written_are_told_before_there_is_something_to_write() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("file"), "").unwrap();
        check_file(&path("file")).unwrap();
        check_file(&path("new")).unwrap();
        check_folder(&path("a/b")).unwrap();
        check_folder(place.path()).unwrap();
        for (result, part) in [
            (check_file(place.path()), "is a folder"),
            (check_file(&path("none/new")), "none is no folder"),
            (check_file(&path("file/new")), "file is no folder"),
            (check_folder(&path("file")), "file is not a folder"),
            (check_folder(&path("file/a/b")), "file is not a folder"),
        ] {
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            fs::read_dir(place.path()).unwrap().count(),
            1,
            "nothing stays"
        );
    }

    #[test]
    fn the_hash_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert!(
            sha256(&path)
                .unwrap()
                .starts_with("ba7816bf8f01cfea414140de5dae2223")
        );
    }

    #[test]
    fn a_json_error_names_file_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{\n  \"a\": }").unwrap();
        let error = format!("{:#}", read_json::<serde_json::Value>(&path).unwrap_err());
        assert!(
            error.contains("config.json") && error.contains("line 2"),
            "{error}"
        );
    }
}
