//! Everything that is set for a training run; it is saved in the run's folder.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::schedule::{Decay, ScheduleConfig};
use crate::caption_model::Trainable;
use crate::data::noise::Noise;
use crate::data::split::SplitShares;
use crate::mapper::MapperKind;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The model folder that CLIP and GPT-2 come from.
    pub model: PathBuf,
    pub data: TrainData,
    /// Shares of the images to train on, validate on and test on.
    pub split: SplitShares,
    pub trainable: Trainable,
    pub mapper: MapperKind,
    pub prefix_length: usize,
    /// Whether the CLIP embedding is divided by its norm first.
    pub normalize_embedding: bool,
    /// Noise on the embedding while training; it needs a normalised one.
    pub noise: Noise,
    /// How often an image is seen in an epoch.
    pub captions: CaptionChoice,
    pub batch_size: usize,
    pub epochs: usize,
    pub schedule: ScheduleConfig,
    /// AdamW's weight decay; 0 is Adam.
    pub weight_decay: f64,
    pub seed: u64,
}

/// What is learnt from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainData {
    /// The generated sample, under `dataset/sample`.
    Sample,
    /// COCO caption annotations and the folder of their pictures.
    Coco { captions: PathBuf, images: PathBuf },
}

/// How an image with several captions is used in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionChoice {
    /// Once with each caption, as ClipCap does.
    All,
    /// Once, with a random one of them.
    One,
}

impl TrainConfig {
    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("batch size", self.batch_size),
            ("prefix length", self.prefix_length),
        ];
        if let Some((name, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            bail!("{name} is 0: give at least 1");
        }
        if let MapperKind::Transformer {
            clip_length,
            layers,
            ..
        } = self.mapper
            && (clip_length == 0 || layers == 0)
        {
            bail!(
                "the mapper has a clip length of {clip_length} and {layers} layers: give at least 1 of each"
            );
        }
        let rate = self.schedule.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            bail!("the learning rate is {rate}: give a number above 0");
        }
        let Noise { rate, variance, .. } = self.noise;
        if !((0.0..=1.0).contains(&rate) && variance >= 0.0 && variance.is_finite()) {
            bail!(
                "noise with rate {rate} and variance {variance} makes no sense: give a rate from 0 to 1 and a variance of at least 0"
            );
        }
        Ok(())
    }

    /// The paper's settings: transformer mapper of 8 layers, prefix 40, noise on a tenth of the normalised embedding,
    /// mapper and GPT-2 trained with Adam at 5e-5 for 20 epochs, images split 80/10/10.
    ///
    /// The paper gives no batch size; 40 is ClipCap's. It says that the learning rate is "reasonably controlled", which
    /// is read as ClipCap's warmup and linear decay.
    pub fn paper(captions: PathBuf, images: PathBuf, model: PathBuf) -> Self {
        Self {
            model,
            data: TrainData::Coco { captions, images },
            split: SplitShares::default(),
            trainable: Trainable::MapperAndGpt2,
            mapper: MapperKind::Transformer {
                clip_length: 40,
                layers: 8,
                heads: 8,
            },
            prefix_length: 40,
            normalize_embedding: true,
            noise: Noise::default(),
            captions: CaptionChoice::All,
            batch_size: 40,
            epochs: 20,
            schedule: ScheduleConfig {
                learning_rate: 5e-5,
                warmup_steps: 100,
                decay: Decay::Linear,
            },
            weight_decay: 0.0,
            seed: 1,
        }
    }

    /// The paper's settings on the sample, scaled to it: a model 12 times narrower learns at a larger rate, GPT-2 stays
    /// frozen, and each image is seen with one of its five captions an epoch.
    pub fn sample(model: PathBuf) -> Self {
        Self {
            data: TrainData::Sample,
            trainable: Trainable::Mapper,
            mapper: MapperKind::Transformer {
                clip_length: 10,
                layers: 8,
                heads: 8,
            },
            captions: CaptionChoice::One,
            batch_size: 16,
            schedule: ScheduleConfig {
                learning_rate: 4e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
            },
            ..Self::paper(PathBuf::new(), PathBuf::new(), model)
        }
    }
}
