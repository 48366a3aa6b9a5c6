//! One run of burn's learner, whatever is trained: metrics, log, checkpoints, dashboard, Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use burn::tensor::{ExecutionError, GradientCheckpointingStrategy, Tensor};
use burn::train::metric::{
    Adaptor, ItemLazy, IterationSpeedMetric, LearningRateMetric, LossInput, LossMetric,
};
use burn::train::{
    ExecutionStrategy, InferenceStep, Interrupter, Learner, LearnerModel, SupervisedTraining,
    TrainOutput, TrainStep,
};

use super::checkpoints::{self, BestBy, LastTwoAndBest, Stopping};
use super::dashboard::{LogFn, Ui};
use super::log::JsonLinesLogger;
use super::precision::with_checkpointing;
use super::schedule::ScheduleConfig;
use crate::files;

/// The loss of a step, for the metrics.
pub struct StepOutput {
    /// `[1]`, off the autodiff device.
    pub loss: Tensor<1>,
}

impl StepOutput {
    /// The backward pass: gradients for the optimizer, the loss for the metrics.
    ///
    /// burn adds up the gradients of all batches and devices of a step. What is wanted is their mean, so each loss is
    /// given the weight it has in it.
    pub fn train<M: Module>(model: &M, loss: Tensor<1>, weight: f64) -> TrainOutput<Self> {
        let shown = loss.clone().inner();
        let grads = match weight {
            1.0 => loss.backward(),
            weight => (loss * weight).backward(),
        };
        TrainOutput::new(model, grads, Self { loss: shown })
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
    /// Batches an epoch.
    pub batches: usize,
    /// Batches an optimizer step; the model scales its loss by it.
    pub accumulation: usize,
    /// Whether activations that are cheap to compute are computed again in the backward pass, instead of kept for it.
    pub activation_checkpointing: bool,
    /// The devices, and how they work together.
    pub strategy: ExecutionStrategy,
    /// What makes an epoch the best.
    pub best_by: BestBy,
    /// Epochs without getting better after which the run ends.
    pub early_stopping: Option<usize>,
    /// The epoch whose checkpoint the run goes on from.
    pub resume: Option<usize>,
    pub schedule: &'a ScheduleConfig,
    pub ui: Ui,
    pub report: LogFn,
    /// Stops the run early when it is told to.
    pub interrupter: Interrupter,
}

/// The end of a run.
pub struct Fitted<M> {
    /// The best epoch's weights or, when no epoch was finished, the latest.
    pub model: M,
    /// The epoch those weights are from and its validation loss; `None` when no epoch was finished.
    pub best: Option<(usize, f64)>,
    /// Whether the run was stopped before its last epoch.
    pub interrupted: bool,
    /// The epoch in which the loss became NaN, which ended the run.
    pub diverged: Option<usize>,
}

impl FitConfig<'_> {
    /// Optimizer steps of the whole run.
    fn steps(&self) -> usize {
        self.epochs * self.batches.div_ceil(self.accumulation)
    }
}

/// The folder of a run's checkpoints.
pub fn checkpoint_folder(run: &Path) -> PathBuf {
    run.join("checkpoint")
}

fn model_file(checkpoints: &Path, epoch: usize) -> PathBuf {
    checkpoints.join(format!("model-{epoch}.bpk"))
}

/// Trains a model and returns its best weights, without autodiff. `metrics` adds those that the model has besides its loss.
///
/// # Errors
/// When a batch cannot be read, a checkpoint cannot be written, or the loss was never a number.
pub fn fit<M, T, V, O>(
    config: FitConfig,
    model: M,
    optimizer: ModuleOptimizer,
    train: Arc<dyn DataLoader<T>>,
    valid: Arc<dyn DataLoader<V>>,
    metrics: impl FnOnce(SupervisedTraining<M>) -> SupervisedTraining<M>,
) -> Result<Fitted<M>>
where
    M: LearnerModel
        + TrainStep<Input = T, Output = StepOutput>
        + InferenceStep<Input = V, Output = O>,
    O: ItemLazy + Adaptor<LossInput> + 'static,
{
    let logger = JsonLinesLogger::new(
        &config.folder.join("metrics.jsonl"),
        config.resume.unwrap_or(0),
    )?;
    let history = logger.history();
    let checkpoints = checkpoint_folder(config.folder);
    files::create_dir(&checkpoints)?;
    checkpoints::remove_scratch(&checkpoints);
    let stopping = Stopping {
        patience: config.early_stopping,
        history: history.clone(),
        by: config.best_by,
        diverged: Arc::default(),
    };
    let diverged = stopping.diverged.clone();

    let renderer = (config.ui).renderer(config.interrupter.clone(), config.report.clone());
    let mut training = SupervisedTraining::new(config.folder, train, valid)
        .metrics((LossMetric::new(),))
        .metric_train_numeric(LearningRateMetric::new())
        .metric_train_numeric(IterationSpeedMetric::new())
        .with_metric_logger(logger)
        .with_default_checkpointers()
        .with_checkpointing_strategy(LastTwoAndBest::new(
            &checkpoints,
            history.clone(),
            config.best_by,
        ))
        .early_stopping(stopping)
        .with_application_logger(None)
        .with_interrupter(config.interrupter.clone())
        .renderer(renderer)
        .num_epochs(config.epochs);
    training = metrics(training);
    if config.accumulation > 1 {
        training = training.grads_accumulation(config.accumulation);
    }
    if let Some(epoch) = config.resume {
        checkpoints::check(&checkpoints, epoch)?;
        training = training.checkpoint(epoch);
    }
    let schedule = config.schedule.init(config.steps());
    let mut model = model.train();
    if config.activation_checkpointing {
        // The learner tells its devices, but the weights keep what they were made with.
        model = with_checkpointing(model, GradientCheckpointingStrategy::Balanced);
        training = training.gradient_checkpointing();
    }
    let result = training
        .with_training_strategy(config.strategy.into())
        .launch(Learner::new(model, optimizer, schedule));
    drop(result.renderer); // gives the terminal back
    if let Some(error) = result.error {
        bail!(
            "the run in {} failed: {error} (what was learned up to the last checkpoint is kept: resume with --resume)",
            config.folder.display()
        );
    }
    // A run that is stopped while it validates has numbers for an epoch that it has no weights of.
    history.retain(|epoch| model_file(&checkpoints, epoch).is_file());
    let best = history
        .best(config.best_by)
        .and_then(|(epoch, _)| Some((epoch, history.value(epoch, BestBy::Loss)?)));
    let diverged = match diverged.load(Ordering::SeqCst) {
        0 => None,
        epoch => Some(epoch),
    };
    let interrupted = result.interrupted.is_some() && diverged.is_none();
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
        diverged,
    })
}

