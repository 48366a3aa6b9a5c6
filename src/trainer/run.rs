//! A run's folder, `artifacts/<run>/`:
//!
//! ```text
//! config.json               everything that was set
//! inputs.json               hashes of the networks and the data that it began with; data.json of encoders
//! status.json               whether it finished, was interrupted or diverged
//! summary.json              its best epoch, and the seconds it took
//! metrics.jsonl             one line a step and one an epoch
//! checkpoint/               weights, optimizer and schedule of the two latest epochs, and of the best one
//! samples.jsonl             captions of a few validation images after each epoch
//! curves.svg                loss, CIDEr and learning rate as an image
//! report.html               settings, curves, samples and test scores as a page
//! events.out.tfevents.*     the numbers for TensorBoard, where it is asked for
//! best/                     a model folder
//! predictions-test.json     captions of the test part, COCO results format
//! metrics-test.json         what was measured on them
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{self, Lock, Tried};

/// The folder that runs are written to.
pub const ARTIFACTS: &str = "artifacts";
/// Longest name of a run in bytes; file systems end names at 255.
const LONGEST_NAME: usize = 200;

/// How long a run's folder that another process has just made may lack its first file.
const BEGINNING: Duration = Duration::from_secs(5);

/// Whether a text can be a run's name: that of one folder in [`ARTIFACTS`], and of no other place.
///
/// # Errors
/// When it cannot; the message says why.
pub fn check_name(name: &str) -> Result<()> {
    let wrong = if name.trim().is_empty() {
        "it is empty"
    } else if name.contains(['/', '\\']) {
        "it is a path"
    } else if matches!(name, "." | "..") {
        "it leads elsewhere"
    } else if name.chars().any(char::is_control) {
        "it has control characters in it"
    } else if name.len() > LONGEST_NAME {
        "it is too long"
    } else {
        return Ok(());
    };
    bail!(
        "the run's name is `{}`, but {wrong}: give a plain name, and the run goes to {ARTIFACTS}/NAME",
        name.escape_debug()
    )
}

/// Makes the folder of a new run: `name`, or `kind` with the first free number. No two processes get the same.
///
/// # Errors
/// When there is a run of that name already, it can be no name, or the folder cannot be made.
pub fn create(artifacts: &Path, kind: &str, name: Option<&str>) -> Result<PathBuf> {
    if let Some(name) = name {
        check_name(name)?;
    }
    files::create_dir(artifacts)?;
    if let Some(name) = name {
        let path = artifacts.join(name);
        if !make(&path)? {
            bail!(
                "{} exists already: choose another --run, or delete it",
                path.display()
            );
        }
        return Ok(path);
    }
    for number in 1.. {
        let path = artifacts.join(format!("{kind}-{number}"));
        if make(&path)? {
            return Ok(path);
        }
    }
    bail!("{} is full", artifacts.display())
}

/// The folder of a new run or, where one of that name is there already, of that one: `marker` is a file it then holds.
///
/// # Errors
/// When the name is taken by something else, or the folder cannot be made.
pub fn open(artifacts: &Path, kind: &str, name: Option<&str>, marker: &str) -> Result<PathBuf> {
    let Some(name) = name else {
        return create(artifacts, kind, None);
    };
    check_name(name)?;
    let path = artifacts.join(name);
    files::create_dir(artifacts)?;
    // Another process that makes it right now has the marker still to write.
    let begun = Instant::now();
    loop {
        if path.join(marker).is_file() || make(&path)? {
            return Ok(path);
        }
        let is_taken = begun.elapsed() >= BEGINNING || !is_empty(&path);
        // What it is not empty of may be the marker, written just now.
        if is_taken && !path.join(marker).is_file() {
            return create(artifacts, kind, Some(name));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| {
            // What is being written has a temporary name.
            entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."))
        })
    })
}

/// Work in the folder of a run that was made for it. When it fails before anything was learned, nothing in the folder could
/// be gone on with, and it is removed again.
///
/// # Errors
/// The work's.
pub fn within<T>(folder: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    work().inspect_err(|_| {
        if !holds_learned(folder, 0) {
            // What cannot be removed stays; the error says more.
            let _ = fs::remove_dir_all(folder);
            // It may have been the first.
            let _ = folder.parent().map(fs::remove_dir);
        }
    })
}

/// Whether there is a step, a checkpoint or a result in a folder, or in those of its trainings.
fn holds_learned(folder: &Path, depth: usize) -> bool {
    const DEEPEST: usize = 4;
    const LEARNED: [&str; 5] = [
        "metrics.jsonl",
        "checkpoint",
        "best",
        "result.json",
        "results.json",
    ];
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        let is_learned = LEARNED.iter().any(|name| path.ends_with(name));
        match path.is_dir() {
            true if is_learned => !is_empty(&path),
            true => depth < DEEPEST && holds_learned(&path, depth + 1),
            false => is_learned && entry.metadata().is_ok_and(|file| file.len() > 0),
        }
    })
}

