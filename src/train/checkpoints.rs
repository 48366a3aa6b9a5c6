//! Which epochs' checkpoints are kept, when a run ends early, and where a resumed one goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::train::EarlyStoppingStrategy;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};

/// The parts of a checkpoint, `<part>-<epoch>.bpk` each.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// An epoch and its validation loss.
pub type Scored = (usize, f64);

/// The latest epoch of which every part is on disk; burn writes each part whole or not at all.
pub fn latest(checkpoints: &Path) -> Option<usize> {
    epochs(checkpoints).into_iter().rev().find(|epoch| {
        let has = |part| checkpoints.join(format!("{part}-{epoch}.bpk")).is_file();
        PARTS.iter().all(has)
    })
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

/// Keeps the two latest epochs and the one with the lowest validation loss.
///
/// Two, because the parts of a checkpoint are written side by side: while those of an epoch are, the epoch before is the
/// one to go on from.
pub struct LastTwoAndBest {
    best: Option<Scored>,
    kept: BTreeSet<usize>,
}

impl LastTwoAndBest {
    /// Goes on with what is in `checkpoints`, `best` being the best epoch so far.
    pub fn new(checkpoints: &Path, best: Option<Scored>) -> Self {
        Self {
            best,
            kept: epochs(checkpoints),
        }
    }

    fn after(&mut self, epoch: usize, loss: Option<f64>) -> Vec<CheckpointingAction> {
        self.best = better(self.best, epoch, loss);
        self.kept.insert(epoch);
        let best = self.best.map(|(epoch, _)| epoch);
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
        let loss = validation_loss(store, epoch);
        self.after(epoch, loss)
    }
}

/// Ends a run whose validation loss has not fallen for some epochs, or is not a number any more.
#[derive(Clone)]
pub struct Stopping {
    /// Epochs without a lower loss; `None` never stops for that.
    pub patience: Option<usize>,
    pub best: Option<Scored>,
    /// The epoch in which the loss was not a number; 0 when it always was.
    pub diverged: Arc<AtomicUsize>,
}

impl Stopping {
    fn stops(&mut self, epoch: usize, loss: Option<f64>) -> bool {
        if loss.is_some_and(|loss| !loss.is_finite()) {
            self.diverged.store(epoch, Ordering::SeqCst);
            return true;
        }
        self.best = better(self.best, epoch, loss);
        let since = epoch - self.best.map_or(0, |(best, _)| best);
        self.patience.is_some_and(|patience| since >= patience)
    }
}

impl EarlyStoppingStrategy for Stopping {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        let loss = validation_loss(store, epoch);
        self.stops(epoch, loss)
    }
}

fn validation_loss(store: &EventStoreClient, epoch: usize) -> Option<f64> {
    store.find_metric("Loss", epoch, Aggregate::Mean, &Split::Valid)
}

fn better(best: Option<Scored>, epoch: usize, loss: Option<f64>) -> Option<Scored> {
    match (best, loss) {
        (Some((_, lowest)), Some(loss)) if loss.is_finite() && loss < lowest => Some((epoch, loss)),
        (None, Some(loss)) if loss.is_finite() => Some((epoch, loss)),
        _ => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_latest_and_the_best_epoch_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut strategy = LastTwoAndBest::new(folder.path(), None);
        let deleted: Vec<usize> = [3.0, 1.0, 2.0, 2.0, f64::NAN]
            .into_iter()
            .enumerate()
            .flat_map(|(i, loss)| strategy.after(i + 1, Some(loss)))
            .filter_map(|action| match action {
                CheckpointingAction::Delete(epoch) => Some(epoch),
                CheckpointingAction::Save => None,
            })
            .collect();
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
            patience,
            best: None,
            diverged: Arc::default(),
        };
        let mut patient = stopping(Some(2));
        let losses = [2.0, 1.0, 1.5, 1.0];
        let stops: Vec<bool> = (1..)
            .zip(losses)
            .map(|(epoch, loss)| patient.stops(epoch, Some(loss)))
            .collect();
        assert_eq!(stops, [false, false, false, true]);
        let mut endless = stopping(None);
        assert!(!endless.stops(50, Some(1.0)));
        assert!(endless.stops(51, Some(f64::NAN)));
        assert_eq!(endless.diverged.load(Ordering::SeqCst), 51);
    }
}
