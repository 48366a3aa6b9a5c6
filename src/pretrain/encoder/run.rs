//! A run from its settings to a model folder with an encoder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::LinearConfig;
use burn::train::{ExecutionStrategy, InferenceStep, LearnerModel, TrainStep};
use serde_json::json;

use super::batches::{Classes, ImageDataset, ImageItem, OneView, TwoViews, ViewBatcher};
use super::config::{EncoderRunConfig, Method};
use super::learners::{AutoencoderLearner, ClassifierLearner, ProjectionHead, SimclrLearner};
use super::pca::fit_pca;
use crate::captioner::model_folder::{self, Part};
use crate::data::loader::{EpochLoader, Order, SeededBatcher};
use crate::datasets::classes::{ClassSet, Images};
use crate::files;
use crate::models::encoder::{ImageEncoderConfig, NetworkConfig, preprocessing};
use crate::models::pca::{Pca, PcaConfig};
use crate::pretrain::augment::Augmentation;
use crate::pretrain::run::{PretrainContext, Pretrained};
use crate::trainer::checkpoints::BestBy;
use crate::trainer::fit::{FitConfig, Fitted, StepOutput, fit};
use crate::trainer::inputs::{self, Input};
use crate::trainer::run;

/// One in this many images is for validation.
const VALIDATION: usize = 20;

/// Where an encoder is trained.
pub struct EncoderRun<'a> {
    pub context: PretrainContext<'a>,
    /// The folder that fetched data sets are in.
    pub dataset: &'a Path,
}

/// What a finished run leaves in the model folder.
struct Done<M> {
    network: NetworkConfig,
    module: M,
    fitted: Pretrained,
}

/// Trains an encoder and puts it into the model folder.
///
/// # Errors
/// When the settings make no sense, the data cannot be read or are too few, or the run fails.
pub fn pretrain_encoder(config: &EncoderRunConfig, run: &EncoderRun) -> Result<Pretrained> {
    config.validate()?;
    run.context.check_output(Part::Encoder, config)?;
    let _lock = run::lock(run.context.folder)?;
    let path = run.context.folder.join("config.json");
    files::write_json(&path, config)?;
    let set = config.load_set(run.dataset, &|line| (run.context.report)(line))?;
    check_data(run.context.folder, config, &set)?;
    run.context.device.seed(config.seed);
    match &config.method {
        Method::Simclr { .. } => save(config, run, simclr(config, run, &set)?),
        Method::Autoencoder { width, dim } => {
            save(config, run, autoencoder(config, run, &set, *width, *dim)?)
        }
        Method::Resnet18 { .. } => save(config, run, classifier(config, run, &set)?),
        Method::Pca { dim } => save(config, run, pca(config, &set, *dim)?),
    }
}

/// Notes in a run's folder what images it learns from or, when it goes on, checks that they are the same.
///
/// # Errors
/// When they are others; the message names the data set and the fix.
pub fn check_data(folder: &Path, config: &EncoderRunConfig, set: &ClassSet) -> Result<()> {
    let input = Input {
        name: "images".into(),
        hash: set.fingerprint(),
        changed: format!(
            "other images than {} has now: put back what was there, or start a new run",
            config.data
        ),
    };
    inputs::check(folder, inputs::ENCODER, &[input])
}

fn simclr(
    config: &EncoderRunConfig,
    run: &EncoderRun,
    set: &ClassSet,
) -> Result<Done<crate::models::resnet18::ResNet18>> {
    let Method::Simclr {
        network,
        projection,
        loss,
        augmentation,
    } = &config.method
    else {
        return Err(anyhow!("the settings are not SimCLR's"));
    };
    let device = run.context.device;
    let learner = SimclrLearner {
        encoder: network.init(device),
        head: ProjectionHead::new(network.dim(), *projection, device),
        loss: *loss,
    };
    let batcher = || batcher(config, augmentation, TwoViews);
    let (train, valid) = parts(set.to_pretrain(), Vec::new());
    let (model, fitted) = fit_parts(config, run, learner, (train, batcher()), (valid, batcher()))?;
    Ok(Done {
        network: NetworkConfig::Resnet18(*network),
        module: model.encoder,
        fitted,
    })
}

fn autoencoder(
    config: &EncoderRunConfig,
    run: &EncoderRun,
    set: &ClassSet,
    width: usize,
    dim: usize,
) -> Result<Done<crate::models::autoencoder::Autoencoder>> {
    let network = config.autoencoder_config(width, dim);
    let learner = AutoencoderLearner {
        network: network.init(run.context.device),
    };
    let batcher = || batcher(config, &Augmentation::none(), OneView);
    let (train, valid) = parts(set.to_pretrain(), Vec::new());
    let (model, fitted) = fit_parts(config, run, learner, (train, batcher()), (valid, batcher()))?;
    Ok(Done {
        network: NetworkConfig::Autoencoder(network),
        module: model.network,
        fitted,
    })
}

fn classifier(
    config: &EncoderRunConfig,
    run: &EncoderRun,
    set: &ClassSet,
) -> Result<Done<crate::models::resnet18::ResNet18>> {
    let Method::Resnet18 {
        network,
        augmentation,
    } = &config.method
    else {
        return Err(anyhow!(
            "the settings are not those of a supervised network"
        ));
    };
    let device = run.context.device;
    let learner = ClassifierLearner {
        encoder: network.init(device),
        fc: LinearConfig::new(network.dim(), set.classes.len()).init(device),
    };
    let (train, valid) = parts(set.train.images.clone(), set.train.labels.clone());
    let (model, fitted) = fit_parts(
        config,
        run,
        learner,
        (train, batcher(config, augmentation, Classes)),
        (valid, batcher(config, &Augmentation::none(), Classes)),
    )?;
    Ok(Done {
        network: NetworkConfig::Resnet18(*network),
        module: model.encoder,
        fitted,
    })
}