fn restore<M: LearnerModel>(model: M, checkpoints: &Path, epoch: usize) -> Result<M> {
    let path = model_file(checkpoints, epoch);
    let record = ModuleRecord::load(&path).map_err(|error| checkpoints::damaged(&path, &error))?;
    model
        .try_load_record(record)
        .map_err(|error| checkpoints::damaged(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    use burn::data::dataset::InMemDataset;
    use burn::module::{Initializer, Param};
    use burn::optim::SgdConfig;
    use burn::tensor::Device;
    use rand_chacha::ChaCha8Rng;

    use crate::data::loader::{EpochLoader, Order, SeededBatcher};
    use crate::trainer::schedule::Decay;

    /// One number, pulled to 0; told to stop in the middle of a validation.
    #[derive(Module, Debug)]
    struct Number {
        weight: Param<Tensor<1>>,
        #[module(skip)]
        interrupter: Stop,
        /// Validation steps left.
        #[module(skip)]
        left: Arc<AtomicUsize>,
    }

    #[derive(Clone)]
    struct Stop(Interrupter);

    impl std::fmt::Debug for Stop {
        fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("Stop")
        }
    }

    struct Nothing;

    impl SeededBatcher for Nothing {
        type Item = u8;
        type Batch = usize;

        fn batch(&self, items: Vec<u8>, _: &mut ChaCha8Rng, _: &Device) -> usize {
            items.len()
        }
    }

    impl TrainStep for Number {
        type Input = usize;
        type Output = StepOutput;

        fn step(&self, _: usize) -> TrainOutput<StepOutput> {
            StepOutput::train(self, self.weight.val().powi_scalar(2), 1.0)
        }
    }

    impl InferenceStep for Number {
        type Input = usize;
        type Output = StepOutput;

        fn step(&self, _: usize) -> StepOutput {
            if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.interrupter.0.stop(None);
            }
            StepOutput {
                loss: self.weight.val().powi_scalar(2),
            }
        }
    }

    #[test]
    fn a_run_stopped_while_it_validates_gives_the_best_epoch_that_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let interrupter = Interrupter::new();
        let model = Number {
            weight: Initializer::Ones.init([1], &device),
            interrupter: Stop(interrupter.clone()),
            left: Arc::new(AtomicUsize::new(4 + 4 + 2)),
        };
        let loader = || {
            let data = InMemDataset::new(vec![0; 4]);
            Arc::new(EpochLoader::new(
                data,
                Nothing,
                1,
                Order::Given,
                1,
                1,
                &device,
            ))
        };
        let config = FitConfig {
            folder: folder.path(),
            epochs: 5,
            batches: 4,
            accumulation: 1,
            activation_checkpointing: false,
            strategy: ExecutionStrategy::SingleDevice(device.clone()),
            best_by: BestBy::Loss,
            early_stopping: None,
            resume: None,
            schedule: &ScheduleConfig {
                learning_rate: 0.1,
                warmup_steps: 0,
                decay: Decay::Linear,
            },
            ui: Ui::Quiet,
            report: Arc::new(|_| ()),
            interrupter,
        };
        let optimizer = SgdConfig::new().init();
        let fitted = fit(config, model, optimizer, loader(), loader(), |run| run).unwrap();
        assert!(fitted.interrupted);
        let (epoch, loss) = fitted.best.unwrap();
        let weight = f64::from(fitted.model.weight.val().into_scalar::<f32>());
        assert_eq!(epoch, 2);
        assert!(
            (weight * weight - loss).abs() < 1e-6 && loss < 0.1,
            "{loss}"
        );
    }
}
