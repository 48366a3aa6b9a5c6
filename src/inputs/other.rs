//! Files that have no answer for what they are, counted and named at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::path_text::one_line;

/// How many files of a kind are named.
const NAMED: usize = 3;

/// Files by kind: how many, and the first of them. As text `3 HEIC (a.heic, b.heic, c.heic), 1 AVIF (d.avif)`.
#[derive(Clone, Debug, Default)]
pub struct FileKinds(BTreeMap<String, Kind>);

#[derive(Clone, Debug, Default)]
struct Kind {
    count: usize,
    names: Vec<PathBuf>,
}

impl FileKinds {
    /// Counts a file.
    pub fn note(&mut self, kind: &str, path: &Path) {
        let kind = self.0.entry(kind.to_string()).or_default();
        kind.count += 1;
        if kind.names.len() < NAMED {
            kind.names.push(path.to_path_buf());
        }
    }

    /// Number of files.
    pub fn count(&self) -> usize {
        self.0.values().map(|kind| kind.count).sum()
    }
}

impl fmt::Display for FileKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, kind)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let names: Vec<String> = kind.names.iter().map(|path| one_line(path)).collect();
            let more = if kind.count > names.len() {
                ", ..."
            } else {
                ""
            };
            write!(
                f,
                "{comma}{} {name} ({}{more})",
                kind.count,
                names.join(", ")
            )?;
        }
        Ok(())
    }
}

/// What was left out of folders because it is no image, by ending. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OtherFiles(Arc<Mutex<FileKinds>>);

impl OtherFiles {
    fn kinds(&self) -> MutexGuard<'_, FileKinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a file.
    pub fn note(&self, path: &Path) {
        let kind = match path.extension() {
            Some(ending) => format!(".{}", ending.to_string_lossy().to_lowercase()),
            None => "without an ending".to_string(),
        };
        self.kinds().note(&kind, path);
    }

    /// Number of files.
    pub fn count(&self) -> usize {
        self.kinds().count()
    }
}

/// One line: `3 files that are not images were left out: 1 .json (c.json), 2 .txt (a.txt, b.txt)`.
impl fmt::Display for OtherFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds();
        match kinds.count() {
            1 => write!(f, "1 file that is not an image was left out: {kinds}"),
            count => write!(
                f,
                "{count} files that are not images were left out: {kinds}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_kind_and_the_first_are_named() {
        let others = OtherFiles::default();
        for name in ["a.txt", "b.TXT", "c.txt", "d.txt", "e.json", "f\ng"] {
            others.clone().note(Path::new(name));
        }
        assert_eq!(
            others.to_string(),
            "6 files that are not images were left out: 1 .json (e.json), \
             4 .txt (a.txt, b.TXT, c.txt, ...), 1 without an ending (f\\ng)"
        );
    }
}
