//! What a run came to, in its folder: `summary.json`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files;

const FILE: &str = "summary.json";

/// The best epoch of a run, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The epoch whose weights were kept.
    pub best_epoch: Option<usize>,
    /// Its validation loss.
    pub validation_loss: Option<f64>,
    /// Seconds from the beginning to the test captions; of a run that was resumed, of all its parts that came to an end.
    pub seconds: f64,
}

impl RunSummary {
    /// Of a run's folder; `None` where it has not come to an end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        files::read_json_if_there(&run.join(FILE))
    }

    /// Notes the best epoch with its loss, and how long this part of the run took.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(run: &Path, best: Option<(usize, f64)>, took: Duration) -> Result<Self> {
        // A damaged file is written anew.
        let before = Self::read(run).ok().flatten();
        let before = before.map_or(0.0, |summary| summary.seconds);
        let summary = Self {
            best_epoch: best.map(|(epoch, _)| epoch),
            validation_loss: best.map(|(_, loss)| loss),
            seconds: before + took.as_secs_f64(),
        };
        files::write_json(&run.join(FILE), &summary)?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seconds_of_a_resumed_run_add_up() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(RunSummary::read(run.path()).unwrap(), None);
        RunSummary::write(run.path(), None, Duration::from_secs(3)).unwrap();
        let best = Some((2, 0.5));
        RunSummary::write(run.path(), best, Duration::from_secs(4)).unwrap();
        let summary = RunSummary {
            best_epoch: Some(2),
            validation_loss: Some(0.5),
            seconds: 7.0,
        };
        assert_eq!(RunSummary::read(run.path()).unwrap(), Some(summary));
    }
}
