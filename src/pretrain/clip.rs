//! CLIP from scratch on captioned images: data set, batches and learner, which are what one of its training steps is made of.

use std::sync::Arc;

use anyhow::Result;
use burn::data::dataset::{Dataset, DatasetError};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use image::RgbImage;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::augment::{Augmentation, Planes};
use super::contrastive::contrastive_loss;
use super::sizes::Gpt2Sizes;
use crate::data::batcher::TokenBatch;
use crate::data::image_source::ImageSource;
use crate::data::loader::SeededBatcher;
use crate::datasets::scenes;
use crate::models::caption_model::{CaptionModel, CaptionModelConfig};
use crate::models::clip::{Clip, ClipConfig, Preprocessing};
use crate::models::gpt2::cross_entropy;
use crate::models::mapper::{MapperConfig, MapperKind};
use crate::nn::normalize;
use crate::tokenizer::Tokenizer;
use crate::trainer::fit::StepOutput;

/// A fresh CLIP. The positions of its patches begin as waves over both directions of the image, as large as the patches
/// themselves, so that neighbors are known from the start (Beyer et al. 2022, <https://arxiv.org/abs/2205.01580>): from
/// small random vectors it takes thousands of batches until the tower sees more than a bag of patches.
pub fn init(config: &ClipConfig, device: &Device) -> Clip {
    let mut clip = config.init(device);
    if let Some(tower) = &mut clip.vision_model {
        let weight = &mut tower.embeddings.position_embedding.weight;
        *weight = weight.clone().map(with_waves);
    }
    clip
}

/// Position vectors of which those after the first, the class token's, are waves over the grid. `[1 + G*G, C]`
fn with_waves(positions: Tensor<2>) -> Tensor<2> {
    let [count, c] = positions.dims();
    let grid = (count - 1).isqrt();
    let waves = c / 4;
    let mut values = vec![0.0_f32; (count - 1) * c];
    for (place, row) in values.chunks_exact_mut(c).enumerate() {
        let (y, x) = ((place / grid) as f32, (place % grid) as f32);
        for wave in 0..waves {
            let frequency = LONGEST_WAVE.powf(-(wave as f32) / waves as f32);
            for (part, at) in [x, y].into_iter().enumerate() {
                let (sin, cos) = (at * frequency).sin_cos();
                row[2 * part * waves + wave] = sin;
                row[(2 * part + 1) * waves + wave] = cos;
            }
        }
    }
    let device = positions.device();
    let waves = Tensor::from_data(TensorData::new(values, [count - 1, c]), &device);
    Tensor::cat(vec![positions.narrow(0, 0, 1), waves], 0)
}

/// How much longer the longest wave over the patches' positions is than the shortest, which is six patches long.
const LONGEST_WAVE: f32 = 16.0;

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

impl Pairs {
    /// The captions of files; those of scenes are short.
    pub fn captions(&self) -> impl Iterator<Item = &str> {
        let files = match self {
            Self::Scenes { .. } => None,
            Self::Files(files) => Some(files),
        };
        let captions = files.into_iter().flat_map(|files| files.iter());
        captions.flat_map(|(_, captions)| captions.iter().map(String::as_str))
    }
}

/// [`Pairs`] as CLIP reads them.
pub struct PairDataset {
    pub pairs: Pairs,
    pub preprocessing: Preprocessing,
    pub tokenizer: Tokenizer,
    /// Longest caption in tokens, start and end included.
    pub context_length: usize,
    /// Whether images are left whole, for a batcher that takes random views of them.
    pub whole: bool,
}

/// Images with their captions, to be told apart within one batch.
pub type PairItem = Vec<TokenizedPair>;

/// An image, cropped unless random views are taken of it, and its captions.
#[derive(Clone, Debug)]
pub struct TokenizedPair {
    image: RgbImage,
    /// Token ids with start and end, unpadded.
    captions: Vec<Vec<u32>>,
}

impl PairDataset {
    fn pair(&self, image: RgbImage, captions: &[String]) -> Result<TokenizedPair, DatasetError> {
        let captions = captions
            .iter()
            .map(|caption| self.tokenizer.encode_clip(caption, self.context_length))
            .collect::<Result<_, _>>()
            .map_err(DatasetError::new)?;
        let image = match self.whole {
            true => image,
            false => self.preprocessing.crop(&image),
        };
        Ok(TokenizedPair { image, captions })
    }
}

