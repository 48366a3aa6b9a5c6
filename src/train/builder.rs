//! Training in one call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::train::Interrupter;

use super::caption::{TrainContext, Trained, train};
use super::config::TrainConfig;
use super::resume;
use crate::datasets;
use crate::device::{DeviceChoice, Devices};
use crate::trainer::dashboard::{LogFn, Ui};
use crate::trainer::run;

/// A training run that is about to begin, or to go on.
///
/// ```no_run
/// use clipcap::{TrainConfig, TrainData, Trainer};
///
/// # fn main() -> anyhow::Result<()> {
/// let data = TrainData::Files {
///     captions: "captions.json".into(),
///     images: vec!["photos".into()],
/// };
/// let mut config = TrainConfig::paper(data, "model/mine".into());
/// config.epochs = 10;
/// let trained = Trainer::new(config).run_name("mine").train()?;
/// println!("the model is {}", trained.model.display());
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    /// Settings of a new run, or the folder of one that goes on.
    begin: Begin,
    /// Instead of the settings' model folder.
    model: Option<PathBuf>,
    artifacts: PathBuf,
    name: Option<String>,
    dataset: PathBuf,
    devices: Option<Devices>,
    ui: Ui,
    report: LogFn,
    interrupter: Interrupter,
    tensorboard: bool,
}

enum Begin {
    New(Box<TrainConfig>),
    Resume(PathBuf),
}

impl Trainer {
    /// A new run with these settings, in silence, on the device that [`DeviceChoice::Auto`] finds, in
    /// `artifacts/train-N` of the current folder.
    pub fn new(config: TrainConfig) -> Self {
        Self::of(Begin::New(Box::new(config)))
    }

    /// Resumes a run from its last checkpoint, with its own settings.
    pub fn resume(folder: impl Into<PathBuf>) -> Self {
        Self::of(Begin::Resume(folder.into()))
    }

    fn of(begin: Begin) -> Self {
        Self {
            begin,
            model: None,
            artifacts: run::ARTIFACTS.into(),
            name: None,
            dataset: datasets::FOLDER.into(),
            devices: None,
            ui: Ui::Quiet,
            report: Arc::new(|_| ()),
            interrupter: Interrupter::new(),
            tensorboard: false,
        }
    }

    /// The model folder that CLIP and GPT-2 come from, where it is another than the settings say: a run that is resumed may
    /// find it elsewhere.
    #[must_use]
    pub fn model(self, model: impl Into<PathBuf>) -> Self {
        Self {
            model: Some(model.into()),
            ..self
        }
    }

    /// The name of a new run's folder.
    #[must_use]
    pub fn run_name(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// The folder that new runs are made in.
    #[must_use]
    pub fn artifacts(self, artifacts: impl Into<PathBuf>) -> Self {
        Self {
            artifacts: artifacts.into(),
            ..self
        }
    }

    /// The folder for the generated sample and cached embeddings.
    #[must_use]
    pub fn dataset(self, dataset: impl Into<PathBuf>) -> Self {
        Self {
            dataset: dataset.into(),
            ..self
        }
    }

    /// The devices that share every batch.
    #[must_use]
    pub fn devices(self, devices: Devices) -> Self {
        Self {
            devices: Some(devices),
            ..self
        }
    }

    /// How progress is shown.
    #[must_use]
    pub fn ui(self, ui: Ui) -> Self {
        Self { ui, ..self }
    }

    /// Takes lines of text as they come.
    #[must_use]
    pub fn report(self, report: LogFn) -> Self {
        Self { report, ..self }
    }

    /// What stops the run early, when it is told to.
    #[must_use]
    pub fn interrupter(self, interrupter: Interrupter) -> Self {
        Self {
            interrupter,
            ..self
        }
    }

    /// Whether event files for TensorBoard are written into the run's folder too.
    #[must_use]
    pub fn tensorboard(self, tensorboard: bool) -> Self {
        Self {
            tensorboard,
            ..self
        }
    }

    /// Trains, and captions the test part.
    ///
    /// # Errors
    /// When a setting makes no sense, a device cannot be had, the run's name is taken or is none, and as
    /// [`train`](super::caption::train)'s.
    pub fn train(self) -> Result<Trained> {
        let devices = match self.devices {
            Some(devices) => devices,
            None => Devices::resolve(&[DeviceChoice::Auto])?,
        };
        let resume = matches!(self.begin, Begin::Resume(_));
        let (folder, mut config) = match self.begin {
            Begin::Resume(folder) => {
                let config = resume::config(&folder)?;
                (folder, config)
            }
            Begin::New(config) => {
                config.validate()?;
                let folder = run::create(&self.artifacts, "train", self.name.as_deref())?;
                (folder, *config)
            }
        };
        config.model = self.model.unwrap_or(config.model);
        let context = TrainContext {
            folder: &folder,
            dataset: Path::new(&self.dataset),
            devices: &devices,
            ui: self.ui,
            report: self.report,
            interrupter: self.interrupter,
            resume,
            tensorboard: self.tensorboard,
        };
        match resume {
            true => train(&config, &context),
            false => run::within(&folder, || train(&config, &context)),
        }
    }
}
