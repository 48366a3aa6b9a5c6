//! Everything that is set for training an image encoder.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};

use crate::datasets::classes::{ClassSet, ClassSource, SceneClass};
use crate::models::autoencoder::AutoencoderConfig;
use crate::models::resnet18::{ResNet18Config, Stem};
use crate::pretrain::augment::Augmentation;
use crate::pretrain::view_loss::ViewLoss;
use crate::trainer::lars::LarsConfig;
use crate::trainer::optimizer::OptimizerConfig;
use crate::trainer::schedule::{Decay, ScheduleConfig};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderRunConfig {
    pub method: Method,
    pub data: ClassSource,
    /// Whether a fifth of the training images is left out, to judge settings by; see [`ClassSet::held_out`].
    #[serde(default)]
    pub held_out: bool,
    /// Side of the images that the encoder looks at.
    pub image_size: u32,
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: Optimizing,
    pub learning_rate: f64,
    /// Epochs of linear rise to the learning rate, before half a cosine down.
    pub warmup_epochs: usize,
    pub seed: u64,
}

/// What is trained, and how it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// A ResNet-18 whose embeddings of two views of an image, projected, are to agree.
    Simclr {
        network: ResNet18Config,
        /// Width of what the projection head gives.
        projection: usize,
        loss: ViewLoss,
        augmentation: Augmentation,
    },
    /// An image through a narrow middle and back, with the mean squared error.
    Autoencoder { width: usize, dim: usize },
    /// A ResNet-18 with a classifier on it, from labels.
    Resnet18 {
        network: ResNet18Config,
        augmentation: Augmentation,
    },
    /// Principal components; nothing is trained.
    Pca { dim: usize },
}

/// Which optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizing {
    Adam { weight_decay: f64 },
    Lars(LarsConfig),
}

/// The data that settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The sample scenes: small images, a narrow network, minutes on two cores.
    Sample,
    /// CIFAR-10, as SimCLR's appendix B.9 says, with a ResNet-18.
    Cifar10,
    /// Larger images.
    Stl10,
}

impl Preset {
    /// The one for a data set. Folders are taken for larger images.
    pub fn of(source: &ClassSource) -> Self {
        match source {
            ClassSource::Scenes(_) => Self::Sample,
            ClassSource::Cifar10 => Self::Cifar10,
            ClassSource::Path(path) if path.ends_with("cifar-10-batches-bin") => Self::Cifar10,
            ClassSource::Path(path) if path.ends_with("cifar-10-batches-py") => Self::Cifar10,
            ClassSource::Stl10 | ClassSource::Path(_) => Self::Stl10,
        }
    }

    fn network(self) -> ResNet18Config {
        let (width, stem) = match self {
            Self::Sample => (16, Stem::Imagenet),
            Self::Cifar10 => (64, Stem::Cifar),
            Self::Stl10 => (64, Stem::Imagenet),
        };
        ResNet18Config { width, stem }
    }

    fn image_size(self) -> u32 {
        match self {
            Self::Sample => 48,
            Self::Cifar10 => 32,
            Self::Stl10 => 96,
        }
    }
}

impl EncoderRunConfig {
    /// SimCLR. On CIFAR-10 and larger images the paper's augmentations, temperature 0.5, warmup and cosine.
    pub fn simclr(data: ClassSource) -> Self {
        let preset = Preset::of(&data);
        Self {
            method: Method::Simclr {
                network: preset.network(),
                projection: 128,
                loss: ViewLoss::NtXent {
                    temperature: if preset == Preset::Sample { 0.05 } else { 0.5 },
                },
                augmentation: match preset {
                    Preset::Sample => sample_views(),
                    Preset::Cifar10 => Augmentation::cifar10(),
                    Preset::Stl10 => Augmentation::large(),
                },
            },
            image_size: preset.image_size(),
            epochs: if preset == Preset::Sample { 40 } else { 100 },
            batch_size: if preset == Preset::Sample { 128 } else { 256 },
            optimizer: Optimizing::Adam { weight_decay: 1e-6 },
            learning_rate: if preset == Preset::Sample { 3e-3 } else { 1e-3 },
            warmup_epochs: if preset == Preset::Sample { 2 } else { 10 },
            seed: 1,
            held_out: false,
            data,
        }
    }

    /// A convolutional autoencoder with an embedding of 128 values, as wide as PCA's.
    pub fn autoencoder(data: ClassSource) -> Self {
        let preset = Preset::of(&data);
        Self {
            method: Method::Autoencoder {
                width: if preset == Preset::Sample { 16 } else { 32 },
                dim: 128,
            },
            epochs: if preset == Preset::Sample { 8 } else { 50 },
            batch_size: if preset == Preset::Sample { 64 } else { 256 },
            learning_rate: 1e-3,
            optimizer: Optimizing::Adam { weight_decay: 0.0 },
            warmup_epochs: 0,
            ..Self::simclr(data)
        }
    }

    /// A ResNet-18 that is told the classes, with crops and flips.
    pub fn resnet18(data: ClassSource) -> Self {
        let preset = Preset::of(&data);
        Self {
            method: Method::Resnet18 {
                network: preset.network(),
                augmentation: Augmentation {
                    crop: [0.5, 1.0],
                    flip: 0.5,
                    ..Augmentation::none()
                },
            },
            epochs: if preset == Preset::Sample { 6 } else { 100 },
            batch_size: if preset == Preset::Sample { 64 } else { 128 },
            optimizer: Optimizing::Adam { weight_decay: 5e-4 },
            learning_rate: 1e-3,
            warmup_epochs: 1,
            ..Self::simclr(data)
        }
    }

