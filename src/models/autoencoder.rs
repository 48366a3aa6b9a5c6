//! A convolutional autoencoder: an image through a narrow middle and back. The middle is the embedding.
//!
//! Shape letters: `B` batch, `n` the image's side, `w` width, `D` dim.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::convolve;

/// Sides shrink by this much from image to middle.
const SHRINK: usize = 8;

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// Channels of the first convolution; the next two have twice and four times as many.
    pub width: usize,
    /// Width of the embedding.
    pub dim: usize,
    /// Side of the image, a multiple of 8.
    pub image_size: usize,
}

/// Three convolutions of stride 2, a linear layer to the embedding, and the way back.
#[derive(Module, Debug)]
pub struct Autoencoder {
    down: Vec<Conv2d>,
    embed: Linear,
    expand: Linear,
    up: Vec<ConvTranspose2d>,
    width: usize,
    grid: usize,
}

impl AutoencoderConfig {
    /// # Errors
    /// When the image does not halve three times.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.image_size > 0 && self.image_size.is_multiple_of(SHRINK),
            "an autoencoder halves an image three times, and {} is not a multiple of {SHRINK}: give another --image-size",
            self.image_size
        );
        Ok(())
    }

    /// Fresh weights, initialized as PyTorch's defaults do.
    pub fn init(&self, device: &Device) -> Autoencoder {
        let w = self.width;
        let channels = [3, w, 2 * w, 4 * w];
        let grid = self.image_size / SHRINK;
        let middle = 4 * w * grid * grid;
        let down = (0..3).map(|i| {
            Conv2dConfig::new([channels[i], channels[i + 1]], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        });
        let up = (0..3).rev().map(|i| {
            ConvTranspose2dConfig::new([channels[i + 1], channels[i]], [4, 4])
                .with_stride([2, 2])
                .with_padding([1, 1])
                .init(device)
        });
        Autoencoder {
            down: down.collect(),
            embed: LinearConfig::new(middle, self.dim).init(device),
            expand: LinearConfig::new(self.dim, middle).init(device),
            up: up.collect(),
            width: w,
            grid,
        }
    }
}

impl Autoencoder {
    /// `[B, 3, n, n] -> [B, D]`
    pub fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        let x = self
            .down
            .iter()
            .fold(pixel_values, |x, conv| relu(convolve(conv, x))); // [B, 4 w, n / 8, n / 8]
        self.embed.forward(x.flatten(1, 3)) // [B, D]
    }

    /// `[B, D] -> [B, 3, n, n]`
    pub fn decode(&self, embedding: Tensor<2>) -> Tensor<4> {
        let [b, _] = embedding.dims();
        let x = relu(self.expand.forward(embedding));
        let mut x = x.reshape([b, 4 * self.width, self.grid, self.grid]);
        for (i, conv) in self.up.iter().enumerate() {
            x = conv.forward(x);
            if i + 1 < self.up.len() {
                x = relu(x);
            }
        }
        x // [B, 3, n, n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_has_the_shape_of_what_comes_out() {
        let config = AutoencoderConfig {
            width: 2,
            dim: 5,
            image_size: 16,
        };
        let network = config.init(&Device::flex());
        let x = Tensor::zeros([3, 3, 16, 16], &Device::flex());
        let embedding = network.encode(x.clone());
        assert_eq!(embedding.dims(), [3, 5]);
        assert_eq!(network.decode(embedding).dims(), x.dims());
        let odd = AutoencoderConfig {
            image_size: 20,
            ..config
        };
        assert!(odd.validate().unwrap_err().to_string().contains("20"));
    }
}