/// Keeps other processes from writing the same run, until it is dropped.
///
/// # Errors
/// When one does; the message says which.
pub fn lock(folder: &Path) -> Result<Lock> {
    match Lock::try_take(folder)? {
        Tried::Held(lock) => Ok(lock),
        Tried::Taken(who) => bail!(
            "{}: {who} is writing this run: wait for it, or start one of another name with --run",
            folder.display()
        ),
    }
}

/// Notes what is to be done or, when it is resumed, checks that it is the same.
///
/// # Errors
/// When the file says something else, or cannot be read or written.
pub fn begin<T: Serialize + DeserializeOwned + PartialEq>(path: &Path, config: &T) -> Result<()> {
    // Of several processes that begin it together, one writes and the others read.
    let folder = path.parent().unwrap_or(Path::new("."));
    let _lock = Lock::wait(folder, &|_| ())?;
    if !path.is_file() {
        return files::write_json(path, config);
    }
    let fix = || "put back a copy, or choose another name for the run".to_string();
    if files::read_own_json::<T>(path, fix)? != *config {
        bail!(
            "{} says that this run was begun with other settings: choose another --run, or delete it",
            path.display()
        );
    }
    Ok(())
}

/// Whether the folder is new.
fn make(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot make the folder {}: check its permissions and free space",
                path.display()
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_failed_before_it_learned_anything_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = root.path().join("artifacts");
        let fails = |file: &str, text: &str| {
            let folder = create(&artifacts, "train", None).unwrap();
            let failed: Result<()> = within(&folder, || {
                let path = folder.join(file);
                fs::create_dir_all(path.parent().unwrap())?;
                fs::write(path, text)?;
                bail!("no data")
            });
            assert_eq!(failed.unwrap_err().to_string(), "no data");
            folder.is_dir()
        };
        assert!(!fails("config.json", "{}"));
        assert!(!artifacts.exists(), "its only run is gone");
        assert!(!fails("metrics.jsonl", ""));
        assert!(fails("metrics.jsonl", "{}"));
        assert!(!fails("01-a/config.json", "{}"));
        assert!(fails("01-a/seed-1/checkpoint/model.bpk", "weights"));
        assert!(fails("trials/00/0/result.json", "{}"));
        assert!(artifacts.is_dir());
    }

    #[test]
    fn runs_are_numbered_and_names_are_not_taken_twice() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = root.path().join("artifacts");
        assert!(
            create(&artifacts, "train", None)
                .unwrap()
                .ends_with("train-1")
        );
        assert!(
            create(&artifacts, "train", None)
                .unwrap()
                .ends_with("train-2")
        );
        create(&artifacts, "train", Some("mine")).unwrap();
        let error = create(&artifacts, "train", Some("mine"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("mine") && error.contains("--run"), "{error}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_and_say_what_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = root.path().join("artifacts");
        let long = "n".repeat(300);
        for name in ["", " ", "a/b", "..", ".", "/tmp/x", "a\\b", "a\nb", &long] {
            for made in [
                create(&artifacts, "train", Some(name)),
                open(&artifacts, "tune", Some(name), "tune.json"),
            ] {
                let error = made.unwrap_err().to_string();
                assert!(error.contains("give a plain name"), "{name:?}: {error}");
                assert!(!error.contains('\n'), "{error}");
            }
        }
        assert!(!artifacts.exists(), "nothing was made");
        create(&artifacts, "train", Some("my run 1.5 (new)")).unwrap();
    }

    #[test]
    fn processes_that_start_together_get_folders_of_their_own_or_share_the_one_they_name() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = root.path().join("artifacts");
        let made: Vec<PathBuf> = std::thread::scope(|scope| {
            let make = || scope.spawn(|| create(&artifacts, "train", None).unwrap());
            let threads: Vec<_> = (0..8).map(|_| make()).collect();
            (threads.into_iter())
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let different: std::collections::BTreeSet<_> = made.iter().collect();
        assert_eq!(different.len(), 8, "{made:?}");

        let shared: Vec<PathBuf> = std::thread::scope(|scope| {
            let open = || {
                let path = open(&artifacts, "tune", Some("t"), "tune.json").unwrap();
                begin(&path.join("tune.json"), &7).unwrap();
                path
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            (threads.into_iter())
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(shared.iter().all(|path| path.ends_with("t")), "{shared:?}");
        let error = begin(&artifacts.join("t/tune.json"), &8).unwrap_err();
        assert!(error.to_string().contains("other settings"), "{error}");
    }
}
