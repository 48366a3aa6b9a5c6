//! A pretraining run from its settings to a part of a model folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::data::dataloader::DataLoader;
use burn::data::dataset::{Dataset, InMemDataset};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn::train::{ExecutionStrategy, Interrupter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clip::{self, ClipLearner, PairBatcher, PairDataset, Pairs};
use super::contrastive::CLIP_MAX_FACTOR;
use super::gpt2::{self, Document, DocumentBatcher, Gpt2Learner};
use crate::captioner::model_folder::{
    self, EncoderConfig, ModelConfig, ModelFolder, Part, tokenizer_file,
};
use crate::data::image_source::ImageSource;
use crate::data::loader::{EpochLoader, Order, SeededBatcher};
use crate::data::scenes;
use crate::data::source;
use crate::data::unreadable;
use crate::files;
use crate::images::OpenError;
use crate::models::clip::Preprocessing;
use crate::tokenizer::{Tokenizer, TokenizerKind};
use crate::train::config::BestBy;
use crate::train::dashboard::{LogFn, Ui};
use crate::train::fit::{FitConfig, fit};
use crate::train::optimizer::OptimizerConfig;
use crate::train::run;
use crate::train::schedule::{Decay, ScheduleConfig};

/// One in this many images is for validation.
const VALIDATION: usize = 20;
/// Seed of the scenes that sample models are pretrained on: another than the sample set's, so that its test part stays
/// unseen.
const SCENE_SEED: u64 = 1_000_003;

/// Everything that is set for a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    pub data: PretrainData,
    /// The model folder whose weights and vocabulary are trained on; without one they begin anew.
    pub from: Option<PathBuf>,
    pub epochs: usize,
    pub batch_size: usize,
    pub vocab_size: usize,
    /// Largest factor on the similarities in CLIP's loss. A smaller one makes what tells images apart a larger part of
    /// their embeddings; GPT-2 has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_factor: Option<f64>,
    pub weight_decay: f64,
    pub schedule: ScheduleConfig,
    pub seed: u64,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PretrainData {
    /// Generated scenes.
    Scenes { count: usize },
    /// A data set in any of the formats of [`crate::data::source`], and the folders its images are looked for in.
    Files {
        captions: PathBuf,
        images: Vec<PathBuf>,
    },
}

/// Where a run happens and how it is seen.
pub struct PretrainContext<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The model folder that gets the part.
    pub output: &'a Path,
    pub device: &'a Device,
    pub ui: Ui,
    pub report: LogFn,
    pub interrupter: Interrupter,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// The epoch whose weights were kept and its validation loss.
    pub best: Option<(usize, f64)>,
    pub parameters: usize,
    pub interrupted: bool,
}

impl PretrainConfig {
    /// How the sample model's CLIP was made.
    pub fn clip() -> Self {
        Self {
            data: PretrainData::Scenes { count: 96_000 },
            from: None,
            epochs: 4,
            batch_size: 64,
            vocab_size: 640,
            max_factor: Some(8.0),
            weight_decay: 0.05,
            schedule: ScheduleConfig {
                learning_rate: 1e-3,
                warmup_steps: 100,
                decay: Decay::Cosine,
            },
            seed: 1,
        }
    }

    /// How the sample model's GPT-2 was made.
    pub fn gpt2() -> Self {
        Self {
            data: PretrainData::Scenes { count: 20_000 },
            from: None,
            epochs: 1,
            batch_size: 32,
            vocab_size: 512,
            max_factor: None,
            weight_decay: 0.01,
            schedule: ScheduleConfig {
                learning_rate: 2e-3,
                warmup_steps: 100,
                decay: Decay::Cosine,
            },
            seed: 1,
        }
    }

    fn begin_from(&self) -> Result<Option<ModelFolder>> {
        self.from.as_deref().map(ModelFolder::open).transpose()
    }

    fn optimizer(&self) -> ModuleOptimizer {
        OptimizerConfig {
            beta_2: 0.98,
            weight_decay: self.weight_decay,
            ..OptimizerConfig::adam()
        }
        .init()
    }

    fn loader<B: SeededBatcher>(
        &self,
        dataset: impl Dataset<B::Item> + 'static,
        batcher: B,
        batch_size: usize,
        order: Order,
        device: &Device,
    ) -> Arc<dyn DataLoader<B::Batch>> {
        Arc::new(EpochLoader::new(
            dataset, batcher, batch_size, order, self.seed, 1, device,
        ))
    }