    /// The first 128 principal components of the pixels.
    pub fn pca(data: ClassSource) -> Self {
        Self {
            method: Method::Pca { dim: 128 },
            ..Self::simclr(data)
        }
    }

    /// The images to train on, and those to test on.
    ///
    /// # Errors
    /// As [`ClassSet::load`], [`ClassSet::readable`] and [`ClassSet::held_out`].
    pub fn load_set(&self, dataset: &Path, report: &dyn Fn(&str)) -> Result<ClassSet> {
        let set = ClassSet::load(&self.data, dataset)?.readable(report)?;
        if self.held_out {
            set.held_out()
        } else {
            Ok(set)
        }
    }

    /// What the method is called.
    pub fn name(&self) -> &'static str {
        match self.method {
            Method::Simclr { .. } => "simclr",
            Method::Autoencoder { .. } => "autoencoder",
            Method::Resnet18 { .. } => "resnet18",
            Method::Pca { .. } => "pca",
        }
    }

    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let positive = [("epochs", self.epochs), ("batch size", self.batch_size)];
        if let Some((name, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            bail!("{name} is 0: give at least 1");
        }
        ensure!(self.image_size > 0, "the image size is 0: give at least 1");
        let rate = self.learning_rate;
        ensure!(
            rate > 0.0 && rate.is_finite(),
            "the learning rate is {rate}: give a number above 0"
        );
        match &self.method {
            Method::Simclr {
                loss,
                augmentation,
                network,
                ..
            } => {
                ensure!(
                    self.batch_size > 1,
                    "a batch of one image has no other to tell it from: give --batch-size 2 or more"
                );
                ensure!(
                    network.width > 0,
                    "a network of width 0 sees nothing: give --width"
                );
                loss.validate()?;
                augmentation.validate()
            }
            Method::Resnet18 {
                augmentation,
                network,
            } => {
                ensure!(
                    network.width > 0,
                    "a network of width 0 sees nothing: give --width"
                );
                augmentation.validate()
            }
            Method::Autoencoder { width, dim } => {
                ensure!(
                    *width > 0 && *dim > 0,
                    "an autoencoder of width {width} with {dim} values in its middle learns nothing"
                );
                self.autoencoder_config(*width, *dim).validate()
            }
            Method::Pca { dim } => {
                ensure!(
                    *dim > 0,
                    "no principal component is asked for: give at least 1"
                );
                Ok(())
            }
        }
    }

    /// The sizes of an autoencoder for these images.
    pub fn autoencoder_config(&self, width: usize, dim: usize) -> AutoencoderConfig {
        AutoencoderConfig {
            width,
            dim,
            image_size: self.image_size as usize,
        }
    }

    /// The learning rate over a run of so many batches an epoch.
    pub fn schedule(&self, batches: usize) -> ScheduleConfig {
        ScheduleConfig {
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_epochs * batches,
            decay: Decay::Cosine,
        }
    }
}

/// Views of the sample scenes. Colors and shapes make their classes, so views must leave both: a crop takes at least half
/// of the image, in which the main object is whole, and colors are changed less than on CIFAR-10. A few gray views keep
/// the network from telling images apart by their colors alone, which is easier.
fn sample_views() -> Augmentation {
    Augmentation {
        crop: [0.5, 1.0],
        jitter: 0.25,
        grayscale: 0.1,
        ..Augmentation::cifar10()
    }
}

impl Optimizing {
    /// The optimizer, without state.
    pub fn init(&self) -> ModuleOptimizer {
        match self {
            Self::Adam { weight_decay } => OptimizerConfig {
                weight_decay: *weight_decay,
                ..OptimizerConfig::adam()
            }
            .init(),
            Self::Lars(config) => config.init(),
        }
    }
}

impl Default for EncoderRunConfig {
    fn default() -> Self {
        Self::simclr(ClassSource::Scenes(SceneClass::Kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_sense_and_comes_back_from_json() {
        for data in [
            ClassSource::Scenes(SceneClass::Shape),
            ClassSource::Cifar10,
            ClassSource::Stl10,
            ClassSource::Path("photos".into()),
        ] {
            for config in [
                EncoderRunConfig::simclr(data.clone()),
                EncoderRunConfig::autoencoder(data.clone()),
                EncoderRunConfig::resnet18(data.clone()),
                EncoderRunConfig::pca(data.clone()),
            ] {
                config.validate().unwrap();
                let text = serde_json::to_string(&config).unwrap();
                let read: EncoderRunConfig = serde_json::from_str(&text).unwrap();
                assert_eq!(read, config);
            }
        }
    }

    #[test]
    fn a_batch_of_one_is_refused_for_a_contrastive_loss_only() {
        let one = |config: EncoderRunConfig| EncoderRunConfig {
            batch_size: 1,
            ..config
        };
        let scenes = ClassSource::Scenes(SceneClass::Kind);
        let error = one(EncoderRunConfig::simclr(scenes.clone()))
            .validate()
            .unwrap_err();
        assert!(error.to_string().contains("batch of one image"), "{error}");
        one(EncoderRunConfig::autoencoder(scenes))
            .validate()
            .unwrap();
    }
}
