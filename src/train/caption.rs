//! Training a captioner, from a configuration to a run folder with a model and captions of the test part: the steps in their
//! order, each of which is another file's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::data::dataloader::DataLoader;
use burn::data::dataset::Dataset as _;
use burn::train::Interrupter;
use serde_json::json;

use super::cider::CiderMetric;
use super::config::TrainConfig;
use super::dataset::{self, Dataset};
use super::learner::{CaptionLearner, Decoding, StepConfig};
use super::part::{PartItems, TokenizedCaptions};
#[cfg(feature = "report")]
use super::report;
use super::retrieval::Retrieval;
use super::samples::SampleLog;
use super::status::RunStatus;
use super::summary::RunSummary;
pub use super::test_captions::{Captioned, TestScores};
use super::{resume, retrieval, test_captions};
use crate::captioner::CaptionDecoder;
use crate::captioner::model_folder::{self, CaptionerConfig, ModelFolder, Part};
use crate::data::batcher::{CaptionBatch, CaptionBatcher};
use crate::data::loader::{EpochLoader, Order};
use crate::decode::{DecodeConfig, Strategy};
use crate::device::Devices;
use crate::device::Precision;
use crate::files;
use crate::models::caption_model::{CaptionModel, Trainable};
use crate::models::mapper::MapperConfig;
use crate::retrieve;
use crate::tokenizer::{Tokenizer, TokenizerKind};
use crate::trainer::dashboard::{LogFn, Ui};
use crate::trainer::fit::{FitConfig, Fitted, checkpoint_folder, fit};
use crate::trainer::metrics::PerplexityMetric;
use crate::trainer::tensorboard::TensorBoardLogger;
use crate::trainer::{checkpoints, run};

/// Longest caption in tokens that validation decodes: barely trained models never end by themselves.
const VALIDATION_LENGTH: usize = 32;

/// Where a run happens and how it is seen.
pub struct TrainContext<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The folder for the sample and cached embeddings.
    pub dataset: &'a Path,
    pub devices: &'a Devices,
    pub ui: Ui,
    pub report: LogFn,
    pub interrupter: Interrupter,
    /// Whether to resume what the folder holds.
    pub resume: bool,
    /// Whether to write event files for TensorBoard too.
    pub tensorboard: bool,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The run's folder and settings.
    pub folder: PathBuf,
    pub config: TrainConfig,
    /// The model folder with the best weights.
    pub model: PathBuf,
    /// The epoch they are from and its validation loss.
    pub best: Option<(usize, f64)>,
    /// Captions of the test part beside their references.
    pub test: Vec<Captioned>,
    /// What the test captions come to.
    pub scores: Option<TestScores>,
    pub interrupted: bool,
    /// The epoch in which the loss became NaN, which ended the run.
    pub diverged: Option<usize>,
}

/// What training begins with.
pub struct Prepared {
    /// What embeds images comes from here, GPT-2 from `folder`.
    pub encoder: ModelFolder,
    pub folder: ModelFolder,
    pub tokenizer: Tokenizer,
    pub mapper: MapperConfig,
    pub dataset: Dataset,
    pub tokenized: Arc<TokenizedCaptions>,
    /// Where captions are learned after retrieved ones.
    pub retrieval: Option<Retrieval>,
}

impl Prepared {
    /// How validation captions.
    fn decoding(&self, config: &TrainConfig) -> Result<Decoding> {
        let gpt2 = self.folder.gpt2_config()?;
        let prompt = (self.retrieval.as_ref()).map_or(0, |found| found.prompts.longest());
        let longest = gpt2.n_positions - config.prefix_length - prompt;
        let stop_tokens = stop_tokens(&self.tokenizer, &config.stop)?;
        Ok(Decoding {
            tokenizer: self.tokenizer.clone(),
            n_layer: gpt2.n_layer,
            config: DecodeConfig::new(
                Strategy::Greedy,
                VALIDATION_LENGTH.min(longest),
                stop_tokens,
            ),
        })
    }

    /// Reads the model's configuration and the data.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not fit each other.
    pub fn new(config: &TrainConfig, context: &TrainContext) -> Result<Self> {
        let folder = ModelFolder::open(&config.model)?;
        let encoder = ModelFolder::open(config.encoder_folder())?;
        let tokenizer = folder.load_tokenizer(TokenizerKind::Gpt2)?;
        let gpt2 = folder.gpt2_config()?;
        let mapper = MapperConfig {
            kind: config.mapper.clone(),
            clip_dim: encoder.embedding_dim()?,
            n_embd: gpt2.n_embd,
            prefix_length: config.prefix_length,
        };
        mapper.check(mapper.clip_dim, gpt2)?;
        let dataset = dataset::load(config, context, &encoder)?;
        let positions = gpt2.n_positions;
        let retrieval =
            retrieval::prepare(config, context, &encoder, &dataset, &tokenizer, positions)?;
        let prompt = retrieval
            .as_ref()
            .map_or(0, |found| found.prompts.longest());
        let longest = positions - config.prefix_length - prompt;
        let images = &dataset.images;
        let tokenized = TokenizedCaptions::new(images, &tokenizer, config.ending, longest)?;
        Ok(Self {
            encoder,
            folder,
            tokenizer,
            mapper,
            dataset,
            tokenized: Arc::new(tokenized),
            retrieval,
        })
    }
}