    fn fit_config<'a>(&'a self, context: &PretrainContext<'a>, batches: usize) -> FitConfig<'a> {
        FitConfig {
            folder: context.folder,
            epochs: self.epochs,
            batches,
            captions: false,
            accumulation: 1,
            activation_checkpointing: false,
            strategy: ExecutionStrategy::single(context.device.clone()),
            best_by: BestBy::Loss,
            early_stopping: None,
            resume: None,
            schedule: &self.schedule,
            ui: context.ui,
            report: context.report.clone(),
            interrupter: context.interrupter.clone(),
        }
    }
}

impl PretrainData {
    /// Captions by image.
    fn captions(&self, report: &LogFn) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Scenes { count } => Ok((0..*count as u64)
                .map(|index| scenes::scene(SCENE_SEED, index).captions.to_vec())
                .collect()),
            Self::Files { captions, images } => {
                let found = source::load_and_report(captions, images, &|line| report(line))?;
                let images = found.images;
                Ok(images.into_iter().map(|image| image.captions).collect())
            }
        }
    }

    /// Images with captions, for training and for validation.
    fn pairs(&self, report: &dyn Fn(&str)) -> Result<(Pairs, Pairs)> {
        match self {
            Self::Scenes { count } => {
                let count = count / scenes::SIBLINGS;
                let valid = count / VALIDATION;
                let scenes = |first: usize, count| Pairs::Scenes {
                    seed: SCENE_SEED,
                    first: first as u64,
                    count,
                };
                Ok((scenes(0, count - valid), scenes(count - valid, valid)))
            }
            Self::Files { captions, images } => {
                let found = source::load_and_report(captions, images, report)?;
                let mut files: Vec<_> = (found.images.into_iter())
                    .filter_map(|image| Some((image.source?, image.captions)))
                    .collect();
                keep_readable(&mut files, captions, report)?;
                let valid = files.split_off(files.len() - files.len() / VALIDATION);
                Ok((Pairs::Files(Arc::new(files)), Pairs::Files(Arc::new(valid))))
            }
        }
    }
}

/// Takes out the images that cannot be read, each of which is opened for it and named.
///
/// # Errors
/// When there are too many of them; see [`unreadable`].
fn keep_readable(
    files: &mut Vec<(ImageSource, Vec<String>)>,
    data: &Path,
    report: &dyn Fn(&str),
) -> Result<()> {
    let errors: Vec<Option<OpenError>> = files
        .par_iter()
        .map(|(source, _)| source.open().err())
        .collect();
    let unreadable: Vec<&OpenError> = errors.iter().flatten().collect();
    unreadable::check(&unreadable, files.len(), data.display(), report)?;
    let mut errors = errors.iter();
    files.retain(|_| errors.next().is_some_and(Option::is_none));
    Ok(())
}

/// Trains CLIP and puts it into the model folder.
pub fn pretrain_clip(config: &PretrainConfig, context: &PretrainContext) -> Result<Pretrained> {
    let _lock = run::lock(context.folder)?;
    files::write_json(&context.folder.join("config.json"), config)?;
    let from = config.begin_from()?;
    let (tokenizer, sizes) = match &from {
        Some(folder) => {
            folder.check_texts()?;
            (
                folder.load_tokenizer(TokenizerKind::Clip)?,
                folder.encoder_config()?.sizes.clone(),
            )
        }
        None => {
            // What is left out is told when the pairs are read.
            let quiet: LogFn = Arc::new(|_| {});
            let texts = config.data.captions(&quiet)?.into_iter().flatten();
            let tokenizer = Tokenizer::train(TokenizerKind::Clip, texts, config.vocab_size)?;
            let sizes = clip::sample_config(tokenizer.vocab_size());
            (tokenizer, sizes)
        }
    };
    let context_length = (sizes.text.as_ref())
        .context("the CLIP to train has no text tower")?
        .max_position_embeddings;
    let preprocessing = Preprocessing::openai(sizes.vision.image_size() as u32);
    // Images in a batch come with their siblings.
    let items = match config.data {
        PretrainData::Scenes { .. } => config.batch_size.div_ceil(scenes::SIBLINGS),
        PretrainData::Files { .. } => config.batch_size,
    };
    let (train, valid) = config.data.pairs(&|line| (context.report)(line))?;
    let loader = |pairs: Pairs, order| {
        let dataset = PairDataset {
            pairs,
            preprocessing: preprocessing.clone(),
            tokenizer: tokenizer.clone(),
            context_length,
        };
        let batcher = PairBatcher {
            preprocessing: preprocessing.clone(),
        };
        config.loader(dataset, batcher, items, order, context.device)
    };
    let (train, valid) = (loader(train, Order::Shuffled), loader(valid, Order::Given));
    check_size(train.num_items(), valid.num_items(), items)?;

    context.device.seed(config.seed);
    let learner = ClipLearner {
        clip: match &from {
            Some(folder) => folder.load_clip(context.device)?,
            None => sizes.init(context.device),
        },
        max_factor: config.max_factor.unwrap_or(CLIP_MAX_FACTOR),
    };
    let parameters = learner.num_params();
    let steps = train.num_items().div_ceil(items);
    let fitted = fit(
        config.fit_config(context, steps),
        learner,
        config.optimizer(),
        train,
        valid,
    )?;

    files::create_dir(context.output)?;
    model_folder::save_part(fitted.model.clip, context.output, Part::Clip)?;
    tokenizer.save(&context.output.join(tokenizer_file(TokenizerKind::Clip)))?;
    let encoder = EncoderConfig {
        sizes,
        preprocessing,
    };
    model_folder::update_config(context.output, |model: &mut ModelConfig| {
        model.clip = Some(encoder)
    })?;
    record(config, context, "clip", Part::Clip, parameters, fitted.best)?;
    Ok(Pretrained {
        best: fitted.best,
        parameters,
        interrupted: fitted.interrupted,
    })
}

