//! Which epochs' checkpoints are kept, when a run ends early, and where a resumed one goes on.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use burn::train::EarlyStoppingStrategy;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};

use burn_pack::Reader;
use serde::{Deserialize, Serialize};

use super::log::History;

/// The parts of a checkpoint, `<part>-<epoch>.bpk` each.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// What makes an epoch the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BestBy {
    /// The lowest validation loss.
    Loss,
    /// The highest CIDEr of the captioned validation images.
    Cider,
}

impl BestBy {
    /// The metric's name in `metrics.jsonl`.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Cider => "CIDEr",
        }
    }
}

/// The latest epoch of which every part is on disk; burn writes each part whole or not at all.
pub fn latest(checkpoints: &Path) -> Option<usize> {
    epochs(checkpoints).into_iter().rev().find(|epoch| {
        let has = |part| checkpoints.join(format!("{part}-{epoch}.bpk")).is_file();
        PARTS.iter().all(has)
    })
}

/// Removes what burn left of a file that it was writing when the process was killed. Whoever calls it has the run's lock, so that
/// no other process writes there.
pub fn remove_scratch(checkpoints: &Path) {
    let entries = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_scratch =
            (name.to_str()).is_some_and(|name| name.contains(".bpk.") && name.ends_with(".tmp"));
        if is_scratch {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Checks that an epoch's checkpoint can be read.
///
/// # Errors
/// When a file of it is damaged; the message names it and what to do.
pub fn check(checkpoints: &Path, epoch: usize) -> Result<()> {
    for part in PARTS {
        let path = checkpoints.join(format!("{part}-{epoch}.bpk"));
        if let Err(error) = Reader::from_file_exact(&path).and_then(Reader::into_tensors) {
            return Err(damaged(&path, &error));
        }
    }
    Ok(())
}

/// What to do about a file of a checkpoint that is not as it was written.
pub fn damaged(path: &Path, error: &impl Display) -> anyhow::Error {
    let error = error.to_string();
    let error: Vec<&str> = error.split_whitespace().collect();
    anyhow!(
        "{} is damaged ({}): delete it, and the run goes on from the epoch before, or start a new run",
        path.display(),
        error.join(" ")
    )
}

/// Epochs of which there is a model.
fn epochs(checkpoints: &Path) -> BTreeSet<usize> {
    let epoch = |name: &str| {
        name.strip_prefix("model-")?
            .strip_suffix(".bpk")?
            .parse()
            .ok()
    };
    let Ok(entries) = fs::read_dir(checkpoints) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| epoch(entry.ok()?.file_name().to_str()?))
        .collect()
}

/// Keeps the two latest epochs and the best one.
///
/// Two, because the parts of a checkpoint are written side by side: while those of an epoch are, the epoch before is the
/// one to go on from.
pub struct LastTwoAndBest {
    history: History,
    by: BestBy,
    kept: BTreeSet<usize>,
}

impl LastTwoAndBest {
    /// Resumes from what is in `checkpoints`.
    pub fn new(checkpoints: &Path, history: History, by: BestBy) -> Self {
        Self {
            history,
            by,
            kept: epochs(checkpoints),
        }
    }

    fn after(&mut self, epoch: usize) -> Vec<CheckpointingAction> {
        self.kept.insert(epoch);
        let best = self.history.best(self.by).map(|(epoch, _)| epoch);
        let (keep, drop): (BTreeSet<usize>, BTreeSet<usize>) = self
            .kept
            .iter()
            .partition(|&&kept| kept + 1 >= epoch || Some(kept) == best);
        self.kept = keep;
        let delete = drop.into_iter().map(CheckpointingAction::Delete);
        std::iter::once(CheckpointingAction::Save)
            .chain(delete)
            .collect()
    }
}

impl CheckpointingStrategy for LastTwoAndBest {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        wait_for(store, epoch);
        self.after(epoch)
    }
}

/// Ends a run that has not got better for some epochs, or whose validation loss became NaN.
#[derive(Clone)]
pub struct Stopping {
    pub history: History,
    pub by: BestBy,
    /// Epochs without getting better; `None` never stops for that.
    pub patience: Option<usize>,
    /// The epoch in which the loss was not a number; 0 when it always was.
    pub diverged: Arc<AtomicUsize>,
}

impl Stopping {
    fn stops(&self, epoch: usize) -> bool {
        let loss = self.history.value(epoch, BestBy::Loss);
        if loss.is_some_and(|loss| !loss.is_finite()) {
            self.diverged.store(epoch, Ordering::SeqCst);
            return true;
        }
        let best = self.history.best(self.by).map_or(0, |(best, _)| best);
        self.patience
            .is_some_and(|patience| epoch - best >= patience)
    }
}

impl EarlyStoppingStrategy for Stopping {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        wait_for(store, epoch);
        self.stops(epoch)
    }
}

/// The history is written on another thread: an answer of the store says that it has got so far.
fn wait_for(store: &EventStoreClient, epoch: usize) {
    let _ = store.find_metric("Loss", epoch, Aggregate::Mean, &Split::Valid);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_latest_and_the_best_epoch_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::default();
        let mut strategy = LastTwoAndBest::new(folder.path(), history.clone(), BestBy::Loss);
        let mut deleted = Vec::new();
        for (epoch, loss) in (1..).zip([3.0, 1.0, 2.0, 2.0, f64::NAN]) {
            history.insert(epoch, [("Loss".to_string(), loss)].into());
            let actions = strategy.after(epoch);
            assert_eq!(actions[0], CheckpointingAction::Save);
            deleted.extend(actions.into_iter().filter_map(|action| match action {
                CheckpointingAction::Delete(epoch) => Some(epoch),
                CheckpointingAction::Save => None,
            }));
        }
        assert_eq!(deleted, [1, 3]);
        assert_eq!(strategy.kept, BTreeSet::from([2, 4, 5]));
    }

    #[test]
    fn a_checkpoint_without_all_its_parts_is_not_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(latest(folder.path()), None);
        for name in ["model-9", "optim-9", "scheduler-9", "model-10", "optim-10"] {
            fs::write(folder.path().join(format!("{name}.bpk")), "").unwrap();
        }
        assert_eq!(latest(folder.path()), Some(9));
    }

    #[test]
    fn a_run_ends_when_patience_or_the_loss_does() {
        let stopping = |patience| Stopping {
            history: History::default(),
            by: BestBy::Cider,
            patience,
            diverged: Arc::default(),
        };
        let after = |stopping: &Stopping, epoch, cider: f64, loss: f64| {
            let means = [("CIDEr".to_string(), cider), ("Loss".to_string(), loss)];
            stopping.history.insert(epoch, means.into());
            stopping.stops(epoch)
        };
        let patient = stopping(Some(2));
        assert!(!after(&patient, 1, 0.2, 9.0));
        assert!(!after(&patient, 2, 0.5, 9.0));
        assert!(!after(&patient, 3, 0.4, 1.0));
        assert!(after(&patient, 4, 0.5, 0.5), "a tie is not better");
        let endless = stopping(None);
        assert!(!after(&endless, 50, 0.0, 1.0));
        assert!(after(&endless, 51, 0.0, f64::NAN));
        assert_eq!(endless.diverged.load(Ordering::SeqCst), 51);
    }
}