/// Trains a mapper (and, if asked, GPT-2) and captions the test part.
///
/// # Errors
/// When the data or the model cannot be read, too many images are unreadable, or the run fails. What was learned up to
/// the last whole epoch stays in the run's `checkpoint` folder.
pub fn train(config: &TrainConfig, context: &TrainContext) -> Result<Trained> {
    check_devices(config, context.devices)?;
    let begun = Instant::now();
    let _lock = run::lock(context.folder)?;
    files::write_json(&context.folder.join("config.json"), config)?;
    let encoder = ModelFolder::open(config.encoder_folder())?;
    let gpt2 = ModelFolder::open(&config.model)?;
    resume::check_inputs(context.folder, config, &encoder, &gpt2)?;
    RunStatus::Begun.write(context.folder)?;
    let prepared = Prepared::new(config, context)?;
    let splits = &prepared.dataset.splits;
    (context.report)(&prepared.dataset.summary(&prepared.tokenized));
    let resume = match context.resume {
        true => checkpoints::latest(&checkpoint_folder(context.folder)),
        false => None,
    };
    if context.resume {
        let done = resume.unwrap_or(0);
        (context.report)(&format!("going on after epoch {done} of {}", config.epochs));
    }
    // Without a validation part the loss on the training part, without noise, chooses the best epoch.
    let valid = match &splits.val[..] {
        [] => &splits.train,
        val => val,
    };
    let fitted = fit_parts(config, context, &prepared, &splits.train, valid, resume)?;
    #[cfg(feature = "report")]
    crate::trainer::curves::draw(context.folder)?;
    let model = fitted.model.clone().into_model();
    let captioner = CaptionerConfig {
        sizes: prepared.mapper.clone(),
        normalize_embedding: config.normalize_embedding,
        stop_tokens: stop_tokens(&prepared.tokenizer, &config.stop)?,
        retrieve: config.retrieve.as_ref().map(|retrieve| retrieve.captions),
    };
    let path = save_model(context, &prepared, &captioner, &model, config, fitted.best)?;
    let Prepared {
        folder,
        tokenizer,
        dataset,
        retrieval,
        ..
    } = prepared;
    let gpt2 = folder.gpt2_config()?;
    let decoder = CaptionDecoder::new(
        model,
        tokenizer,
        captioner,
        gpt2,
        context.devices.main(),
        Precision::F32,
    )?
    .with_memory(retrieval.map(|found| found.memory));
    let test = test_captions::caption(&decoder, &dataset)?;
    let scores = test_captions::write(context.folder, &dataset, &test)?;
    #[cfg_attr(not(feature = "report"), expect(unused_variables))]
    let summary = RunSummary::write(context.folder, fitted.best, begun.elapsed())?;
    let status = RunStatus::of(fitted.interrupted, fitted.diverged);
    #[cfg(feature = "report")]
    report::write(context.folder, config, &dataset, &test, status, &summary)?;
    status.write(context.folder)?;
    Ok(Trained {
        folder: context.folder.to_path_buf(),
        config: config.clone(),
        model: path,
        best: fitted.best,
        test,
        scores,
        interrupted: fitted.interrupted,
        diverged: fitted.diverged,
    })
}

/// # Errors
/// When the devices cannot do what the configuration asks for.
fn check_devices(config: &TrainConfig, devices: &Devices) -> Result<()> {
    devices.check_precision(config.precision)?;
    if config.batch_size < devices.count() {
        bail!(
            "a batch of {} cannot be shared by {} devices: give a larger --batch-size",
            config.batch_size,
            devices.count()
        );
    }
    Ok(())
}

