//! Files in folders that are not images, to be counted and named at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many files of a kind are named.
const NAMED: usize = 3;

/// What was left out of folders because it is no image, by kind. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OtherFiles(Arc<Mutex<BTreeMap<String, Kind>>>);

#[derive(Clone, Debug, Default)]
struct Kind {
    count: usize,
    /// The first of them.
    names: Vec<PathBuf>,
}

impl OtherFiles {
    /// Counts a file by the ending of its name.
    pub fn note(&self, path: &Path) {
        let kind = match path.extension() {
            Some(ending) => format!(".{}", ending.to_string_lossy().to_lowercase()),
            None => "without an ending".to_string(),
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_default();
        kind.count += 1;
        if kind.names.len() < NAMED {
            kind.names.push(path.to_path_buf());
        }
    }

    /// Number of files.
    pub fn count(&self) -> usize {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.values().map(|kind| kind.count).sum()
    }
}

/// One line: `3 files that are not images were left out: 2 .txt (a.txt, b.txt), 1 .json (c.json)`.
impl fmt::Display for OtherFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        match count {
            1 => f.write_str("1 file that is no image was left out")?,
            _ => write!(f, "{count} files that are not images were left out")?,
        }
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, (name, kind)) in kinds.iter().enumerate() {
            f.write_str(if place == 0 { ": " } else { ", " })?;
            write!(f, "{} {name} (", kind.count)?;
            for (place, path) in kind.names.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { ", " })?;
                write!(f, "{}", super::one_line(path))?;
            }
            let more = kind.count > kind.names.len();
            f.write_str(if more { ", ...)" } else { ")" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_kind_and_the_first_are_named() {
        let others = OtherFiles::default();
        for name in ["a.txt", "b.TXT", "c.txt", "d.txt", "e.json", "f"] {
            others.clone().note(Path::new(name));
        }
        assert_eq!(
            others.to_string(),
            "6 files that are not images were left out: 1 .json (e.json), \
             4 .txt (a.txt, b.TXT, c.txt, ...), 1 without an ending (f)"
        );
    }
}
