//! The settings of a training run as flags. A flag that is not given leaves what the preset or file says.

use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;
use clipcap::data::noise::NoiseMode;
use clipcap::models::caption_model::Trainable;
use clipcap::models::mapper::MapperKind;
use clipcap::train::config::{CaptionChoice, LearnFrom, Retrieve, TrainConfig};
use clipcap::trainer::checkpoints::BestBy;
use clipcap::trainer::schedule::Decay;

use crate::cli::common::usage;
use crate::cli::complete;
use crate::cli::model::PrecisionArg;
use crate::cli::values::values;

/// Low-rank changes are weighed by alpha / rank, twice the rank by custom.
const LORA_ALPHA_PER_RANK: f64 = 2.0;

/// Rank where none is given.
const LORA_RANK: usize = 8;

#[derive(Args)]
pub struct SettingArgs {
    /// Trainable parameters [default: mapper on the sample, mapper-and-gpt2 elsewhere]
    #[arg(long, value_enum)]
    trainable: Option<TrainableArg>,
    /// Rank of the LoRA updates, with --trainable mapper-and-lora [default: 8]
    #[arg(long, value_name = "N")]
    lora_rank: Option<usize>,
    /// Train on embeddings of the images, or of the captions (CapDec's text-only training)
    #[arg(long, value_enum)]
    learn_from: Option<LearnFromArg>,
    /// Network between CLIP and GPT-2 [default: transformer]
    #[arg(long, value_enum)]
    mapper: Option<MapperArg>,
    /// Prefix length: vectors that GPT-2 reads before the caption
    #[arg(long, value_name = "N")]
    prefix_length: Option<usize>,
    /// Vectors that the transformer mapper reads the embedding as
    #[arg(long, value_name = "N")]
    clip_length: Option<usize>,
    /// Layers of the transformer mapper
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Noise on the normalized embedding
    #[arg(long, value_enum)]
    noise: Option<NoiseArg>,
    /// Fraction of the features, or of the samples, that get noise; for relative noise its norm
    #[arg(long, value_name = "SHARE")]
    noise_rate: Option<f64>,
    /// Variance of the noise
    #[arg(long, value_name = "VARIANCE")]
    noise_variance: Option<f64>,
    /// Do not divide the embedding by its norm
    #[arg(long)]
    no_normalize: bool,
    /// Add the modality gap offset to the captions' embeddings, with --learn-from captions
    #[arg(long)]
    modality_offset: bool,
    /// Train GPT-2 (or the mapper before it) to read the K captions nearest to the image first (SmallCap), never the image's
    /// own; the datastore goes into the model's folder
    #[arg(long, value_name = "K")]
    retrieve: Option<usize>,
    /// Datastore of captions that `index` built, with --retrieve [default: one of the training part's captions is built]
    #[arg(long, value_name = "DIR", requires = "retrieve", add = complete::indexes())]
    index: Option<PathBuf>,
    /// Captions of an image in an epoch: all, or a random one [default: one on the sample, all elsewhere]
    #[arg(long, value_enum)]
    captions: Option<CaptionsArg>,
    /// Text that ends a caption, one token long; may be given several times [default: a full stop]
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Epochs [default: 5 on the sample, 20 elsewhere]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Captions in a batch [default: 16 on the sample, 40 elsewhere]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Gradient accumulation steps
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Peak learning rate [default: 4e-3 on the sample, 5e-5 elsewhere]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Linear warmup steps to the peak learning rate
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// Learning rate schedule after warmup
    #[arg(long, value_enum)]
    decay: Option<DecayArg>,
    /// AdamW's weight decay, not applied to biases and norms
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f64>,
    /// Gradient clipping (global norm)
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
    /// Type of mapper and GPT-2 in training steps: f32, f16 or bf16; weights, gradients and optimizer state stay in
    /// f32. On the CPU bf16 multiplies in bfloat16 and keeps all else in f32, faster where the processor has AVX-512 BF16;
    /// f16 is slower than f32 [default: f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// Activation checkpointing: recompute cheap activations in the backward pass; less memory, more time
    #[arg(long)]
    activation_checkpointing: bool,
    /// Label smoothing
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Validation images to caption and score after each epoch; 0 for none
    #[arg(long, value_name = "N")]
    validation_captions: Option<usize>,
    /// Criterion for the best epoch, whose weights are kept
    #[arg(long, value_enum)]
    best_by: Option<BestByArg>,
    /// Early stopping: epochs without improvement
    #[arg(long, value_name = "EPOCHS")]
    early_stopping: Option<usize>,
    /// Random seed: the same seed and settings give the same weights [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Random seed that images are dealt into parts by, where shares do it [default: the seed]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum TrainableArg {
    /// The mapper alone
    Mapper,
    /// The mapper and GPT-2
    MapperAndGpt2,
    /// The mapper and low-rank updates of GPT-2 (LoRA)
    MapperAndLora,
}

