//! The captioner as it is used: a folder in, sentences out.

mod caption_decoder;
mod caption_text;
pub mod consensus;
mod crops;
mod image_encoder;
mod memory;
pub mod model_folder;
mod modules;
mod network;
mod options;
mod prompt;
mod step;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use serde::Serialize;

use crate::captioner::model_folder::ModelFolder;
use crate::device::{DeviceChoice, Precision};
use crate::vector::cosine;

pub use caption_decoder::CaptionDecoder;
#[cfg(feature = "serve")]
pub(crate) use caption_decoder::spellings;
pub(crate) use caption_decoder::{CAPTION_ROOM, by_length};
pub use caption_text::CaptionText;
pub use crops::open_crops;
pub use image_encoder::ImageEncoder;
pub(crate) use memory::check_retrieved;
pub use memory::{Memory, MemoryOptions, Own};
pub use modules::Modules;
pub use options::{CaptionOptions, Rerank, Search};
pub use step::Gpt2Step;
pub(crate) use step::with_contexts;

/// CLIP, mapper, GPT-2, their preprocessing and vocabulary, loaded from one folder.
#[derive(Debug)]
pub struct Captioner {
    pub encoder: ImageEncoder,
    pub decoder: CaptionDecoder,
    /// Read when something looks into the networks: captions are made by those in `encoder` and `decoder`.
    modules: OnceLock<Modules>,
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
    /// Mean CIDEr-D to the other captions of the image, once [`consensus::rerank`] has ordered captions by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus: Option<f32>,
}

/// How a captioner is loaded; [`Captioner::builder`] begins it.
#[derive(Clone, Debug, Default)]
pub struct CaptionerBuilder {
    device: Option<Device>,
    precision: Option<Precision>,
    memory: MemoryOptions,
}

impl CaptionerBuilder {
    /// The device to compute on, instead of what [`DeviceChoice::Auto`] finds: a GPU if there is one, else the CPU.
    #[must_use]
    pub fn device(self, device: &Device) -> Self {
        Self {
            device: Some(device.clone()),
            ..self
        }
    }

    /// What to compute in, instead of [`Precision::default_for`] the device.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self {
            precision: Some(precision),
            ..self
        }
    }

    /// What is looked up in a datastore, instead of what the model was trained with.
    #[must_use]
    pub fn memory(self, memory: MemoryOptions) -> Self {
        Self { memory, ..self }
    }

    /// Loads a model folder.
    ///
    /// # Errors
    /// When a file is missing or does not fit `config.json`, which the message names, or the device does not have the
    /// precision.
    pub fn load(self, path: impl AsRef<Path>) -> Result<Captioner> {
        let device = match self.device {
            Some(device) => device,
            None => DeviceChoice::Auto.resolve()?,
        };
        let default = || Precision::default_for(&device);
        let precision = self.precision.unwrap_or_else(default);
        let folder = ModelFolder::open(path.as_ref())?;
        folder.captioner_config()?;
        // Reading is mostly copying, which a core each does in half the time. The sentence's tower stays on disk.
        let (encoder, decoder) = rayon::join(
            || ImageEncoder::load_as(&folder, &device, precision),
            || CaptionDecoder::load(&folder, &device, precision),
        );
        Ok(Captioner {
            encoder: encoder?,
            decoder: decoder?.with_memory(self.memory.open(&folder)?),
            modules: OnceLock::new(),
        })
    }
}

impl Captioner {
    /// Loads a model folder on the device that [`DeviceChoice::Auto`] finds, in [`Precision::default_for`] it.
    ///
    /// # Errors
    /// As [`CaptionerBuilder::load`]'s.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().load(path)
    }

    /// Loading with a device or a precision of one's own.
    pub fn builder() -> CaptionerBuilder {
        CaptionerBuilder::default()
    }

    /// The most likely caption of one image, found greedily.
    ///
    /// # Errors
    /// When the device fails.
    pub fn caption(&self, image: &RgbImage) -> Result<Caption> {
        let image = std::slice::from_ref(image);
        let captions = self.caption_batch(image, &CaptionOptions::default())?;
        (captions.into_iter().flatten().next()).context("decoding gave no caption")
    }

    /// The captions of several images, decoded together; of each image the best `num_captions`, best first.
    ///
    /// # Errors
    /// When an option makes no sense for this model, or the device fails.
    pub fn caption_batch(
        &self,
        images: &[RgbImage],
        options: &CaptionOptions,
    ) -> Result<Vec<Vec<Caption>>> {
        let crops: Vec<RgbImage> = (images.iter())
            .map(|image| self.encoder.crop(image))
            .collect();
        self.caption_crops(&crops, &options.search(self)?)
    }

    /// [`Self::caption_batch`] of what [`ImageEncoder::crop`] cut out.
    ///
    /// # Errors
    /// When the device fails, or captions are to be ordered by CLIP and the model folder has no vocabulary for it.
    pub fn caption_crops(&self, crops: &[RgbImage], search: &Search) -> Result<Vec<Vec<Caption>>> {
        let embeddings = self.encoder.embed(crops)?;
        let mut captions = self.decoder.caption(&embeddings, &search.decode)?;
        match search.rerank {
            Rerank::Score => {}
            Rerank::Clip => self.rerank(&embeddings, &mut captions)?,
            Rerank::Consensus => captions.iter_mut().for_each(|all| consensus::rerank(all)),
        }
        for captions in &mut captions {
            captions.truncate(search.num_captions);
        }
        Ok(captions)
    }

    /// The networks in float32 as burn's modules, for what needs gradients; they are read from the model folder when they are
    /// first asked for.
    ///
    /// # Errors
    /// When a file of the model folder is missing or damaged.
    pub fn modules(&self) -> Result<&Modules> {
        if let Some(modules) = self.modules.get() {
            return Ok(modules);
        }
        let modules = Modules::load(self.encoder.folder()?, self.encoder.device())?;
        Ok(self.modules.get_or_init(|| modules))
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

/// A tensor's values on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow!("the device failed: {error}"))
}
