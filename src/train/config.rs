//! Everything that is set for a training run; it is saved in the run's folder. One type with its presets and checks, so that
//! what a setting may be stands beside it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::captioner::check_retrieved;
use crate::data::noise::{Noise, NoiseMode};
use crate::data::split::Split;
use crate::device::Precision;
use crate::models::caption_model::Trainable;
use crate::models::mapper::MapperKind;
use crate::trainer::checkpoints::BestBy;
use crate::trainer::optimizer::OptimizerConfig;
use crate::trainer::schedule::{Decay, ScheduleConfig};

/// More than GPT-2's widest weights have.
const LARGEST_RANK: usize = 8192;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The model folder that CLIP and GPT-2 come from.
    pub model: PathBuf,
    /// A model folder whose encoder embeds the images instead of CLIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PathBuf>,
    pub data: TrainData,
    /// Which images are trained on, validated on and tested on.
    pub split: Split,
    /// Which of CLIP's towers the embeddings that are trained on come from.
    pub learn_from: LearnFrom,
    pub trainable: Trainable,
    pub mapper: MapperKind,
    pub prefix_length: usize,
    /// Whether the CLIP embedding is divided by its norm first.
    pub normalize_embedding: bool,
    /// Noise on the embedding while training; it needs a normalized one.
    pub noise: Noise,
    /// Whether the mean way from captions to images is added to captions that are learned from.
    pub modality_offset: bool,
    /// Captions of similar images that GPT-2 reads before each caption (SmallCap).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<Retrieve>,
    /// How often an image is seen in an epoch.
    pub captions: CaptionChoice,
    /// How a caption ends.
    pub ending: Ending,
    /// Texts that end a caption when it is decoded; each must be one token.
    pub stop: Vec<String>,
    pub batch_size: usize,
    pub epochs: usize,
    pub schedule: ScheduleConfig,
    pub optimizer: OptimizerConfig,
    /// What mapper and GPT-2 compute in while they are trained.
    #[serde(default)]
    pub precision: Precision,
    /// Whether activations that are cheap to compute are computed again in the backward pass, instead of kept for it.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// Label smoothing; 0 is plain cross-entropy.
    pub label_smoothing: f64,
    /// Validation images that are captioned and scored after each epoch.
    pub validation_captions: usize,
    /// What makes an epoch the best, whose weights are kept.
    pub best_by: BestBy,
    /// Epochs without getting better after which the run ends.
    pub early_stopping: Option<usize>,
    pub seed: u64,
    /// What images are dealt into parts by, where it is not `seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainData {
    /// The generated sample, under `dataset/sample`.
    Sample,
    /// A data set in any of the formats of [`crate::data::source`], and the folders its images are looked for in.
    Files {
        captions: PathBuf,
        images: Vec<PathBuf>,
    },
}

/// Which embeddings are trained on. Captions are always of images in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnFrom {
    /// Those of the images (ClipCap).
    Images,
    /// Those of the captions themselves (CapDec): no image is needed to train.
    Captions,
}

/// What GPT-2 is shown of a datastore while it is trained, and when it captions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieve {
    /// Captions an image, of the nearest.
    pub captions: usize,
    /// The datastore's folder; without it, one of the training part's captions is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<PathBuf>,
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

/// What is done to a caption's end before it is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It gets one full stop, which is what ends a caption when it is decoded. ClipCap does so for Conceptual Captions
    /// (`parse_conceptual.py` at 1ad805a).
    FullStop,
    /// Nothing, as ClipCap does for COCO: captions without a full stop never end by themselves.
    AsItIs,
}

/// Settings that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// See [`TrainConfig::paper`].
    Paper,
    /// ClipCap's MLP mapper with GPT-2 trained too: its first released weights.
    ClipcapMlp,
    /// ClipCap's transformer mapper in front of a frozen GPT-2.
    ClipcapTransformer,
    /// CapDec: text-only training, with noise on the captions' embeddings.
    Capdec,
}

impl TrainConfig {
    /// The model folder whose encoder embeds the images.
    pub fn encoder_folder(&self) -> &Path {
        self.encoder.as_deref().unwrap_or(&self.model)
    }

