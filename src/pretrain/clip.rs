//! CLIP from scratch on captioned images.

use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::contrastive::contrastive_loss;
use crate::data::image_source::ImageSource;
use crate::data::loader::SeededBatcher;
use crate::datasets::scenes;
use crate::models::clip::{Clip, ClipConfig, ClipTextConfig, ClipVisionConfig, Preprocessing};
use crate::nn::Activation;
use crate::tokenizer::Tokenizer;
use crate::trainer::fit::StepOutput;

/// Sizes of the shipped sample's CLIP: the real architecture, small enough to be trained on two cores.
pub fn sample_config(vocab_size: usize) -> ClipConfig {
    ClipConfig {
        vision: ClipVisionConfig {
            hidden_size: 96,
            intermediate_size: 384,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            image_size: 64,
            patch_size: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
        .into(),
        text: Some(ClipTextConfig {
            vocab_size,
            hidden_size: 64,
            intermediate_size: 256,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            max_position_embeddings: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }),
        projection_dim: 64,
    }
}

/// Images with captions.
#[derive(Clone, Debug)]
pub enum Pairs {
    /// Scenes `first .. first + count` of the generator with their [`scenes::siblings`], drawn when they are asked for. As
    /// they stand in one batch, every attribute has to be seen: without them images are told apart by colors and places,
    /// and shapes are hardly learned.
    Scenes { seed: u64, first: u64, count: usize },
    /// Image files, read when they are asked for.
    Files(Arc<Vec<(ImageSource, Vec<String>)>>),
}

/// [`Pairs`] as CLIP reads them.
pub struct PairDataset {
    pub pairs: Pairs,
    pub preprocessing: Preprocessing,
    pub tokenizer: Tokenizer,
    /// Longest caption in tokens, start and end included.
    pub context_length: usize,
}

/// Cropped images with their captions, to be told apart within one batch.
pub type PairItem = Vec<CaptionedCrop>;

/// A cropped image and its captions.
#[derive(Clone, Debug)]
pub struct CaptionedCrop {
    crop: RgbImage,
    /// Token ids with start and end, unpadded.
    captions: Vec<Vec<u32>>,
}

impl PairDataset {
    fn crop(&self, image: &RgbImage, captions: &[String]) -> Result<CaptionedCrop, DatasetError> {
        let captions = captions
            .iter()
            .map(|caption| self.tokenizer.encode_clip(caption, self.context_length))
            .collect::<Result<_, _>>()
            .map_err(DatasetError::new)?;
        Ok(CaptionedCrop {
            crop: self.preprocessing.crop(image),
            captions,
        })
    }
}

impl Dataset<PairItem> for PairDataset {
    fn get(&self, index: usize) -> Result<PairItem, DatasetError> {
        match &self.pairs {
            Pairs::Scenes { seed, first, .. } => scenes::siblings(*seed, first + index as u64)
                .iter()
                .map(|scene| self.crop(&scenes::draw(scene), &scene.captions))
                .collect(),
            Pairs::Files(files) => {
                let (image, captions) = &files[index];
                let image = image.open().map_err(DatasetError::new)?;
                Ok(vec![self.crop(&image, captions)?])
            }
        }
    }

    fn len(&self) -> usize {
        match &self.pairs {
            Pairs::Scenes { count, .. } => *count,
            Pairs::Files(files) => files.len(),
        }
    }
}

/// Images and one caption each, on a device.
#[derive(Clone, Debug)]
pub struct PairBatch {
    /// `[B, 3, n, n]`
    pixel_values: Tensor<4>,
    /// `[B, T]`
    tokens: Tensor<2, Int>,
    /// `[B]`
    eos_positions: Tensor<1, Int>,
}

/// Makes [`PairBatch`]es, with a random caption of each image.
pub struct PairBatcher {
    pub preprocessing: Preprocessing,
}

impl SeededBatcher for PairBatcher {
    type Item = PairItem;
    type Batch = PairBatch;

    fn batch(&self, items: Vec<PairItem>, rng: &mut ChaCha8Rng, device: &Device) -> PairBatch {
        let n = self.preprocessing.image_size as usize;
        let crops: Vec<&RgbImage> = items.iter().flatten().map(|image| &image.crop).collect();
        let count = crops.len();
        let pixel_values = self.preprocessing.normalize_all(crops.into_par_iter());
        let mut captions: Vec<&[u32]> = Vec::with_capacity(count);
        for item in &items {
            // The same wording for all of an item.
            let draw: usize = rng.random_range(0..usize::MAX);
            for image in item {
                captions.push(&image.captions[draw % image.captions.len()]);
            }
        }
        let ends: Vec<i32> = captions
            .iter()
            .map(|caption| caption.len() as i32 - 1)
            .collect();
        PairBatch {
            pixel_values: Tensor::from_data(
                TensorData::new(pixel_values, [count, 3, n, n]),
                device,
            ),
            tokens: crate::data::batcher::TokenBatch::new(&captions, device).tokens,
            eos_positions: Tensor::from_ints(ends.as_slice(), device),
        }
    }
}

/// CLIP as burn's learner sees it.
#[derive(Module, Debug)]
pub struct ClipLearner {
    pub clip: Clip,
    /// See [`contrastive_loss`].
    pub max_factor: f64,
}

impl ClipLearner {
    fn loss(&self, batch: PairBatch) -> Tensor<1> {
        contrastive_loss(
            self.clip.encode_image(batch.pixel_values),
            self.clip.encode_text(batch.tokens, batch.eos_positions),
            self.clip.log_temperature(),
            self.max_factor,
        )
    }
}

impl TrainStep for ClipLearner {
    type Input = PairBatch;
    type Output = StepOutput;

    fn step(&self, batch: PairBatch) -> TrainOutput<StepOutput> {
        StepOutput::train(self, self.loss(batch), 1.0)
    }
}

impl InferenceStep for ClipLearner {
    type Input = PairBatch;
    type Output = StepOutput;

    fn step(&self, batch: PairBatch) -> StepOutput {
        StepOutput {
            loss: self.loss(batch),
        }
    }
}
