//! How a run ended, in its folder: `status.json`.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files;

const FILE: &str = "status.json";

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It goes on, or ended without a word: it was killed, or failed.
    Begun,
    /// It was stopped, and can be resumed.
    Interrupted,
    /// The loss became NaN.
    Diverged,
    /// All epochs are done, or early stopping ended them.
    Finished,
}

#[derive(Serialize, Deserialize)]
struct StatusFile {
    status: RunStatus,
}

impl RunStatus {
    /// Of a run's folder; `None` where nothing is noted, as in those of version 0.1.
    pub fn read(run: &Path) -> Option<Self> {
        let file: Result<StatusFile> = files::read_json(&run.join(FILE));
        file.ok().map(|file| file.status)
    }

    /// Notes it in a run's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(self, run: &Path) -> Result<()> {
        files::write_json(&run.join(FILE), &StatusFile { status: self })
    }

    /// The end of a run.
    pub fn of(interrupted: bool, diverged: Option<usize>) -> Self {
        match (diverged, interrupted) {
            (Some(_), _) => Self::Diverged,
            (None, true) => Self::Interrupted,
            (None, false) => Self::Finished,
        }
    }

    /// In words, as in `train-1 was interrupted`.
    pub fn describe(status: Option<Self>) -> &'static str {
        match status {
            Some(Self::Begun) => "is not finished",
            Some(Self::Interrupted) => "was interrupted",
            Some(Self::Diverged) => "diverged",
            Some(Self::Finished) => "finished",
            None => "has no note of its end",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(RunStatus::read(run.path()), None);
        for status in [RunStatus::of(true, None), RunStatus::of(true, Some(2))] {
            status.write(run.path()).unwrap();
            assert_eq!(RunStatus::read(run.path()), Some(status));
        }
        assert_eq!(RunStatus::of(false, None), RunStatus::Finished);
    }
}
