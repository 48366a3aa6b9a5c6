//! The captioner as it is used: a folder in, sentences out.

mod caption_decoder;
mod image_encoder;
pub mod model_folder;
mod step;

use std::cmp::Ordering;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use serde::Serialize;

use crate::captioner::model_folder::ModelFolder;
use crate::decode::DecodeConfig;
use crate::device::Precision;
use crate::vector::cosine;

pub use caption_decoder::CaptionDecoder;
pub use image_encoder::ImageEncoder;
pub use step::Gpt2Step;

/// CLIP, mapper, GPT-2, their preprocessing and vocabulary, loaded from one folder.
#[derive(Debug)]
pub struct Captioner {
    pub encoder: ImageEncoder,
    pub reader: CaptionDecoder,
}

/// A sentence and how likely the model found it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caption {
    pub caption: String,
    /// GPT-2's token ids, those of the prompt and the stop token included.
    pub tokens: Vec<u32>,
    /// Sum of the log-probabilities of the tokens after the prompt.
    pub log_prob: f32,
    /// Mean of them, or what the length penalty makes of it; captions come in its order.
    pub score: f32,
    /// Cosine of CLIP's embeddings of image and caption, once [`Captioner::rerank`] has ordered captions by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
}

impl Captioner {
    /// Loads a model folder in [`Precision::default_for`] the device.
    ///
    /// # Errors
    /// When a file is missing or does not fit `config.json`; the message names it.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::load_as(path, device, Precision::default_for(device))
    }

    /// Loads a model folder in a precision.
    ///
    /// # Errors
    /// As [`Captioner::load`]'s, and when the device does not have the precision.
    pub fn load_as(path: &Path, device: &Device, precision: Precision) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        folder.captioner_config()?;
        // Reading is mostly copying, which a core each does in half the time. The sentence's tower stays on disk.
        let (encoder, reader) = rayon::join(
            || ImageEncoder::load_as(&folder, device, precision),
            || CaptionDecoder::load(&folder, device, precision),
        );
        Ok(Self {
            encoder: encoder?,
            reader: reader?,
        })
    }

    /// The best caption of one image.
    pub fn caption(&self, image: &RgbImage, config: &DecodeConfig) -> Result<Caption> {
        let captions = self.caption_batch(std::slice::from_ref(image), config)?;
        (captions.into_iter().flatten().next()).context("decoding gave no caption")
    }

    /// The captions of several images, best first, decoded together.
    pub fn caption_batch(
        &self,
        images: &[RgbImage],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Caption>>> {
        self.reader
            .caption(&self.encoder.embed_images(images)?, config)
    }

    /// Puts the captions of each image in the order of the cosine between CLIP's embeddings of image and caption, and
    /// notes it in them. `embeddings`: the images', as CLIP gave them.
    ///
    /// # Errors
    /// When the model folder has no vocabulary for CLIP.
    pub fn rerank(&self, embeddings: &[Vec<f32>], captions: &mut [Vec<Caption>]) -> Result<()> {
        let texts: Vec<String> = captions
            .iter()
            .flatten()
            .map(|caption| caption.caption.clone())
            .collect();
        let mut text_embeddings = self.encoder.embed_texts(&texts)?.into_iter();
        for (image, captions) in embeddings.iter().zip(captions) {
            for (caption, text) in captions.iter_mut().zip(text_embeddings.by_ref()) {
                caption.similarity = Some(cosine(image, &text) as f32);
            }
            captions.sort_by(|a, b| {
                b.similarity
                    .partial_cmp(&a.similarity)
                    .unwrap_or(Ordering::Equal)
            });
        }
        Ok(())
    }
}

/// A captioner and what it is asked for.
#[derive(Debug)]
pub struct Captioning {
    pub captioner: Captioner,
    pub config: DecodeConfig,
    /// Captions given an image, of those that the search finds.
    pub num_captions: usize,
    /// Whether [`Captioner::rerank`] decides which are best.
    pub rerank_by_clip: bool,
}

impl Captioning {
    /// The captions of cropped images, of each the best few, best first.
    ///
    /// # Errors
    /// When the device fails, or captions are to be ordered by CLIP and the model folder has no vocabulary for it.
    pub fn caption(&self, crops: &[RgbImage]) -> Result<Vec<Vec<Caption>>> {
        let embeddings = self.captioner.encoder.embed(crops)?;
        let mut captions = self.captioner.reader.caption(&embeddings, &self.config)?;
        if self.rerank_by_clip {
            self.captioner.rerank(&embeddings, &mut captions)?;
        }
        for captions in &mut captions {
            captions.truncate(self.num_captions);
        }
        Ok(captions)
    }
}

/// A tensor's values on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow!("the device failed: {error}"))
}
