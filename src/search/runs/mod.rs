//! The runs of a folder: what each was, how far it came and what came of it, read off its files.

pub mod compare;
mod read;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::evaluate::table::Style;
use crate::suggest::nearest;
use crate::train::config::TrainConfig;
use crate::train::settings::Changed;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A process writes it.
    Running,
    Finished,
    /// It was stopped, killed or failed; most can be resumed.
    Interrupted,
    /// The loss became NaN.
    Diverged,
    /// A file of it that tells how far it is cannot be read.
    Damaged,
}

/// A folder that a command wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub name: String,
    pub folder: PathBuf,
    /// The command, as in `train` and `pretrain simclr`.
    pub kind: String,
    /// `None` where the folder does not tell.
    pub state: Option<State>,
    /// Trainings that are done, and all of them, of those commands that train several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<(usize, usize)>,
    /// The preset that its settings are nearest to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<&'static str>,
    /// In what they differ from it, data and model among them where they are not the sample's.
    pub differs: Vec<Changed>,
    /// Epochs that were validated.
    pub epochs: usize,
    pub best_epoch: Option<usize>,
    /// Of the best epoch; of `tune` the mean of the best setting.
    pub validation_loss: Option<f64>,
    /// CIDEr of the best epoch's validation captions.
    pub validation_cider: Option<f64>,
    /// Scores of the test captions, by name.
    pub test: serde_json::Map<String, serde_json::Value>,
    pub seconds: Option<f64>,
    /// When it was last written to, in UTC.
    pub date: Option<String>,
    /// Why files of it cannot be read; what they would tell is missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// A training's whole settings.
    #[serde(skip)]
    pub config: Option<TrainConfig>,
}

impl Run {
    /// Reads a run's folder; `None` where it is none.
    pub fn read(folder: &Path) -> Option<Self> {
        read::run(folder)
    }

    /// A score of the test captions.
    pub fn test_score(&self, name: &str) -> Option<f64> {
        self.test.get(name)?.as_f64()
    }

    /// What was chosen about it, in a few words.
    pub fn settings(&self) -> String {
        table::settings(self)
    }
}

/// The runs in a folder, the one that was last written to last; none where there is no such folder.
pub fn list(artifacts: &Path) -> Vec<Run> {
    let entries = std::fs::read_dir(artifacts).into_iter().flatten();
    let mut runs: Vec<Run> = entries
        .filter_map(|entry| Run::read(&entry.ok()?.path()))
        .collect();
    runs.sort_by(|a, b| (&a.date, &a.name).cmp(&(&b.date, &b.name)));
    runs
}

/// A run by its name in a folder, or by its own path.
///
/// # Errors
/// When there is none; the message says which was meant or which there are.
pub fn find(artifacts: &Path, name: &str) -> Result<Run> {
    let path = Path::new(name);
    let own = path.components().count() > 1;
    let found = Run::read(&artifacts.join(name)).or_else(|| own.then(|| Run::read(path))?);
    if let Some(run) = found {
        return Ok(run);
    }
    let names: Vec<String> = list(artifacts).into_iter().map(|run| run.name).collect();
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => "there is none: train one first".to_string(),
        None => format!("there are {}", names.join(", ")),
    };
    bail!("{} has no run `{name}`: {hint}", artifacts.display())
}

/// The runs as a table.
pub fn table(runs: &[Run], style: Style) -> String {
    table::list(runs, style)
}