impl Dataset<PairItem> for PairDataset {
    fn get(&self, index: usize) -> Result<PairItem, DatasetError> {
        match &self.pairs {
            // Siblings are told apart by their first captions.
            Pairs::Scenes { seed, first, .. } => scenes::siblings(*seed, first + index as u64)
                .iter()
                .map(|scene| self.pair(scenes::draw(scene), &scene.captions[..1]))
                .collect(),
            Pairs::Files(files) => {
                let (image, captions) = &files[index];
                let image = image.open().map_err(DatasetError::new)?;
                Ok(vec![self.pair(image, captions)?])
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
    /// The captions without their start, as a captioner writes them.
    captions: TokenBatch,
}

/// Makes [`PairBatch`]es, with a random caption of each image.
pub struct PairBatcher {
    pub preprocessing: Preprocessing,
    /// What random views are taken by.
    pub augmentation: Option<Augmentation>,
}

impl PairBatcher {
    /// Images as CLIP reads them, `[B, 3, n, n]`.
    fn pixel_values(&self, images: &[&RgbImage], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let Some(augmentation) = &self.augmentation else {
            return self.preprocessing.normalize_all(images.par_iter().copied());
        };
        let seeds: Vec<u64> = images.iter().map(|_| rng.random()).collect();
        let side = self.preprocessing.image_size;
        (images.par_iter().zip(seeds))
            .flat_map_iter(|(image, seed)| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let Planes { mut values, .. } = augmentation.view(image, side, &mut rng);
                self.preprocessing.standardize(&mut values);
                values
            })
            .collect()
    }
}

impl SeededBatcher for PairBatcher {
    type Item = PairItem;
    type Batch = PairBatch;

    fn batch(&self, items: Vec<PairItem>, rng: &mut ChaCha8Rng, device: &Device) -> PairBatch {
        let n = self.preprocessing.image_size as usize;
        let images: Vec<&RgbImage> = items.iter().flatten().map(|pair| &pair.image).collect();
        let count = images.len();
        let mut captions: Vec<&[u32]> = Vec::with_capacity(count);
        for item in &items {
            // The same wording for all of an item.
            let draw: usize = rng.random_range(0..usize::MAX);
            for pair in item {
                captions.push(&pair.captions[draw % pair.captions.len()]);
            }
        }
        let pixel_values = self.pixel_values(&images, rng);
        let ends: Vec<i32> = captions
            .iter()
            .map(|caption| caption.len() as i32 - 1)
            .collect();
        let written: Vec<&[u32]> = captions.iter().map(|caption| &caption[1..]).collect();
        PairBatch {
            pixel_values: Tensor::from_data(
                TensorData::new(pixel_values, [count, 3, n, n]),
                device,
            ),
            tokens: TokenBatch::new(&captions, device).tokens,
            captions: TokenBatch::new(&written, device),
            eos_positions: Tensor::from_ints(ends.as_slice(), device),
        }
    }
}

/// CLIP as burn's learner sees it.
#[derive(Module, Debug)]
pub struct ClipLearner {
    pub clip: Clip,
    /// What captions are predicted with, beside the contrastive loss; it is not kept.
    pub captioner: Option<CaptionModel>,
    /// The weight of the loss of these captions.
    pub caption_weight: f64,
    /// See [`contrastive_loss`].
    pub max_factor: f64,
}

impl ClipLearner {
    /// The contrastive loss and, with a captioner, the one of captions predicted from the image's normalized embedding
    /// alone, so that it has to hold what captions say (after CoCa, <https://arxiv.org/abs/2205.01917>).
    fn loss(&self, batch: PairBatch) -> Tensor<1> {
        let image = self.clip.encode_image(batch.pixel_values); // [B, E]
        let contrastive = contrastive_loss(
            image.clone(),
            self.clip.encode_text(batch.tokens, batch.eos_positions),
            self.clip.log_temperature(),
            self.max_factor,
        );
        let Some(captioner) = &self.captioner else {
            return contrastive;
        };
        let TokenBatch {
            tokens,
            positions,
            targets,
        } = batch.captions;
        let [_, e] = image.dims();
        let image = normalize(image) * (e as f64).sqrt();
        let hidden = captioner.forward(image, tokens); // [B, T, C]
        contrastive
            + cross_entropy(&captioner.gpt2, hidden, positions, targets) * self.caption_weight
    }
}

/// Sizes of the captioner that is trained beside a CLIP of this embedding.
///
/// # Errors
/// As [`Gpt2Sizes::config`].
pub fn captioner_config(
    clip_dim: usize,
    vocab_size: usize,
    context_length: usize,
) -> Result<CaptionModelConfig> {
    let gpt2 = Gpt2Sizes {
        layers: 2,
        positions: CAPTIONER_PREFIX + context_length.max(56),
        ..Gpt2Sizes::default()
    }
    .config(vocab_size)?;
    Ok(CaptionModelConfig {
        mapper: MapperConfig {
            kind: MapperKind::Linear,
            clip_dim,
            n_embd: gpt2.n_embd,
            prefix_length: CAPTIONER_PREFIX,
        },
        gpt2,
    })
}

/// Prefix length of the captioner that is trained beside CLIP.
const CAPTIONER_PREFIX: usize = 8;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::run::ClipSizes;

    #[test]
    fn positions_begin_as_waves_that_neighbors_share() {
        let device = Device::flex();
        let clip = init(&ClipSizes::default().config(500).unwrap(), &device);
        let positions = clip.vision_model.unwrap().embeddings.position_embedding;
        let rows = positions.weight.val().into_data();
        let rows: Vec<f32> = rows.iter().collect();
        let rows: Vec<&[f32]> = rows.chunks_exact(96).collect();
        assert_eq!(rows.len(), 65);
        let distance = |a: usize, b: usize| -> f32 {
            (rows[a].iter().zip(rows[b]))
                .map(|(a, b)| (a - b).powi(2))
                .sum()
        };
        // Row 1 is the upper left corner; 2 stands beside it, 9 below it, 64 at the other end.
        assert!((distance(1, 2) - distance(1, 9)).abs() < 1e-3);
        assert!(distance(1, 2) < distance(1, 3) && distance(1, 3) < distance(1, 64));
        assert!(rows[1].iter().all(|value| value.abs() <= 1.0));
        assert!(
            rows[0].iter().all(|value| value.abs() < 0.2),
            "the class token's is random"
        );
    }

    #[test]
    fn predicted_captions_add_to_the_loss_and_train_the_image_tower() {
        let device = Device::flex();
        let config = ClipSizes::default().config(500).unwrap();
        let preprocessing = Preprocessing::openai(64);
        let pairs = || -> PairItem {
            let pair = |index| TokenizedPair {
                image: preprocessing.crop(&scenes::draw(&scenes::scene(1, index))),
                captions: vec![vec![498, 3 + index as u32, 7, 499]],
            };
            (0..4).map(pair).collect()
        };
        let batcher = PairBatcher {
            preprocessing: preprocessing.clone(),
            augmentation: None,
        };
        let batch = || {
            let rng = &mut rand::SeedableRng::seed_from_u64(1);
            batcher.batch(vec![pairs()], rng, &device)
        };
        let mut learner = ClipLearner {
            clip: init(&config, &device),
            captioner: None,
            caption_weight: 1.0,
            max_factor: 8.0,
        };
        let plain: f32 = learner.loss(batch()).into_scalar();
        let captioner = captioner_config(config.projection_dim, 500, 32).unwrap();
        learner.captioner = Some(captioner.init(&device));
        let once: f32 = learner.loss(batch()).into_scalar();
        learner.caption_weight = 2.0;
        let twice: f32 = learner.loss(batch()).into_scalar();
        // A fresh captioner takes every token for as likely.
        assert!((once - plain - 500_f32.ln()).abs() < 1.0, "{plain} {once}");
        assert!((twice - plain - 2.0 * (once - plain)).abs() < 1e-3);
    }

    #[test]
    fn a_batch_of_random_views_follows_from_its_seed_and_keeps_the_scale() {
        let preprocessing = Preprocessing::openai(8);
        let gray = RgbImage::from_pixel(24, 16, image::Rgb([128; 3]));
        let batcher = |augmentation| PairBatcher {
            preprocessing: preprocessing.clone(),
            augmentation,
        };
        let crops = Augmentation {
            crop: [0.3, 0.9],
            flip: 0.5,
            ..Augmentation::none()
        };
        // Whatever is cut out of a gray image is the same gray.
        let views = batcher(Some(crops.clone()))
            .pixel_values(&[&gray, &gray], &mut ChaCha8Rng::seed_from_u64(1));
        let middle = preprocessing.pixel_values(&gray);
        assert_eq!(views.len(), 2 * middle.len());
        for (view, middle) in views.iter().zip(middle.iter().cycle()) {
            assert!((view - middle).abs() < 1e-5, "{view} {middle}");
        }
        let ramp = RgbImage::from_fn(24, 24, |x, y| image::Rgb([(x * 9) as u8, (y * 9) as u8, 0]));
        let views = |seed| {
            batcher(Some(crops.clone()))
                .pixel_values(&[&ramp, &ramp], &mut ChaCha8Rng::seed_from_u64(seed))
        };
        assert_eq!(views(1), views(1));
        assert_ne!(views(1), views(2));
        let (first, second) = (&views(1)[..192], &views(1)[192..]);
        assert_ne!(first, second);
    }
}
