//! The settings of a pretraining run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use burn::data::dataloader::DataLoader;
use burn::data::dataset::Dataset;
use burn::optim::ModuleOptimizer;
use burn::train::ExecutionStrategy;
use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use super::data::PretrainData;
use super::run::PretrainContext;
use super::sizes::{ClipSizes, Gpt2Sizes};
use crate::captioner::model_folder::ModelFolder;
use crate::data::loader::{EpochLoader, Order, SeededBatcher};
use crate::tokenizer::{Tokenizer, TokenizerKind};
use crate::trainer::checkpoints::BestBy;
use crate::trainer::fit::FitConfig;
use crate::trainer::optimizer::OptimizerConfig;
use crate::trainer::schedule::{Decay, ScheduleConfig};

/// Everything that is set for a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    pub data: PretrainData,
    /// The model folder whose weights and vocabulary are trained on; without one they begin again.
    pub from: Option<PathBuf>,
    pub epochs: usize,
    pub batch_size: usize,
    /// The folder whose vocabulary is taken: `tokenizer.json`, or `vocab.json` with `merges.txt`. Without one, one of
    /// `vocab_size` tokens is learned from the captions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<PathBuf>,
    pub vocab_size: usize,
    /// Sizes of CLIP, where it is trained from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_sizes: Option<ClipSizes>,
    /// Sizes of GPT-2, where it is trained from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpt2_sizes: Option<Gpt2Sizes>,
    /// Random views of the images that CLIP is trained on, in place of their middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Largest factor on the similarities in CLIP's loss. A smaller one makes what tells images apart a larger part of
    /// their embeddings; GPT-2 has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_factor: Option<f64>,
    /// Weight of the loss of captions predicted from CLIP's image embeddings, beside the contrastive loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_weight: Option<f64>,
    pub weight_decay: f64,
    pub schedule: ScheduleConfig,
    pub seed: u64,
}

impl PretrainConfig {
    /// How the sample model's CLIP is made from nothing.
    pub fn clip() -> Self {
        Self {
            data: PretrainData::Scenes { count: 192_000 },
            from: None,
            epochs: 6,
            batch_size: 64,
            vocabulary: None,
            vocab_size: 640,
            clip_sizes: None,
            gpt2_sizes: None,
            augmentation: None,
            max_factor: Some(8.0),
            caption_weight: Some(2.0),
            weight_decay: 0.05,
            schedule: ScheduleConfig {
                learning_rate: 1e-3,
                warmup_steps: 100,
                decay: Decay::Cosine,
            },
            seed: 1,
        }
    }

    /// How the sample model's GPT-2 is made.
    pub fn gpt2() -> Self {
        Self {
            data: PretrainData::Scenes { count: 40_000 },
            from: None,
            epochs: 3,
            batch_size: 32,
            vocabulary: None,
            vocab_size: 512,
            clip_sizes: None,
            gpt2_sizes: None,
            augmentation: None,
            max_factor: None,
            caption_weight: None,
            weight_decay: 0.01,
            schedule: ScheduleConfig {
                learning_rate: 2e-3,
                warmup_steps: 100,
                decay: Decay::Cosine,
            },
            seed: 1,
        }
    }

    /// These settings for captioned images in files: what a small set of photographs takes on a machine without a GPU.
    pub fn on_files(mut self, data: PretrainData) -> Self {
        let is_clip = self.caption_weight.is_some();
        self.data = data;
        self.vocab_size = 4096;
        if is_clip {
            self.epochs = 30;
            self.clip_sizes = Some(ClipSizes {
                context_length: 77,
                ..ClipSizes::default()
            });
            self.augmentation = Some(Augmentation {
                crop: [0.5, 1.0],
                flip: 0.5,
                ..Augmentation::none()
            });
        } else {
            self.epochs = 10;
            self.gpt2_sizes = Some(Gpt2Sizes::default());
        }
        self
    }

    /// The vocabulary that is given, or else one learned from `texts`.
    pub(super) fn tokenizer(
        &self,
        kind: TokenizerKind,
        texts: impl FnOnce() -> Result<Vec<String>>,
    ) -> Result<Tokenizer> {
        Ok(match &self.vocabulary {
            Some(folder) => Tokenizer::load(folder, kind)?,
            None => Tokenizer::train(kind, texts()?.into_iter(), self.vocab_size)?,
        })
    }

    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.epochs > 0, "epochs is 0: give at least 1");
        ensure!(self.batch_size > 0, "batch size is 0: give at least 1");
        if let PretrainData::Scenes { count } = self.data {
            ensure!(count > 0, "the number of scenes is 0: give at least 1");
        }
        let rate = self.schedule.learning_rate;
        ensure!(
            rate > 0.0 && rate.is_finite(),
            "the learning rate is {rate}: give a number above 0"
        );
        if let Some(weight) = self.caption_weight {
            ensure!(
                weight > 0.0 && weight.is_finite(),
                "the weight of the captions' loss is {weight}: give a number above 0, or 0 for none"
            );
        }
        if let Some(sizes) = &self.clip_sizes {
            sizes.config(self.vocab_size)?;
        }
        if let Some(sizes) = &self.gpt2_sizes {
            sizes.config(self.vocab_size)?;
        }
        self.augmentation
            .as_ref()
            .map_or(Ok(()), Augmentation::validate)
    }

    pub(super) fn begin_from(&self) -> Result<Option<ModelFolder>> {
        self.from.as_deref().map(ModelFolder::open).transpose()
    }

    pub(super) fn optimizer(&self) -> ModuleOptimizer {
        OptimizerConfig {
            beta_2: 0.98,
            weight_decay: self.weight_decay,
            ..OptimizerConfig::adam()
        }
        .init()
    }

    pub(super) fn loader<B: SeededBatcher>(
        &self,
        dataset: impl Dataset<B::Item> + 'static,
        batcher: B,
        batch_size: usize,
        order: Order,
        context: &PretrainContext,
    ) -> Arc<dyn DataLoader<B::Batch>> {
        Arc::new(EpochLoader::new(
            dataset,
            batcher,
            batch_size,
            order,
            self.seed,
            context.resumed_epoch().unwrap_or(0) + 1,
            context.device,
        ))
    }

    pub(super) fn fit_config<'a>(
        &'a self,
        context: &PretrainContext<'a>,
        batches: usize,
    ) -> FitConfig<'a> {
        FitConfig {
            folder: context.folder,
            epochs: self.epochs,
            batches,
            accumulation: 1,
            activation_checkpointing: false,
            strategy: ExecutionStrategy::single(context.device.clone()),
            best_by: BestBy::Loss,
            early_stopping: None,
            resume: context.resumed_epoch(),
            schedule: &self.schedule,
            ui: context.ui,
            report: context.report.clone(),
            interrupter: context.interrupter.clone(),
        }
    }
}
