//! Frozen image encoders: pixels in, one embedding an image out. Each can be evaluated by a linear probe or kNN (`probe`) or, through a
//! mapper, as a sentence (`train --encoder`).

use crate::models::sizes::sized;
use anyhow::{Result, ensure};
use std::fmt::Debug;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::clip::{Clip, Preprocessing};
use crate::models::resnet18::{ResNet18, ResNet18Config};

use crate::models::autoencoder::{Autoencoder, AutoencoderConfig};
use crate::models::pca::{Pca, PcaConfig};

/// Largest side of an image that an encoder looks at.
const LARGEST_SIDE: usize = 4096;

/// What turns preprocessed images into embeddings.
pub trait Encoder: Debug + Send + Sync {
    /// # Shapes
    /// - `pixel_values`: `[n, 3, side, side]`; returns `[n, d]`, not normalized
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2>;
}

/// The image encoder of a model folder that is not CLIP: its kind and sizes, and what is done to an image before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEncoderConfig {
    pub network: NetworkConfig,
    pub preprocessing: Preprocessing,
}

/// Kinds of encoders, with their sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkConfig {
    /// SimCLR's without its projection head, or a supervised one without its classifier.
    Resnet18(ResNet18Config),
    Autoencoder(AutoencoderConfig),
    Pca(PcaConfig),
    /// The pixels themselves.
    Pixels,
}

impl ImageEncoderConfig {
    /// # Errors
    /// When a size is out of reason; the message names it.
    pub(crate) fn check(&self) -> Result<()> {
        let side = self.preprocessing.image_size as usize;
        sized("encoder.preprocessing.image_size", side)?;
        ensure!(
            side <= LARGEST_SIDE,
            "encoder.preprocessing.image_size is {side}, but at most {LARGEST_SIDE} makes sense"
        );
        match self.network {
            NetworkConfig::Resnet18(config) => sized("encoder.network.width", config.width),
            NetworkConfig::Autoencoder(config) => {
                sized("encoder.network.width", config.width)?;
                sized("encoder.network.dim", config.dim)?;
                config.validate()?;
                equal("encoder.network.image_size", config.image_size, side)
            }
            NetworkConfig::Pca(config) => {
                sized("encoder.network.dim", config.dim)?;
                equal("encoder.network.input", config.input, 3 * side * side)
            }
            NetworkConfig::Pixels => Ok(()),
        }
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        match &self.network {
            NetworkConfig::Resnet18(config) => config.dim(),
            NetworkConfig::Autoencoder(config) => config.dim,
            NetworkConfig::Pca(config) => config.dim,
            NetworkConfig::Pixels => 3 * (self.preprocessing.image_size as usize).pow(2),
        }
    }
}

/// The preprocessing of encoders that are trained here: each channel from about -2 to 2.
pub fn preprocessing(image_size: u32) -> Preprocessing {
    Preprocessing {
        image_size,
        mean: [0.5; 3],
        std: [0.25; 3],
    }
}

/// The pixels themselves.
#[derive(Debug)]
pub struct Pixels;

impl Encoder for Pixels {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        pixel_values.flatten(1, 3)
    }
}

impl Encoder for Clip {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        self.encode_image(pixel_values)
    }
}

impl Encoder for ResNet18 {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        self.forward(pixel_values)
    }
}

impl Encoder for Autoencoder {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        self.encode(pixel_values)
    }
}

impl Encoder for Pca {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        self.project(pixel_values.flatten(1, 3))
    }
}

impl NetworkConfig {
    /// The network with the weights that `load` fills it with.
    pub fn load(&self, device: &Device, load: impl Loader) -> anyhow::Result<Box<dyn Encoder>> {
        Ok(match self {
            Self::Resnet18(config) => Box::new(load.load(config.init(device))?),
            Self::Autoencoder(config) => Box::new(load.load(config.init(device))?),
            Self::Pca(config) => Box::new(load.load(config.init(device))?),
            Self::Pixels => Box::new(Pixels),
        })
    }
}

/// Fills a network of any kind with weights.
pub trait Loader {
    fn load<M: burn::module::Module>(&self, module: M) -> anyhow::Result<M>;
}

fn equal(name: &str, value: usize, expected: usize) -> Result<()> {
    ensure!(
        value == expected,
        "{name} is {value}, and {expected} goes with encoder.preprocessing.image_size"
    );
    Ok(())
}
