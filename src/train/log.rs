//! The numbers of a run as JSON Lines, one line a step and one an epoch:
//! `{"epoch":1,"split":"train","step":3,"Loss":2.31,"Learning Rate":0.001}`,
//! `{"epoch":1,"split":"valid","mean":{"Loss":2.12}}`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use burn::train::logger::{InMemoryMetricLogger, MetricLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use serde_json::{Map, Value, json};

/// Means of an epoch, by metric.
type Means = BTreeMap<String, f64>;

/// Validation means of each finished epoch, shared with who started the run.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<BTreeMap<usize, Means>>>);

impl History {
    /// The epoch with the lowest validation loss and that loss.
    pub fn best(&self) -> Option<(usize, f64)> {
        let epochs = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        epochs
            .iter()
            .filter_map(|(&epoch, means)| means.get("Loss").map(|&loss| (epoch, loss)))
            .filter(|(_, loss)| loss.is_finite())
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Writes `metrics.jsonl`. What burn reads back (for the best checkpoint) is kept in memory beside it.
pub struct JsonLinesLogger {
    file: BufWriter<File>,
    memory: InMemoryMetricLogger,
    names: HashMap<MetricId, String>,
    steps: usize,
    sums: BTreeMap<String, (f64, usize)>,
    history: History,
}

impl JsonLinesLogger {
    /// Starts a file, or goes on with one.
    pub fn new(path: &Path) -> Result<Self> {
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
            memory: InMemoryMetricLogger::new(),
            names: HashMap::new(),
            steps: 0,
            sums: BTreeMap::new(),
            history: History::default(),
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
                Some(NumericEntry::Final(_)) => last = true,
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
        self.memory.log(update, epoch, split);
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        self.memory.read_numeric(name, epoch, split)
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.to_string());
        self.memory.log_metric_definition(definition);
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let means: Means = std::mem::take(&mut self.sums)
            .into_iter()
            .map(|(name, (sum, count))| (name, sum / count as f64))
            .collect();
        self.steps = 0;
        self.write(&json!({
            "epoch": summary.epoch_number,
            "split": summary.split.to_string(),
            "mean": &means,
        }));
        if summary.split == Split::Valid {
            self.history
                .0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .insert(summary.epoch_number, means);
        }
        self.memory.log_epoch_summary(summary);
    }
}
