//! One run of burn's learner, whatever is trained: metrics, log, checkpoints, dashboard, Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use burn::tensor::{ExecutionError, Tensor};
use burn::train::checkpoint::{
    ComposedCheckpointingStrategy, KeepLastNCheckpoints, MetricCheckpointingStrategy,
};
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::metric::{
    Adaptor, ItemLazy, IterationSpeedMetric, LearningRateMetric, LossInput, LossMetric,
};
use burn::train::{
    InferenceStep, Interrupter, Learner, LearnerModel, SupervisedTraining, TrainOutput, TrainStep,
};

use super::dashboard::{Report, Ui};
use super::log::JsonLinesLogger;
use super::schedule::ScheduleConfig;
use crate::files;

/// What a step gives to the metrics: the loss, `[1]`, off the autodiff device.
pub struct StepOutput {
    pub loss: Tensor<1>,
}

impl StepOutput {
    /// The backward pass: gradients for the optimiser, the loss for the metrics.
    pub fn train<M: Module>(model: &M, loss: Tensor<1>) -> TrainOutput<Self> {
        let grads = loss.backward();
        TrainOutput::new(model, grads, Self { loss: loss.inner() })
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<LossInput> for StepOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

/// Where and how long a run goes, and what it shows.
pub struct FitConfig<'a> {
    /// The run's folder; it must exist.
    pub folder: &'a Path,
    pub epochs: usize,
    /// Optimiser steps an epoch.
    pub steps_per_epoch: usize,
    pub schedule: &'a ScheduleConfig,
    pub ui: Ui,
    pub report: Report,
    /// Stops the run early when it is told to.
    pub interrupter: Interrupter,
}

/// The end of a run.
pub struct Fitted<M> {
    /// The weights with the lowest validation loss, or, when no epoch was finished, the latest.
    pub model: M,
    /// The epoch those weights are from and its validation loss; `None` when no epoch was finished.
    pub best: Option<(usize, f64)>,
    /// Whether the run was stopped before its last epoch.
    pub interrupted: bool,
}

/// Trains a model and returns its best weights, without autodiff.
///
/// # Errors
/// When a batch cannot be read, a checkpoint cannot be written, or the loss was never a number.
pub fn fit<M, T, V>(
    config: FitConfig,
    model: M,
    optimizer: ModuleOptimizer,
    train: Arc<dyn DataLoader<T>>,
    valid: Arc<dyn DataLoader<V>>,
) -> Result<Fitted<M>>
where
    M: LearnerModel
        + TrainStep<Input = T, Output = StepOutput>
        + InferenceStep<Input = V, Output = StepOutput>,
{
    let logger = JsonLinesLogger::new(&config.folder.join("metrics.jsonl"))?;
    let history = logger.history();
    let checkpoints = config.folder.join("checkpoint");
    files::create_dir(&checkpoints)?;

    let renderer = config
        .ui
        .renderer(config.interrupter.clone(), config.report);
    let result = SupervisedTraining::new(config.folder, train, valid)
        .metrics((LossMetric::new(),))
        .metric_train_numeric(LearningRateMetric::new())
        .metric_train_numeric(IterationSpeedMetric::new())
        .with_metric_logger(logger)
        .with_default_checkpointers()
        .with_checkpointing_strategy(last_and_best())
        .with_application_logger(None)
        .with_interrupter(config.interrupter.clone())
        .renderer(renderer)
        .num_epochs(config.epochs)
        .launch(Learner::new(
            model.train(),
            optimizer,
            config.schedule.init(config.epochs * config.steps_per_epoch),
        ));
    drop(result.renderer); // gives the terminal back
    if let Some(error) = result.error {
        bail!("the run in {} failed: {error}", config.folder.display());
    }
    let best = history.best();
    let interrupted = result.interrupted.is_some();
    let model = match best {
        Some((epoch, _)) => restore(result.model, &checkpoints, epoch)?,
        None if interrupted => result.model,
        None => bail!(
            "the loss was never a number: lower the learning rate (it was {})",
            config.schedule.learning_rate
        ),
    };
    Ok(Fitted {
        model,
        best,
        interrupted,
    })
}

/// Keeps the latest checkpoint, to go on from, and the one with the lowest validation loss.
fn last_and_best() -> ComposedCheckpointingStrategy {
    ComposedCheckpointingStrategy::builder()
        .add(KeepLastNCheckpoints::new(1))
        .add(MetricCheckpointingStrategy::new(
            &LossMetric::new(),
            Aggregate::Mean,
            Direction::Lowest,
            Split::Valid,
        ))
        .build()
}

fn restore<M: LearnerModel>(model: M, checkpoints: &Path, epoch: usize) -> Result<M> {
    let path: PathBuf = checkpoints.join(format!("model-{epoch}.bpk"));
    let record = ModuleRecord::load(&path)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("reading the checkpoint {}", path.display()))?;
    model
        .try_load_record(record)
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}