values! {
    LearnFromArg for LearnFrom {
        /// The images' embeddings (ClipCap)
        Images,
        /// The captions' own embeddings (CapDec): text-only training
        Captions,
    }
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

values! {
    BestByArg for BestBy {
        /// The lowest validation loss
        Loss,
        /// The highest CIDEr of the captioned validation images
        Cider,
    }
}

values! {
    CaptionsArg for CaptionChoice {
        /// With each of its captions
        All,
        /// With a random one
        One,
    }
}

values! {
    DecayArg for Decay {
        /// Constant
        Constant,
        /// Linear decay to 0
        Linear,
        /// Cosine decay to 0
        Cosine,
    }
}

values! {
    NoiseArg for NoiseMode {
        /// No noise
        None,
        /// Gaussian noise on a random fraction of the features (the paper)
        Coordinates,
        /// Gaussian noise on a random fraction of the embeddings
        Samples,
        /// A random direction, its length a fraction of the embedding's norm
        Relative,
        /// Gaussian noise on every feature (CapDec)
        Gaussian,
        /// A random point in a ball (CapDec)
        Ball,
    }
}

/// Takes a flag's value where it was given.
fn set<T: Clone>(target: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        *target = value.clone();
    }
}

/// Low-rank updates of this rank.
fn lora(rank: usize) -> Trainable {
    Trainable::MapperAndLora {
        rank,
        alpha: LORA_ALPHA_PER_RANK * rank as f64,
    }
}

/// Ends the program: a flag that would have no effect without another is wrong usage.
fn needs(flag: &str, other: &str) -> ! {
    usage(
        ErrorKind::ArgumentConflict,
        &format!("{flag} needs {other}"),
    )
}

impl SettingArgs {
    /// Whether a seed for dealing images out is given.
    pub fn has_split_seed(&self) -> bool {
        self.split_seed.is_some()
    }

    /// Changes what was given. Flags that contradict each other end the program.
    pub fn apply(&self, config: &mut TrainConfig) {
        self.apply_mapper(config);
        self.apply_noise(config);
        if let Some(trainable) = self.trainable {
            config.trainable = match trainable {
                TrainableArg::Mapper => Trainable::Mapper,
                TrainableArg::MapperAndGpt2 => Trainable::MapperAndGpt2,
                TrainableArg::MapperAndLora => lora(LORA_RANK),
            };
        }
        if let Some(rank) = self.lora_rank {
            match config.trainable {
                Trainable::MapperAndLora { .. } => config.trainable = lora(rank),
                _ => needs("--lora-rank", "--trainable mapper-and-lora"),
            }
        }
        if let Some(learn_from) = self.learn_from {
            config.learn_from = learn_from.into();
        }
        config.modality_offset |= self.modality_offset;
        if let Some(captions) = self.retrieve {
            let index = self.index.clone();
            config.retrieve = Some(Retrieve { captions, index });
        }
        config.activation_checkpointing |= self.activation_checkpointing;
        if let Some(precision) = self.precision {
            config.precision = precision.into();
        }
        if let Some(captions) = self.captions {
            config.captions = captions.into();
        }
        if !self.stop.is_empty() {
            config.stop = self.stop.clone();
        }
        set(&mut config.epochs, &self.epochs);
        set(&mut config.batch_size, &self.batch_size);
        set(&mut config.label_smoothing, &self.label_smoothing);
        set(&mut config.seed, &self.seed);
        config.split_seed = self.split_seed.or(config.split_seed);
        set(&mut config.validation_captions, &self.validation_captions);
        if let Some(best_by) = self.best_by {
            config.best_by = best_by.into();
        }
        config.early_stopping = self.early_stopping.or(config.early_stopping);
        self.apply_optimizer(config);
    }

    fn apply_optimizer(&self, config: &mut TrainConfig) {
        set(&mut config.schedule.learning_rate, &self.learning_rate);
        set(&mut config.schedule.warmup_steps, &self.warmup_steps);
        if let Some(decay) = self.decay {
            config.schedule.decay = decay.into();
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
        } else {
            for (flag, given) in [
                ("--clip-length", self.clip_length),
                ("--layers", self.layers),
            ] {
                if given.is_some() {
                    needs(flag, "--mapper transformer");
                }
            }
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
            config.noise.mode = noise.into();
        }
        let mode = config.noise.mode;
        let has_rate = matches!(
            mode,
            NoiseMode::Coordinates | NoiseMode::Samples | NoiseMode::Relative
        );
        if self.noise_rate.is_some() && !has_rate {
            needs("--noise-rate", "--noise coordinates, samples or relative");
        }
        let has_variance = !matches!(mode, NoiseMode::None | NoiseMode::Relative);
        if self.noise_variance.is_some() && !has_variance {
            needs(
                "--noise-variance",
                "--noise coordinates, samples, gaussian or ball",
            );
        }
        set(&mut config.noise.rate, &self.noise_rate);
        set(&mut config.noise.variance, &self.noise_variance);
    }
}