    /// The seed that images are dealt into parts by.
    pub fn split_seed(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("batch size", self.batch_size),
            ("prefix length", self.prefix_length),
            ("accumulation", self.optimizer.accumulation),
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
        if self.precision == Precision::Int8 {
            bail!("int8 cannot be trained in: use `--precision f32`, f16 or bf16");
        }
        let rate = self.schedule.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            bail!("the learning rate is {rate}: give a number above 0");
        }
        let Noise {
            mode,
            rate,
            variance,
        } = self.noise;
        if !((0.0..=1.0).contains(&rate) && variance >= 0.0 && variance.is_finite()) {
            bail!(
                "noise with rate {rate} and variance {variance} makes no sense: give a rate from 0 to 1 and a variance of at least 0"
            );
        }
        if mode != NoiseMode::None && !self.normalize_embedding {
            bail!(
                "noise is for normalized embeddings: leave out --no-normalize, or give --noise none"
            );
        }
        if self.encoder.is_some() && self.learn_from == LearnFrom::Captions {
            bail!("captions can be learned from CLIP's embeddings alone: leave out --encoder");
        }
        if self.modality_offset && self.learn_from == LearnFrom::Images {
            bail!("the modality offset is for captions: give --learn-from captions with it");
        }
        if let Some(retrieve) = &self.retrieve {
            check_retrieved(retrieve.captions)?;
        }
        if let Some(Retrieve { captions: 0, .. }) = self.retrieve {
            bail!("0 captions are to be retrieved: give at least 1, or leave retrieval out");
        }
        if self.encoder.is_some() && self.retrieve.is_some() {
            bail!(
                "captions are found by CLIP's embeddings alone: leave out --encoder or --retrieve"
            );
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            bail!(
                "the label smoothing is {}: give a share from 0 to below 1",
                self.label_smoothing
            );
        }
        if self.early_stopping == Some(0) {
            bail!("early stopping after 0 epochs would stop at once: give at least 1");
        }
        if self.best_by == BestBy::Cider && self.validation_captions == 0 {
            bail!(
                "the best epoch cannot be told by CIDEr when no validation image is captioned: give --validation-captions"
            );
        }
        if self.stop.is_empty() {
            bail!("there is no stop text: a caption would never end; give at least one");
        }
        if let Trainable::MapperAndLora { rank: 0, .. } = self.trainable {
            bail!("the LoRA rank is 0: give at least 1");
        }
        if let Trainable::MapperAndLora { rank, .. } = self.trainable
            && rank > LARGEST_RANK
        {
            bail!("the LoRA rank is {rank}: give at most {LARGEST_RANK}");
        }
        self.optimizer.validate()
    }

    /// A preset on a data set.
    pub fn preset(preset: Preset, data: TrainData, model: PathBuf) -> Self {
        match preset {
            Preset::Paper => Self::paper(data, model),
            Preset::ClipcapMlp => Self::clipcap_mlp(data, model),
            Preset::ClipcapTransformer => Self::clipcap_transformer(data, model),
            Preset::Capdec => Self::capdec(data, model),
        }
    }

    /// The paper's settings: transformer mapper of 8 layers, prefix 40, noise on a tenth of the normalized embedding,
    /// mapper and GPT-2 trained with Adam at 5e-5 for 20 epochs, images split 80/10/10.
    ///
    /// The paper gives no batch size; 40 is ClipCap's. It says that the learning rate is "reasonably controlled", which
    /// is read as ClipCap's warmup and linear decay.
    pub fn paper(data: TrainData, model: PathBuf) -> Self {
        Self {
            model,
            encoder: None,
            data,
            split: Split::Auto,
            learn_from: LearnFrom::Images,
            trainable: Trainable::MapperAndGpt2,
            mapper: transformer(8),
            prefix_length: 40,
            normalize_embedding: true,
            noise: Noise::default(),
            modality_offset: false,
            retrieve: None,
            captions: CaptionChoice::All,
            ending: Ending::FullStop,
            stop: vec![".".into()],
            batch_size: 40,
            epochs: 20,
            schedule: ScheduleConfig {
                learning_rate: 5e-5,
                warmup_steps: 100,
                decay: Decay::Linear,
            },
            optimizer: OptimizerConfig::adam(),
            precision: Precision::F32,
            activation_checkpointing: false,
            label_smoothing: 0.0,
            validation_captions: 200,
            best_by: BestBy::Loss,
            early_stopping: None,
            seed: 1,
            split_seed: None,
        }
    }

    /// ClipCap's released weights for COCO (`train.py` at 1ad805a, its defaults): MLP mapper, prefix 10, the embedding
    /// as CLIP gives it, GPT-2 trained too, transformers' AdamW at 2e-5 with 5,000 steps of warmup, 10 epochs.
    pub fn clipcap_mlp(data: TrainData, model: PathBuf) -> Self {
        Self {
            mapper: MapperKind::Mlp,
            prefix_length: 10,
            normalize_embedding: false,
            noise: Noise {
                mode: NoiseMode::None,
                ..Noise::default()
            },
            ending: Ending::AsItIs,
            epochs: 10,
            schedule: ScheduleConfig {
                learning_rate: 2e-5,
                warmup_steps: 5000,
                decay: Decay::Linear,
            },
            optimizer: OptimizerConfig::transformers_adamw(),
            ..Self::paper(data, model)
        }
    }

    /// ClipCap's recipe for the transformer mapper (its README at 1ad805a): 8 layers, prefix and clip length 40, the
    /// embedding normalized, GPT-2 frozen.
    pub fn clipcap_transformer(data: TrainData, model: PathBuf) -> Self {
        Self {
            trainable: Trainable::Mapper,
            mapper: transformer(8),
            prefix_length: 40,
            normalize_embedding: true,
            ..Self::clipcap_mlp(data, model)
        }
    }

    /// CapDec's recipe (`train.py` and README at 4451bfd): the caption's own embedding with gaussian noise of variance
    /// 0.016 on it, transformer mapper, GPT-2 trained too, a full stop with or without a space before it ends a caption.
    pub fn capdec(data: TrainData, model: PathBuf) -> Self {
        Self {
            learn_from: LearnFrom::Captions,
            trainable: Trainable::MapperAndGpt2,
            noise: Noise {
                mode: NoiseMode::Gaussian,
                ..Noise::default()
            },
            stop: vec![".".into(), " .".into()],
            batch_size: 34,
            ..Self::clipcap_transformer(data, model)
        }
    }

    /// The paper's settings on the sample, scaled to it: a model 12 times narrower learns at a larger rate and with less
    /// noise, its mapper reads the embedding as 10 vectors, GPT-2 stays frozen, and each image is seen with one of its five
    /// captions an epoch.
    pub fn sample(model: PathBuf) -> Self {
        Self {
            trainable: Trainable::Mapper,
            mapper: MapperKind::Transformer {
                clip_length: 10,
                layers: 8,
                heads: 8,
            },
            noise: Noise {
                variance: 0.0001,
                ..Noise::default()
            },
            captions: CaptionChoice::One,
            batch_size: 16,
            epochs: 5,
            schedule: ScheduleConfig {
                learning_rate: 4e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
            },
            ..Self::paper(TrainData::Sample, model)
        }
    }
}

/// ClipCap's transformer mapper of this many layers.
fn transformer(layers: usize) -> MapperKind {
    MapperKind::Transformer {
        clip_length: 40,
        layers,
        heads: 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_sense_and_comes_back_from_json() {
        let presets = [
            Preset::Paper,
            Preset::ClipcapMlp,
            Preset::ClipcapTransformer,
            Preset::Capdec,
        ];
        for preset in presets {
            let config = TrainConfig::preset(preset, TrainData::Sample, "model/x".into());
            config.validate().unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
        }
    }

    #[test]
    fn unknown_and_missing_keys_are_refused_by_name() {
        let config = TrainConfig::sample("model/x".into());
        let mut value = serde_json::to_value(&config).unwrap();
        value["epoch"] = 3.into();
        let error = serde_json::from_value::<TrainConfig>(value.clone()).unwrap_err();
        assert!(error.to_string().contains("epoch"), "{error}");
        let keys = value.as_object_mut().unwrap();
        keys.remove("epoch");
        keys.remove("noise");
        let error = serde_json::from_value::<TrainConfig>(value).unwrap_err();
        assert!(error.to_string().contains("noise"), "{error}");
    }
}
