//! The captioner as it is used: a folder in, sentences out.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use image::RgbImage;
use serde::Serialize;

use crate::caption_model::CaptionModel;
use crate::clip::{Clip, Preprocessing};
use crate::data::batcher::rows_to_tensor;
use crate::decode::{self, DecodeConfig, Hypothesis, Logits, Step};
use crate::gpt2::{Gpt2, KvCache};
use crate::model_folder::{CaptionerConfig, ModelFolder};
use crate::nn;
use crate::tokenizer::{Tokenizer, TokenizerKind};

/// CLIP, mapper, GPT-2, their preprocessing and vocabulary, loaded from one folder.
#[derive(Debug)]
pub struct Captioner {
    pub encoder: ImageEncoder,
    pub reader: CaptionReader,
}

/// The picture's half: CLIP with the preprocessing that belongs to it.
#[derive(Debug)]
pub struct ImageEncoder {
    clip: Clip,
    preprocessing: Preprocessing,
    device: Device,
}

/// CLIP's other tower: sentences into the space that pictures are embedded in.
#[derive(Debug)]
pub struct TextEncoder {
    clip: Clip,
    tokenizer: Tokenizer,
    context_length: usize,
    device: Device,
}

/// The sentence's half: mapper, GPT-2 and vocabulary.
#[derive(Debug)]
pub struct CaptionReader {
    pub model: CaptionModel,
    pub tokenizer: Tokenizer,
    config: CaptionerConfig,
    n_layer: usize,
    n_positions: usize,
    device: Device,
}

/// A sentence and how likely the model found it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caption {
    pub caption: String,
    /// GPT-2's token ids, the stop token included.
    pub tokens: Vec<u32>,
    /// Sum of the tokens' log-probabilities.
    pub log_prob: f32,
    /// Mean of them.
    pub score: f32,
}

impl Captioner {
    /// Loads a model folder.
    ///
    /// # Errors
    /// When a file is missing or does not fit `config.json`; the message names it.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        folder.captioner_config()?;
        Ok(Self {
            encoder: ImageEncoder::load(&folder, device)?,
            reader: CaptionReader::load(&folder, device)?,
        })
    }

    /// The best caption of one picture.
    pub fn caption(&self, image: &RgbImage, config: &DecodeConfig) -> Result<Caption> {
        let captions = self.caption_batch(std::slice::from_ref(image), config)?;
        (captions.into_iter().flatten().next()).context("decoding gave no caption")
    }

    /// The captions of several pictures, best first, decoded together.
    pub fn caption_batch(
        &self,
        images: &[RgbImage],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Caption>>> {
        let crops: Vec<RgbImage> = images
            .iter()
            .map(|image| self.encoder.crop(image))
            .collect();
        let embeddings = self.encoder.embed(&crops)?;
        self.reader.caption(&embeddings, config)
    }
}

impl ImageEncoder {
    /// Loads CLIP from an opened folder.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        Ok(Self {
            clip: folder.load_clip(device)?,
            preprocessing: folder.encoder_config()?.preprocessing.clone(),
            device: device.clone(),
        })
    }

    /// The square that CLIP looks at, as pixels.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        self.preprocessing.crop(image)
    }

    /// The projected embeddings of cropped pictures, not normalised, `clip_dim` values each.
    pub fn embed(&self, crops: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let n = self.preprocessing.image_size as usize;
        let mut pixel_values = Vec::with_capacity(crops.len() * 3 * n * n);
        for crop in crops {
            self.preprocessing
                .normalize(crop.as_raw(), &mut pixel_values);
        }
        let pixel_values = TensorData::new(pixel_values, [crops.len(), 3, n, n]);
        let embeddings = self
            .clip
            .encode_image(Tensor::from_data(pixel_values, &self.device)); // [B, clip_dim]
        let [_, width] = embeddings.dims();
        Ok(read(embeddings)?
            .chunks(width)
            .map(<[f32]>::to_vec)
            .collect())
    }
}

impl TextEncoder {
    /// Sentences encoded together.
    const BATCH: usize = 64;

    /// Loads CLIP and its vocabulary from an opened folder.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        Ok(Self {
            clip: folder.load_clip(device)?,
            tokenizer: folder.load_tokenizer(TokenizerKind::Clip)?,
            context_length: folder.encoder_config()?.sizes.text.max_position_embeddings,
            device: device.clone(),
        })
    }

    /// The projected embeddings of sentences, not normalised, `clip_dim` values each. What is too long is cut.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(texts.len());
        for batch in texts.chunks(Self::BATCH) {
            let mut ids = batch
                .iter()
                .map(|text| Ok(self.tokenizer.encode_clip(text, self.context_length)?))
                .collect::<Result<Vec<_>>>()?;
            let ends: Vec<i32> = ids.iter().map(|ids| ids.len() as i32 - 1).collect();
            let longest = ids.iter().map(Vec::len).max().unwrap_or_default();
            for ids in &mut ids {
                ids.resize(longest, self.tokenizer.end_of_text());
            }
            let tokens: Vec<i32> = ids.concat().into_iter().map(|id| id as i32).collect();
            let tokens = TensorData::new(tokens, [batch.len(), longest]);
            let embeddings = self.clip.encode_text(
                Tensor::from_data(tokens, &self.device),          // [B, T]
                Tensor::from_ints(ends.as_slice(), &self.device), // [B]
            ); // [B, clip_dim]
            let [_, width] = embeddings.dims();
            rows.extend(read(embeddings)?.chunks(width).map(<[f32]>::to_vec));
        }
        Ok(rows)
    }
}

