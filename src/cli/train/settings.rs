//! The settings of a training run as flags. A flag that is not given leaves what the preset or file says.

use clap::Args;
use clipcap::data::noise::NoiseMode;
use clipcap::models::caption_model::Trainable;
use clipcap::models::mapper::MapperKind;
use clipcap::train::config::{BestBy, CaptionChoice, LearnFrom, TrainConfig};
use clipcap::train::schedule::Decay;

use crate::cli::model::PrecisionArg;

/// Low-rank changes are weighed by alpha / rank, twice the rank by custom.
const LORA_ALPHA_PER_RANK: f64 = 2.0;

#[derive(Args)]
pub struct SettingArgs {
    /// What is trained [default: mapper on the sample, mapper-and-gpt2 elsewhere]
    #[arg(long, value_enum)]
    trainable: Option<TrainableArg>,
    /// Rank of the changes, with --trainable mapper-and-lora
    #[arg(long, value_name = "N", default_value_t = 8)]
    lora_rank: usize,
    /// Learn from the embeddings of images, or of the captions themselves (CapDec)
    #[arg(long, value_enum)]
    learn_from: Option<LearnFromArg>,
    /// Network between CLIP and GPT-2 [default: transformer]
    #[arg(long, value_enum)]
    mapper: Option<MapperArg>,
    /// Vectors that GPT-2 reads before the caption
    #[arg(long, value_name = "N")]
    prefix_length: Option<usize>,
    /// Vectors that the transformer mapper reads the embedding as
    #[arg(long, value_name = "N")]
    clip_length: Option<usize>,
    /// Layers of the transformer mapper
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Where noise is put on the normalized embedding
    #[arg(long, value_enum)]
    noise: Option<NoiseArg>,
    /// Share of the coordinates, or of the samples, that get noise; for relative noise its norm
    #[arg(long, value_name = "SHARE")]
    noise_rate: Option<f64>,
    /// Variance of the noise
    #[arg(long, value_name = "VARIANCE")]
    noise_variance: Option<f64>,
    /// Do not divide the embedding by its norm
    #[arg(long)]
    no_normalize: bool,
    /// Add the mean way from captions to images to the captions' embeddings, with --learn-from captions
    #[arg(long)]
    modality_offset: bool,
    /// See an image with each of its captions in an epoch, or with a random one [default: one on the sample, all elsewhere]
    #[arg(long, value_enum)]
    captions: Option<CaptionsArg>,
    /// Text that ends a caption, one token long; may be given several times [default: a full stop]
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Times that the training images are gone through [default: 5 on the sample, 20 elsewhere]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Captions in a batch [default: 16 on the sample, 40 elsewhere]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Batches whose mean gradient makes one step
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Peak learning rate [default: 4e-3 on the sample, 5e-5 elsewhere]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Optimizer steps of linear rise to the peak
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// What the learning rate does after the peak
    #[arg(long, value_enum)]
    decay: Option<DecayArg>,
    /// AdamW's weight decay; biases and norms are spared
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f64>,
    /// Largest norm of all gradients together
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
    /// Type of mapper and GPT-2 in training steps: f32, f16 or bf16; weights, gradients and optimizer state stay in
    /// f32. On the CPU f16 and bf16 are slower than f32 [default: f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// Compute cheap activations again in the backward pass instead of keeping them: less memory, more time
    #[arg(long)]
    activation_checkpointing: bool,
    /// Share of the probability that the loss wants spread over all tokens
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Validation images to caption and score after each epoch; 0 leaves it out
    #[arg(long, value_name = "N")]
    validation_captions: Option<usize>,
    /// What makes an epoch the best, whose weights are kept
    #[arg(long, value_enum)]
    best_by: Option<BestByArg>,
    /// Stop after so many epochs without getting better
    #[arg(long, value_name = "EPOCHS")]
    early_stopping: Option<usize>,
    /// Seed of everything random: the same seed and settings give the same weights [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum TrainableArg {
    /// The mapper alone
    Mapper,
    /// The mapper and GPT-2
    MapperAndGpt2,
    /// The mapper and low-rank changes to GPT-2
    MapperAndLora,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LearnFromArg {
    /// The images' embeddings (ClipCap)
    Images,
    /// The captions' own embeddings (CapDec): text-only training
    Captions,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MapperArg {
    /// A transformer over the embedding and learned constants
    Transformer,
    /// Two linear layers
    Mlp,
    /// One linear layer
    Linear,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum BestByArg {
    /// The lowest validation loss
    Loss,
    /// The highest CIDEr of the captioned validation images
    Cider,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CaptionsArg {
    /// With each of its captions
    All,
    /// With a random one
    One,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DecayArg {
    /// It stays
    Constant,
    /// It falls to 0 in a line
    Linear,
    /// It falls to 0 as half a cosine
    Cosine,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum NoiseArg {
    /// No noise
    None,
    /// Gaussian noise on a random share of the coordinates (the paper)
    Coordinates,
    /// Gaussian noise on all of a random share of the embeddings
    Samples,
    /// A random direction of a given share of the embedding's norm
    Relative,
    /// Gaussian noise on every coordinate (CapDec)
    Gaussian,
    /// A random point in a ball (CapDec)
    Ball,
}

/// Takes a flag's value where it was given.
fn set<T: Clone>(target: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        *target = value.clone();
    }
}

impl SettingArgs {
    /// Changes what was given.
    pub fn apply(&self, config: &mut TrainConfig) {
        self.apply_mapper(config);
        self.apply_noise(config);
        if let Some(trainable) = self.trainable {
            config.trainable = match trainable {
                TrainableArg::Mapper => Trainable::Mapper,
                TrainableArg::MapperAndGpt2 => Trainable::MapperAndGpt2,
                TrainableArg::MapperAndLora => Trainable::MapperAndLora {
                    rank: self.lora_rank,
                    alpha: LORA_ALPHA_PER_RANK * self.lora_rank as f64,
                },
            };
        }
        if let Some(learn_from) = self.learn_from {
            config.learn_from = match learn_from {
                LearnFromArg::Images => LearnFrom::Images,
                LearnFromArg::Captions => LearnFrom::Captions,
            };
        }
        config.modality_offset |= self.modality_offset;
        config.activation_checkpointing |= self.activation_checkpointing;
        if let Some(precision) = self.precision {
            config.precision = precision.into();
        }
        if let Some(captions) = self.captions {
            config.captions = match captions {
                CaptionsArg::All => CaptionChoice::All,
                CaptionsArg::One => CaptionChoice::One,
            };
        }
        if !self.stop.is_empty() {
            config.stop = self.stop.clone();
        }
        set(&mut config.epochs, &self.epochs);
        set(&mut config.batch_size, &self.batch_size);
        set(&mut config.label_smoothing, &self.label_smoothing);
        set(&mut config.seed, &self.seed);
        set(&mut config.validation_captions, &self.validation_captions);
        if let Some(best_by) = self.best_by {
            config.best_by = match best_by {
                BestByArg::Loss => BestBy::Loss,
                BestByArg::Cider => BestBy::Cider,
            };
        }
        config.early_stopping = self.early_stopping.or(config.early_stopping);
        self.apply_optimizer(config);
    }

    fn apply_optimizer(&self, config: &mut TrainConfig) {
        set(&mut config.schedule.learning_rate, &self.learning_rate);
        set(&mut config.schedule.warmup_steps, &self.warmup_steps);
        if let Some(decay) = self.decay {
            config.schedule.decay = match decay {
                DecayArg::Constant => Decay::Constant,
                DecayArg::Linear => Decay::Linear,
                DecayArg::Cosine => Decay::Cosine,
            };
        }
        set(&mut config.optimizer.accumulation, &self.accumulate);
        set(&mut config.optimizer.weight_decay, &self.weight_decay);
        config.optimizer.clip_norm = self.clip_norm.or(config.optimizer.clip_norm);
    }

    fn apply_mapper(&self, config: &mut TrainConfig) {
        if let Some(mapper) = self.mapper {
            config.mapper = match mapper {
                MapperArg::Mlp => MapperKind::Mlp,
                MapperArg::Linear => MapperKind::Linear,
                MapperArg::Transformer => MapperKind::Transformer {
                    clip_length: 40,
                    layers: 8,
                    heads: 8,
                },
            };
        }
        if let MapperKind::Transformer {
            clip_length,
            layers,
            ..
        } = &mut config.mapper
        {
            set(clip_length, &self.clip_length);
            set(layers, &self.layers);
        }
        set(&mut config.prefix_length, &self.prefix_length);
        if self.no_normalize {
            config.normalize_embedding = false;
            // Noise is for normalized embeddings.
            config.noise.mode = NoiseMode::None;
        }
    }

    fn apply_noise(&self, config: &mut TrainConfig) {
        if let Some(noise) = self.noise {
            config.noise.mode = match noise {
                NoiseArg::None => NoiseMode::None,
                NoiseArg::Coordinates => NoiseMode::Coordinates,
                NoiseArg::Samples => NoiseMode::Samples,
                NoiseArg::Relative => NoiseMode::Relative,
                NoiseArg::Gaussian => NoiseMode::Gaussian,
                NoiseArg::Ball => NoiseMode::Ball,
            };
        }
        set(&mut config.noise.rate, &self.noise_rate);
        set(&mut config.noise.variance, &self.noise_variance);
    }
}
