//! A pretraining run from its settings to a part of a model folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::tensor::Device;
use burn::train::Interrupter;
use serde::Serialize;
use serde_json::json;

use super::clip::{self, ClipLearner, PairBatcher, PairDataset, Pairs};
pub use super::config::PretrainConfig;
use super::contrastive::CLIP_MAX_FACTOR;
pub use super::data::PretrainData;
use super::gpt2::{Document, DocumentBatcher, Gpt2Learner};
use super::output::{Existing, check_part};
pub use super::sizes::{ClipSizes, Gpt2Sizes};
use crate::captioner::model_folder::{self, EncoderConfig, ModelConfig, Part, tokenizer_file};
use crate::data::loader::Order;
use crate::datasets::scenes;
use crate::files;
use crate::models::clip::Preprocessing;
use crate::tokenizer::TokenizerKind;
use crate::trainer::dashboard::{LogFn, Ui};
use crate::trainer::fit::{checkpoint_folder, fit};
use crate::trainer::metrics::PerplexityMetric;
use crate::trainer::{checkpoints, run};

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
    /// Whether to go on with what the folder holds.
    pub resume: bool,
    /// Whether a part that is in the model folder already may be replaced.
    pub overwrite: bool,
}

impl PretrainContext<'_> {
    /// Checks that the model folder can take a part, before it is trained.
    ///
    /// # Errors
    /// As [`check_part`]'s.
    pub(super) fn check_output(&self, part: Part, config: &impl Serialize) -> Result<()> {
        let may = Existing::new(self.overwrite, self.resume);
        check_part(self.output, part, config, may)
    }

    /// The epoch whose checkpoint the run goes on from.
    pub(super) fn resumed_epoch(&self) -> Option<usize> {
        match self.resume {
            true => checkpoints::latest(&checkpoint_folder(self.folder)),
            false => None,
        }
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// The epoch whose weights were kept and its validation loss.
    pub best: Option<(usize, f64)>,
    pub parameters: usize,
    pub interrupted: bool,
}

/// Trains CLIP and puts it into the model folder.
pub fn pretrain_clip(config: &PretrainConfig, context: &PretrainContext) -> Result<Pretrained> {
    config.validate()?;
    context.check_output(Part::Clip, config)?;
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
            let tokenizer = config.tokenizer(TokenizerKind::Clip, || {
                // What is left out is told when the pairs are read.
                let (train, _) = config.data.captions(&|_| {})?;
                Ok(train.into_iter().flatten().collect())
            })?;
            let sizes = config.clip_sizes.clone().unwrap_or_default();
            let sizes = sizes.config(tokenizer.vocab_size())?;
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
    let cut = tokenizer.cut_texts(train.captions(), context_length)?;
    if let Some(line) = cut.told() {
        (context.report)(&line);
    }
    let loader = |pairs: Pairs, order| {
        let augmentation = match order {
            Order::Shuffled => config.augmentation.clone(),
            Order::Given => None,
        };
        let dataset = PairDataset {
            pairs,
            preprocessing: preprocessing.clone(),
            tokenizer: tokenizer.clone(),
            context_length,
            whole: augmentation.is_some(),
        };
        let batcher = PairBatcher {
            preprocessing: preprocessing.clone(),
            augmentation,
        };
        config.loader(dataset, batcher, items, order, context)
    };
    let (train, valid) = (loader(train, Order::Shuffled), loader(valid, Order::Given));
    check_size(train.num_items(), valid.num_items(), items)?;

    let captioner = match config.caption_weight {
        Some(_) => Some(clip::captioner_config(
            sizes.projection_dim,
            tokenizer.vocab_size(),
            context_length,
        )?),
        None => None,
    };
    context.device.seed(config.seed);
    let learner = ClipLearner {
        clip: match &from {
            Some(folder) => folder.load_clip(context.device)?,
            None => clip::init(&sizes, context.device),
        },
        captioner: captioner.map(|captioner| captioner.init(context.device)),
        caption_weight: config.caption_weight.unwrap_or(0.0),
        max_factor: config.max_factor.unwrap_or(CLIP_MAX_FACTOR),
    };
    let parameters = learner.clip.num_params();
    let steps = train.num_items().div_ceil(items);
    let fitted = fit(
        config.fit_config(context, steps),
        learner,
        config.optimizer(),
        train,
        valid,
        |training| training,
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
    config.validate()?;
    context.check_output(Part::Gpt2, config)?;
    let _lock = run::lock(context.folder)?;
    files::write_json(&context.folder.join("config.json"), config)?;
    let (captions, valid) = config.data.captions(&|line| (context.report)(line))?;
    let from = config.begin_from()?;
    let (tokenizer, sizes) = match &from {
        Some(folder) => (
            folder.load_tokenizer(TokenizerKind::Gpt2)?,
            folder.gpt2_config()?.clone(),
        ),
        None => {
            let tokenizer = config.tokenizer(TokenizerKind::Gpt2, || {
                Ok(captions.iter().flatten().cloned().collect())
            })?;
            let sizes = config.gpt2_sizes.clone().unwrap_or_default();
            let sizes = sizes.config(tokenizer.vocab_size())?;
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
        config.loader(documents, batcher, config.batch_size, order, context)
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
        |training| training.metric_valid_numeric(PerplexityMetric::default()),
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