/// Trains on some of the images, with the loss on others choosing the best epoch.
///
/// `resume` is the epoch of the checkpoint to go on from.
pub fn fit_parts(
    config: &TrainConfig,
    context: &TrainContext,
    prepared: &Prepared,
    train: &[usize],
    valid: &[usize],
    resume: Option<usize>,
) -> Result<Fitted<CaptionLearner>> {
    let dataset = &prepared.dataset;
    let items = |part| {
        let from = dataset.learned_from();
        let prompts = prepared
            .retrieval
            .as_ref()
            .map(|found| found.prompts.clone());
        PartItems::new(part, &prepared.tokenized, from, config.captions).with_prompts(prompts)
    };
    let captioned = config.validation_captions;
    let first = &valid[..captioned.min(valid.len())];
    let done = resume.unwrap_or(0);
    let samples = SampleLog::new(context.folder, &dataset.images, first, done)?;
    let train = items(train);
    let valid = items(valid).with_references(&dataset.images, captioned);
    let batches = train.len().div_ceil(config.batch_size);
    let device = context.devices.main();
    device.seed(config.seed);
    let model = CaptionModel {
        prefix_mapper: prepared.mapper.init(device),
        gpt2: prepared.folder.load_gpt2(device)?,
    };
    let loader = |items: PartItems, batcher, order| -> Arc<dyn DataLoader<CaptionBatch>> {
        let loader = EpochLoader::new(
            items,
            batcher,
            config.batch_size,
            order,
            config.seed,
            done + 1,
            device,
        );
        Arc::new(loader.shared_by(context.devices.count()))
    };
    let offset: Option<Arc<[f32]>> = prepared.dataset.offset.clone().map(Into::into);
    let batcher = |training| CaptionBatcher {
        normalize: config.normalize_embedding,
        training,
        offset: offset.clone(),
    };
    let step = StepConfig {
        trainable: config.trainable,
        accumulation: config.optimizer.accumulation,
        clip_norm: config.optimizer.clip_norm,
        label_smoothing: config.label_smoothing,
        precision: config.precision,
    };
    let events = match context.tensorboard {
        true => Some(TensorBoardLogger::new(context.folder, batches, done)?),
        false => None,
    };
    fit(
        FitConfig {
            folder: context.folder,
            epochs: config.epochs,
            batches,
            best_by: config.best_by,
            accumulation: config.optimizer.accumulation,
            activation_checkpointing: config.activation_checkpointing,
            strategy: context.devices.strategy(),
            early_stopping: config.early_stopping,
            resume,
            schedule: &config.schedule,
            ui: context.ui,
            report: context.report.clone(),
            interrupter: context.interrupter.clone(),
        },
        CaptionLearner::new(model, step).with_decoding(prepared.decoding(config)?),
        config.optimizer.init(),
        loader(train, batcher(Some(config.noise.clone())), Order::Shuffled),
        loader(valid, batcher(None), Order::Given),
        |training| {
            let training = training.metric_valid_numeric(PerplexityMetric::default());
            let training = match captioned {
                0 => training,
                _ => training.metric_valid_numeric(CiderMetric::new(samples)),
            };
            match events {
                Some(events) => training.with_metric_logger(events),
                None => training,
            }
        },
    )
}

/// The tokens that end a caption: those of the texts that this vocabulary writes with one token.
fn stop_tokens(tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for text in texts {
        if let [token] = tokenizer.encode(text)?[..] {
            tokens.push(token);
        }
    }
    if tokens.is_empty() {
        bail!(
            "this vocabulary writes none of the stop texts {texts:?} with one token: one is needed to end captions"
        );
    }
    Ok(tokens)
}

fn save_model(
    context: &TrainContext,
    Prepared {
        encoder,
        folder: source,
        retrieval,
        ..
    }: &Prepared,
    captioner: &CaptionerConfig,
    model: &CaptionModel,
    config: &TrainConfig,
    best: Option<(usize, f64)>,
) -> Result<PathBuf> {
    let path = context.folder.join("best");
    // Another process may be captioning with the one that is there.
    files::replace_folder(&path, |path| {
        encoder.copy_part(encoder.image_part(), path)?;
        source.copy_part(Part::Gpt2, path)?;
        copy_sources(encoder, source, path)?;
        if config.trainable != Trainable::Mapper {
            // The copy may share its bytes with the model it came from: it is replaced, not written over.
            std::fs::remove_file(path.join(Part::Gpt2.file_name()))
                .context("replacing gpt2.bpk")?;
            model_folder::save_part(model.gpt2.clone(), path, Part::Gpt2)?;
        }
        model_folder::save_part(model.prefix_mapper.clone(), path, Part::Mapper)?;
        if let Some(found) = retrieval {
            found.datastore.link_to(&path.join(retrieve::FOLDER))?;
        }
        let entry = json!({
            "made_by": "clipcap train",
            "version": env!("CARGO_PKG_VERSION"),
            "config": config,
            "best_epoch": best.map(|(epoch, _)| epoch),
            "validation_loss": best.map(|(_, loss)| loss),
            "sha256": files::sha256(&path.join(Part::Mapper.file_name()))?,
        });
        model_folder::update_source(path, "mapper", entry)?;
        model_folder::update_config(path, |model| {
            *model = source.config.clone();
            model.clip = match encoder.image_part() {
                Part::Clip => encoder.config.clip.clone(),
                _ => None,
            };
            model.encoder = encoder.config.encoder.clone();
            model.mapper = Some(captioner.clone());
        })
    })?;
    Ok(path)
}

/// Takes over where the parts came from.
fn copy_sources(encoder: &ModelFolder, gpt2: &ModelFolder, target: &Path) -> Result<()> {
    let mut sources = model_folder::read_source(&gpt2.path)?;
    if encoder.image_part() == Part::Encoder {
        sources.remove("clip");
        let own = model_folder::read_source(&encoder.path)?;
        let own = own.get("encoder").cloned().unwrap_or_default();
        sources.insert("encoder".to_string(), own);
    }
    files::write_json(&target.join("source.json"), &sources)
}
