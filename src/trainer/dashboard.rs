//! What a run shows while it goes: burn's dashboard in a terminal, one line every few seconds elsewhere.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use burn::train::{Interrupter, LearnerSummary};
use serde::{Deserialize, Serialize};

pub use super::screen::is_dumb;
use super::screen::{Screen, can_draw, wants_colors};

/// How a run shows its progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ui {
    /// The dashboard when standard output is a terminal that can show it, else plain lines.
    #[default]
    Auto,
    /// burn's terminal dashboard.
    Dashboard,
    /// One line every few seconds.
    Plain,
    /// The same as JSON, one object a line.
    Json,
    /// Nothing.
    Quiet,
}

/// Takes lines of text as they come: the library does not print.
pub type LogFn = Arc<dyn Fn(&str) + Send + Sync>;

/// Time between two plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

impl Ui {
    /// The choice that `Auto` stands for here: the dashboard where a terminal can show it and `NO_COLOR` is not set.
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if can_draw() && wants_colors() => Self::Dashboard,
            Self::Auto => Self::Plain,
            other => other,
        }
    }

    /// The renderer to hand to burn's learner. Plain lines go to `report`.
    pub fn renderer(self, interrupter: Interrupter, report: LogFn) -> Box<dyn MetricsRenderer> {
        match self.resolve() {
            Self::Dashboard if can_draw() => Box::new(Screen::new(interrupter, report)),
            Self::Dashboard => {
                report("the dashboard needs a terminal that it can draw on: plain lines instead");
                Box::new(LineRenderer::new(report, plain_line))
            }
            Self::Quiet => Box::new(LineRenderer::new(Arc::new(|_| {}), plain_line)),
            Self::Json => Box::new(LineRenderer::new(report, json_line)),
            _ => Box::new(LineRenderer::new(report, plain_line)),
        }
    }
}

/// Where a run is.
#[derive(Default)]
pub(super) struct State {
    /// Latest value of each metric, in order of first appearance.
    values: Vec<(String, f64)>,
    epochs: usize,
    epoch: usize,
    split: String,
    items: usize,
    total_items: usize,
    seconds: f64,
}

/// Reports where a run is: epoch, share of the epoch, the metrics' latest values, time gone.
pub(super) struct LineRenderer {
    report: LogFn,
    line: fn(&State) -> String,
    names: HashMap<MetricId, String>,
    state: State,
    started: Instant,
    last_line: Instant,
}

impl LineRenderer {
    pub(super) fn new(report: LogFn, line: fn(&State) -> String) -> Self {
        let now = Instant::now();
        Self {
            report,
            line,
            names: HashMap::new(),
            state: State {
                epoch: 1,
                ..State::default()
            },
            started: now,
            last_line: now,
        }
    }

    fn update(&mut self, state: MetricState) {
        let MetricState::Numeric(entry, Some(value)) = state else {
            return;
        };
        let Some(name) = self.names.get(&entry.metric_id) else {
            return;
        };
        let value = match value {
            NumericEntry::Value(value) | NumericEntry::Final(value) => value,
            NumericEntry::Aggregated {
                aggregated_value, ..
            } => aggregated_value,
        };
        match self
            .state
            .values
            .iter_mut()
            .find(|(known, _)| known == name)
        {
            Some((_, latest)) => *latest = value,
            None => self.state.values.push((name.clone(), value)),
        }
    }

    fn report(&mut self) {
        self.last_line = Instant::now();
        self.state.seconds = self.started.elapsed().as_secs_f64();
        (self.report)(&(self.line)(&self.state));
    }
}

pub(super) fn plain_line(state: &State) -> String {
    let values: String = state
        .values
        .iter()
        .map(|(name, value)| format!("  {} {}", name.to_lowercase(), significant(*value)))
        .collect();
    format!(
        "epoch {}/{}  {} {}/{}{values}  {:.0} s",
        state.epoch, state.epochs, state.split, state.items, state.total_items, state.seconds
    )
}

fn json_line(state: &State) -> String {
    let values: serde_json::Map<String, serde_json::Value> = state
        .values
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect();
    serde_json::json!({
        "epoch": state.epoch, "epochs": state.epochs, "split": state.split, "items": state.items,
        "total_items": state.total_items, "seconds": state.seconds, "metrics": values,
    })
    .to_string()
}

/// Three to four digits that matter, without an exponent where a reader needs none.
fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

impl MetricsRendererTraining for LineRenderer {
    fn update_train(&mut self, state: MetricState) {
        self.update(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.update(state);
    }

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for LineRenderer {
    fn start(
        &mut self,
        total_epochs: usize,
        starting_epoch: usize,
        _: Option<usize>,
        _: Option<&str>,
    ) {
        self.state.epochs = total_epochs;
        self.state.epoch = starting_epoch;
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.state.split = split.to_string();
        self.state.items = 0;
        self.state.total_items = total_items;
        self.state.values.clear();
    }

    fn update_split(&mut self, items_processed: usize) {
        self.state.items = items_processed;
        if self.last_line.elapsed() >= INTERVAL {
            self.report();
        }
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.state.epoch = epoch + 1;
    }

    /// The line at the end of validation is the one that tells how a run goes: it is never left out.
    fn end_split(&mut self) {
        if self.state.split.starts_with("valid") {
            self.report();
        }
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

// burn asks one type for both halves; nothing here evaluates through burn.
impl MetricsRendererEvaluation for LineRenderer {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for LineRenderer {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for LineRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}
