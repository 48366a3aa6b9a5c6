//! Files that have no answer for what they are, counted and named at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::path_text::one_line;

/// How many files of a kind are named.
const NAMED: usize = 3;
/// How many endings are told apart.
const ENDINGS: usize = 20;

/// Files by kind: how many, and the first of them. As text `3 HEIC (a.heic, b.heic, c.heic), 1 AVIF (d.avif)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileKinds(BTreeMap<String, Kind>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Counts a file by its ending; those with a rare ending count together once there are many.
    pub fn note_ending(&mut self, path: &Path) {
        let kind = match path.extension() {
            Some(ending) => format!(".{}", ending.to_string_lossy().to_lowercase()),
            None => "without an ending".to_string(),
        };
        match self.0.len() < ENDINGS || self.0.contains_key(&kind) {
            true => self.note(&kind, path),
            false => self.note("with other endings", path),
        }
    }

    /// One line, unless there are none: `3 files that are WHAT were left out: 1 .json (c.json), 2 .txt (a.txt, b.txt)`.
    pub fn left_out(&self, one: &str, several: &str) -> Option<String> {
        match self.count() {
            0 => None,
            1 => Some(format!("1 file that is {one} was left out: {self}")),
            count => Some(format!(
                "{count} files that are {several} were left out: {self}"
            )),
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
    fn lock(&self) -> MutexGuard<'_, FileKinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far.
    pub fn kinds(&self) -> FileKinds {
        self.lock().clone()
    }

    /// Counts a file.
    pub fn note(&self, path: &Path) {
        self.lock().note_ending(path);
    }

    /// Number of files.
    pub fn count(&self) -> usize {
        self.lock().count()
    }
}

/// One line: `3 files that are not images were left out: 1 .json (c.json), 2 .txt (a.txt, b.txt)`.
impl fmt::Display for OtherFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.lock().left_out("not an image", "not images");
        f.write_str(&line.unwrap_or_default())
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

    #[test]
    fn rare_endings_count_together() {
        let mut kinds = FileKinds::default();
        for n in 0..100 {
            kinds.note_ending(Path::new(&format!("a.{n:02}")));
        }
        kinds.note_ending(Path::new("b.00"));
        let line = kinds.left_out("odd", "odd").unwrap();
        assert!(
            line.starts_with(
                "101 files that are odd were left out: 2 .00 (a.00, b.00), 1 .01 (a.01)"
            )
        );
        assert!(
            line.ends_with("80 with other endings (a.20, a.21, a.22, ...)"),
            "{line}"
        );
        assert_eq!(FileKinds::default().left_out("odd", "odd"), None);
    }
}