fn pca(config: &EncoderRunConfig, set: &ClassSet, dim: usize) -> Result<Done<Pca>> {
    let pca = fit_pca(&set.to_pretrain(), config.image_size, dim, config.seed)?;
    let input = 3 * (config.image_size as usize).pow(2);
    Ok(Done {
        network: NetworkConfig::Pca(PcaConfig { dim, input }),
        fitted: Pretrained {
            best: None,
            parameters: pca.num_params(),
            interrupted: false,
        },
        module: pca,
    })
}

fn batcher<K>(config: &EncoderRunConfig, augmentation: &Augmentation, kind: K) -> ViewBatcher<K> {
    ViewBatcher {
        augmentation: augmentation.clone(),
        preprocessing: preprocessing(config.image_size),
        kind,
    }
}

/// Images to train on and, evenly spread among them, to validate on.
fn parts(images: Images, labels: Vec<usize>) -> (ImageDataset, ImageDataset) {
    let (valid, train): (Vec<usize>, Vec<usize>) =
        (0..images.len()).partition(|index| index % VALIDATION == VALIDATION - 1);
    let part = |which: Vec<usize>| ImageDataset {
        labels: match labels.is_empty() {
            true => Vec::new(),
            false => which.iter().map(|&index| labels[index]).collect(),
        },
        images: images.choose(which),
    };
    (part(train), part(valid))
}

/// Trains with the learner and returns the best weights.
fn fit_parts<M, B, V>(
    config: &EncoderRunConfig,
    run: &EncoderRun,
    model: M,
    train: (ImageDataset, B),
    valid: (ImageDataset, V),
) -> Result<(M, Pretrained)>
where
    B: SeededBatcher<Item = ImageItem>,
    V: SeededBatcher<Item = ImageItem>,
    M: LearnerModel
        + TrainStep<Input = B::Batch, Output = StepOutput>
        + InferenceStep<Input = V::Batch, Output = StepOutput>,
{
    use burn::data::dataset::Dataset;
    let context = &run.context;
    let size = config.batch_size;
    // Validation takes what there is, in batches as large as that allows.
    let valid_size = size.min(valid.0.len());
    let batches = train.0.len() / size;
    ensure!(
        batches > 0 && valid_size > 1,
        "there are too few images: {} to train on and {} for validation, with a batch size of {size}; give more, or a smaller --batch-size",
        train.0.len(),
        valid.0.len()
    );
    let resume = run.context.resumed_epoch();
    if run.context.resume {
        let done = resume.unwrap_or(0);
        (context.report)(&format!("going on after epoch {done} of {}", config.epochs));
    }
    let first = resume.unwrap_or(0) + 1;
    let device = context.device;
    let train: Arc<dyn DataLoader<B::Batch>> = Arc::new(
        EpochLoader::new(
            train.0,
            train.1,
            size,
            Order::Shuffled,
            config.seed,
            first,
            device,
        )
        .whole_batches(),
    );
    let valid: Arc<dyn DataLoader<V::Batch>> = Arc::new(
        EpochLoader::new(
            valid.0,
            valid.1,
            valid_size,
            Order::Given,
            config.seed,
            first,
            device,
        )
        .whole_batches(),
    );
    let parameters = model.num_params();
    let schedule = config.schedule(batches);
    let fit_config = FitConfig {
        folder: context.folder,
        epochs: config.epochs,
        batches,
        accumulation: 1,
        activation_checkpointing: false,
        strategy: ExecutionStrategy::single(context.device.clone()),
        best_by: BestBy::Loss,
        early_stopping: None,
        resume,
        schedule: &schedule,
        ui: context.ui,
        report: context.report.clone(),
        interrupter: context.interrupter.clone(),
    };
    let Fitted {
        model,
        best,
        interrupted,
        diverged,
    } = fit(
        fit_config,
        model,
        config.optimizer.init(),
        train,
        valid,
        |training| training,
    )?;
    if let Some(epoch) = diverged {
        return Err(anyhow!(
            "the loss became NaN in epoch {epoch}: lower --learning-rate (it was {})",
            config.learning_rate
        ));
    }
    #[cfg(feature = "report")]
    crate::trainer::curves::draw(context.folder)?;
    let pretrained = Pretrained {
        best,
        parameters,
        interrupted,
    };
    Ok((model, pretrained))
}

/// Writes weights, settings and source into the model folder.
fn save<M: Module>(
    config: &EncoderRunConfig,
    run: &EncoderRun,
    done: Done<M>,
) -> Result<Pretrained> {
    let output = run.context.output;
    let encoder = ImageEncoderConfig {
        network: done.network,
        preprocessing: preprocessing(config.image_size),
    };
    files::create_dir(output)?;
    model_folder::save_part(done.module, output, Part::Encoder)?;
    model_folder::update_config(output, |model| model.encoder = Some(encoder))?;
    let weights: PathBuf = output.join(Part::Encoder.file_name());
    let sha256 = files::sha256(&weights).context("recording the source")?;
    model_folder::update_source(
        output,
        "encoder",
        json!({
            "made_by": format!("clipcap pretrain {}", config.name()),
            "version": env!("CARGO_PKG_VERSION"),
            "config": config,
            "parameters": done.fitted.parameters,
            "best_epoch": done.fitted.best.map(|(epoch, _)| epoch),
            "validation_loss": done.fitted.best.map(|(_, loss)| loss),
            "sha256": sha256,
        }),
    )?;
    Ok(done.fitted)
}