impl CaptionReader {
    /// Loads mapper and GPT-2 from an opened folder.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let model = CaptionModel {
            prefix_mapper: folder.load_mapper(device)?,
            gpt2: folder.load_gpt2(device)?,
        };
        let config = folder.captioner_config()?.clone();
        let tokenizer = folder.load_tokenizer(TokenizerKind::Gpt2)?;
        Ok(Self::new(
            model,
            tokenizer,
            config,
            folder.gpt2_config()?,
            device,
        ))
    }

    /// Puts a reader together from its parts.
    pub fn new(
        model: CaptionModel,
        tokenizer: Tokenizer,
        config: CaptionerConfig,
        gpt2: &crate::gpt2::Gpt2Config,
        device: &Device,
    ) -> Self {
        Self {
            model,
            tokenizer,
            config,
            n_layer: gpt2.n_layer,
            n_positions: gpt2.n_positions,
            device: device.clone(),
        }
    }

    /// Decoding as ClipCap does it: up to 67 tokens, ended by this model's stop tokens.
    pub fn decode_config(&self, strategy: decode::Strategy) -> DecodeConfig {
        DecodeConfig {
            strategy,
            max_length: 67.min(self.longest_caption()),
            stop_tokens: self.config.stop_tokens.clone(),
        }
    }

    /// The longest caption that fits GPT-2's positions after the prefix.
    pub fn longest_caption(&self) -> usize {
        self.n_positions - self.config.sizes.prefix_length
    }

    /// Captions of embeddings as CLIP gave them, for each the best first.
    pub fn caption(
        &self,
        embeddings: &[Vec<f32>],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Caption>>> {
        if embeddings.is_empty() {
            return Ok(Vec::new());
        }
        if config.max_length > self.longest_caption() {
            bail!(
                "a caption of {} tokens does not fit: GPT-2 has {} positions and the prefix takes {}; use at most {}",
                config.max_length,
                self.n_positions,
                self.config.sizes.prefix_length,
                self.longest_caption()
            );
        }
        let rows: Vec<&[f32]> = embeddings.iter().map(Vec::as_slice).collect();
        let mut clip_embedding = rows_to_tensor(&rows, &self.device); // [B, clip_dim]
        if self.config.normalize_embedding {
            clip_embedding = nn::normalize(clip_embedding);
        }
        let prefix = self.model.prefix_mapper.forward(clip_embedding); // [B, P, C]
        let mut step = Gpt2Step::new(&self.model.gpt2, self.n_layer, prefix, config.max_length);
        decode::decode(&mut step, config)?
            .into_iter()
            .map(|hypotheses| {
                hypotheses
                    .into_iter()
                    .map(|found| self.sentence(found))
                    .collect()
            })
            .collect()
    }

    fn sentence(&self, found: Hypothesis) -> Result<Caption> {
        Ok(Caption {
            caption: self.tokenizer.decode(&found.tokens)?.trim().to_string(),
            tokens: found.tokens,
            log_prob: found.log_prob,
            score: found.score,
        })
    }
}

/// GPT-2 with its cache, as the searches in [`decode`] see it.
pub struct Gpt2Step<'a> {
    gpt2: &'a Gpt2,
    cache: KvCache,
    prefix: Option<Tensor<3>>,
    device: Device,
}

impl<'a> Gpt2Step<'a> {
    /// Gets ready to read `prefix`, `[B, P, C]`, and up to `max_length` tokens after it.
    pub fn new(gpt2: &'a Gpt2, n_layer: usize, prefix: Tensor<3>, max_length: usize) -> Self {
        let [_, p, _] = prefix.dims();
        Self {
            gpt2,
            cache: KvCache::new(n_layer, p + max_length),
            device: prefix.device(),
            prefix: Some(prefix),
        }
    }

    fn logits(&self, hidden: Tensor<2>) -> Result<Logits> {
        let logits = self.gpt2.logits(hidden); // [B, V]
        let [_, vocab_size] = logits.dims();
        Ok(Logits::new(read(logits)?, vocab_size))
    }
}

impl Step for Gpt2Step<'_> {
    type Error = anyhow::Error;

    fn prefill(&mut self) -> Result<Logits> {
        let prefix = self.prefix.take().context("the prefix was read already")?;
        let hidden = self.gpt2.prefill(prefix, &mut self.cache); // [B, C]
        self.logits(hidden)
    }

    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits> {
        self.cache.reorder(parents);
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &self.device); // [B]
        let hidden = self.gpt2.extend(ids, &mut self.cache); // [B, C]
        self.logits(hidden)
    }
}

/// A tensor's values on the host.
fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow!("the device failed: {error}"))
}
