//! The numbers of a run as JSON Lines, one line a step and one an epoch:
//! `{"epoch":1,"split":"train","step":3,"Loss":2.31,"Learning Rate":0.001}`,
//! `{"epoch":1,"split":"valid","mean":{"Loss":2.12}}`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use serde_json::{Map, Value, json};

use super::checkpoints::BestBy;
use crate::files;

/// Means of an epoch, by metric.
pub(super) type Means = BTreeMap<String, f64>;

/// Validation means of each finished epoch, shared with who started the run.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<BTreeMap<usize, Means>>>);

impl History {
    /// The best epoch and its value: the lowest loss, or the highest CIDEr. The first of equals.
    pub fn best(&self, by: BestBy) -> Option<(usize, f64)> {
        let epochs = self.lock();
        let values = epochs
            .iter()
            .filter_map(|(&epoch, means)| Some((epoch, *means.get(by.metric())?)))
            .filter(|(_, value)| value.is_finite());
        let sign = match by {
            BestBy::Loss => 1.0,
            BestBy::Cider => -1.0,
        };
        values.min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)))
    }

    /// What an epoch came to.
    pub fn value(&self, epoch: usize, by: BestBy) -> Option<f64> {
        self.lock().get(&epoch)?.get(by.metric()).copied()
    }

    /// Forgets epochs of which this is not true.
    pub(super) fn retain(&self, keep: impl Fn(usize) -> bool) {
        self.lock().retain(|&epoch, _| keep(epoch));
    }

    pub(super) fn insert(&self, epoch: usize, means: Means) {
        self.lock().insert(epoch, means);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Means>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Writes `metrics.jsonl`, and keeps in memory what the epochs came to: a run's steps are too many.
pub struct JsonLinesLogger {
    file: BufWriter<File>,
    names: HashMap<MetricId, String>,
    steps: usize,
    sums: BTreeMap<String, (f64, usize)>,
    /// What a metric itself says of the epoch.
    finals: Means,
    history: History,
}

impl JsonLinesLogger {
    /// Starts a file, or appends to the one of a run that is resumed after epoch `last`: what it says of later epochs,
    /// which are run again, is dropped.
    pub fn new(path: &Path, last: usize) -> Result<Self> {
        let history = rewind(path, last)?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| {
                format!(
                    "cannot write {}: check permissions and free space",
                    path.display()
                )
            })?;
        Ok(Self {
            file: BufWriter::new(file),
            names: HashMap::new(),
            steps: 0,
            sums: BTreeMap::new(),
            finals: Means::new(),
            history,
        })
    }

    /// The validation means, as they come.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// The log is a by-product: when it cannot be written, the checkpoint cannot either, and that fails the run.
    fn write(&mut self, line: &Value) {
        let _ = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
    }
}

/// Cuts a log off after an epoch and gives the validation means that are left.
fn rewind(path: &Path, last: usize) -> Result<History> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(History::default()),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut kept = String::new();
    let mut epochs = BTreeMap::new();
    // The last line may have been cut short.
    for line in text.lines() {
        let Ok(Value::Object(entry)) = serde_json::from_str(line) else {
            continue;
        };
        let Some(epoch) = entry.get("epoch").and_then(Value::as_u64) else {
            continue;
        };
        let epoch = epoch as usize;
        if epoch > last {
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
        if entry.get("split").and_then(Value::as_str) == Some("valid")
            && let Some(Value::Object(means)) = entry.get("mean")
        {
            let number = |(name, value): (&String, &Value)| Some((name.clone(), value.as_f64()?));
            epochs.insert(epoch, means.iter().filter_map(number).collect());
        }
    }
    files::write_atomic(path, |writer| writer.write_all(kept.as_bytes()))?;
    Ok(History(Arc::new(Mutex::new(epochs))))
}

impl MetricLogger for JsonLinesLogger {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        self.steps += 1;
        let mut line = Map::new();
        line.insert("epoch".into(), epoch.into());
        line.insert("split".into(), split.to_string().into());
        line.insert("step".into(), self.steps.into());
        let mut last = false;
        for numeric in &update.entries_numeric {
            let Some(name) = self.names.get(&numeric.entry.metric_id) else {
                continue;
            };
            match numeric.numeric_entry {
                Some(NumericEntry::Final(value)) => {
                    last = true;
                    self.finals.insert(name.clone(), value);
                }
                Some(ref entry) => {
                    let value = entry.current();
                    line.insert(name.clone(), value.into());
                    let sum = self.sums.entry(name.clone()).or_default();
                    *sum = (sum.0 + value, sum.1 + 1);
                }
                None => {}
            }
        }
        if !last {
            self.write(&Value::Object(line));
        }
    }

    /// Nothing: who chooses epochs asks the history.
    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let mut means: Means = std::mem::take(&mut self.sums)
            .into_iter()
            .map(|(name, (sum, count))| (name, sum / count as f64))
            .collect();
        means.extend(std::mem::take(&mut self.finals));
        self.steps = 0;
        self.write(&json!({
            "epoch": summary.epoch_number,
            "split": summary.split.to_string(),
            "mean": &means,
        }));
        if summary.split == Split::Valid {
            self.history.insert(summary.epoch_number, means);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_forgets_the_epochs_that_are_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            r#"{"epoch":1,"split":"train","step":1,"Loss":3.0}"#,
            r#"{"epoch":1,"split":"valid","mean":{"Loss":2.5}}"#,
            r#"{"epoch":2,"split":"valid","mean":{"Loss":1.5}}"#,
            r#"{"epoch":3,"split":"valid","mean":{"Loss":0.5}}"#,
            r#"{"epoch":4,"spl"#,
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        let logger = JsonLinesLogger::new(&path, 2).unwrap();
        assert_eq!(logger.history().best(BestBy::Loss), Some((2, 1.5)));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            lines[..3].join("\n") + "\n"
        );
    }
}