/// Trains GPT-2 and puts it into the model folder.
pub fn pretrain_gpt2(config: &PretrainConfig, context: &PretrainContext) -> Result<Pretrained> {
    let _lock = run::lock(context.folder)?;
    files::write_json(&context.folder.join("config.json"), config)?;
    let mut captions = config.data.captions(&context.report)?;
    let valid = captions.split_off(captions.len() - captions.len() / VALIDATION);
    let from = config.begin_from()?;
    let (tokenizer, sizes) = match &from {
        Some(folder) => (
            folder.load_tokenizer(TokenizerKind::Gpt2)?,
            folder.gpt2_config()?.clone(),
        ),
        None => {
            let texts = captions.clone().into_iter().flatten();
            let tokenizer = Tokenizer::train(TokenizerKind::Gpt2, texts, config.vocab_size)?;
            let sizes = gpt2::sample_config(tokenizer.vocab_size());
            (tokenizer, sizes)
        }
    };
    let documents = |captions: Vec<Vec<String>>| -> Result<Vec<Document>> {
        let tokens = |captions: &Vec<String>| {
            captions
                .iter()
                .map(|caption| tokenizer.encode(caption))
                .collect()
        };
        Ok(captions.iter().map(tokens).collect::<Result<_, _>>()?)
    };
    let loader = |documents: Vec<Document>, order| {
        let batcher = DocumentBatcher::new(tokenizer.end_of_text(), sizes.n_positions);
        let documents = InMemDataset::new(documents);
        config.loader(documents, batcher, config.batch_size, order, context.device)
    };
    let (train, valid) = (
        loader(documents(captions)?, Order::Shuffled),
        loader(documents(valid)?, Order::Given),
    );
    check_size(train.num_items(), valid.num_items(), 1)?;

    context.device.seed(config.seed);
    let learner = Gpt2Learner {
        gpt2: match &from {
            Some(folder) => folder.load_gpt2(context.device)?,
            None => sizes.init(context.device),
        },
    };
    let parameters = learner.num_params();
    let steps = train.num_items().div_ceil(config.batch_size);
    let fitted = fit(
        config.fit_config(context, steps),
        learner,
        config.optimizer(),
        train,
        valid,
    )?;

    files::create_dir(context.output)?;
    model_folder::save_part(fitted.model.gpt2, context.output, Part::Gpt2)?;
    tokenizer.save(&context.output.join(tokenizer_file(TokenizerKind::Gpt2)))?;
    model_folder::update_config(context.output, |model: &mut ModelConfig| {
        model.gpt2 = Some(sizes)
    })?;
    record(config, context, "gpt2", Part::Gpt2, parameters, fitted.best)?;
    Ok(Pretrained {
        best: fitted.best,
        parameters,
        interrupted: fitted.interrupted,
    })
}

fn check_size(train: usize, valid: usize, least: usize) -> Result<()> {
    if train < least.max(1) || valid == 0 {
        bail!(
            "there is too little data: {train} items to train on and {valid} for validation; give more, or a smaller --batch-size"
        );
    }
    Ok(())
}

/// Notes in `source.json` where the part came from.
fn record(
    config: &PretrainConfig,
    context: &PretrainContext,
    name: &str,
    part: Part,
    parameters: usize,
    best: Option<(usize, f64)>,
) -> Result<()> {
    let sha256 =
        files::sha256(&context.output.join(part.file_name())).context("recording the source")?;
    model_folder::update_source(
        context.output,
        name,
        json!({
            "made_by": format!("clipcap pretrain {name}"),
            "version": env!("CARGO_PKG_VERSION"),
            "config": config,
            "parameters": parameters,
            "best_epoch": best.map(|(epoch, _)| epoch),
            "validation_loss": best.map(|(_, loss)| loss),
            "sha256": sha256,
        }),
    )
}
