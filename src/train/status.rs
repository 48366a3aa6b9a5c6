//! How a run ended, in its folder: `status.json`.

use std::path::Path;

use anyhow::{Result, anyhow};
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
    ///
    /// # Errors
    /// When what is noted cannot be read; the message names the file.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        let file: Option<StatusFile> =
            files::read_json_if_there(&run.join(FILE)).map_err(|error| {
                anyhow!("{error:#}: delete it, for it only tells how the run ended")
            })?;
        Ok(file.map(|file| file.status))
    }

    /// Whether a folder has a note of a run's end, readable or not: it is a run's then, and no model's.
    pub fn is_noted(run: &Path) -> bool {
        run.join(FILE).exists()
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
        let read = || RunStatus::read(run.path()).unwrap();
        assert_eq!(read(), None);
        assert!(!RunStatus::is_noted(run.path()));
        for status in [RunStatus::of(true, None), RunStatus::of(true, Some(2))] {
            status.write(run.path()).unwrap();
            assert_eq!(read(), Some(status));
        }
        std::fs::write(run.path().join(FILE), "{\"status\": ").unwrap();
        let error = format!("{:#}", RunStatus::read(run.path()).unwrap_err());
        assert!(error.contains(FILE), "{error}");
        assert!(RunStatus::is_noted(run.path()));
        assert_eq!(RunStatus::of(false, None), RunStatus::Finished);
    }
}
