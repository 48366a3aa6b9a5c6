//! The captioner as it is used: a folder in, sentences out.

mod step;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use image::RgbImage;
use serde::Serialize;

use crate::caption_model::CaptionModel;
use crate::clip::{Clip, Preprocessing};
use crate::data::batcher::rows_to_tensor;
use crate::decode::{self, DecodeConfig, Hypothesis};
use crate::encoders::Encoder;
use crate::engine::{self, Precision};
use crate::model_folder::{self, CaptionerConfig, ModelFolder};
use crate::nn;
use crate::tokenizer::{Tokenizer, TokenizerKind};

pub use step::Gpt2Step;

/// Sentences embedded together.
const TEXTS_TOGETHER: usize = 64;

/// CLIP, mapper, GPT-2, their preprocessing and vocabulary, loaded from one folder.
#[derive(Debug)]
pub struct Captioner {
    pub encoder: ImageEncoder,
    pub reader: CaptionReader,
}

/// The picture's half: CLIP, or another encoder, with the preprocessing that belongs to it.
#[derive(Debug)]
pub struct ImageEncoder {
    tower: Tower,
    /// The picture's tower where the CPU runs it; the one in `tower` is then without.
    vision: Option<engine::Vision>,
    preprocessing: Preprocessing,
    device: Device,
    folder: ModelFolder,
    /// Read when the first sentence is embedded: captioning does without, and not every folder has one.
    tokenizer: OnceLock<Tokenizer>,
}

/// What embeds pictures.
#[derive(Debug)]
enum Tower {
    /// It embeds sentences too.
    Clip(Box<Clip>),
    Other(Box<dyn Encoder>),
}

/// The sentence's half: mapper, GPT-2 and vocabulary.
#[derive(Debug)]
pub struct CaptionReader {
    network: Network,
    pub tokenizer: Tokenizer,
    config: CaptionerConfig,
    n_positions: usize,
}

/// What computes captions.
#[derive(Debug)]
enum Network {
    /// burn's modules.
    Plain {
        model: Box<CaptionModel>,
        n_layer: usize,
        device: Device,
    },
    /// Packed weights, on the CPU.
    Packed(Box<(engine::Mapper, engine::Gpt2)>),
}

fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
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
    /// Cosine of CLIP's embeddings of picture and caption, once [`Captioner::rerank`] has ordered captions by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
}

impl Captioner {
    /// Loads a model folder. On the CPU weights are kept in halves; see [`Captioner::load_as`].
    ///
    /// # Errors
    /// When a file is missing or does not fit `config.json`; the message names it.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::load_as(path, device, Precision::default())
    }

    /// Loads a model folder with weights kept as `precision` says. GPUs keep them as they are.
    ///
    /// # Errors
    /// As [`Captioner::load`]'s.
    pub fn load_as(path: &Path, device: &Device, precision: Precision) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        folder.captioner_config()?;
        // Reading is mostly copying, which a core each does in half the time. The sentence's tower stays on disk.
        let (encoder, reader) = rayon::join(
            || ImageEncoder::load_as(&folder, device, precision),
            || CaptionReader::load(&folder, device, precision),
        );
        Ok(Self {
            encoder: encoder?,
            reader: reader?,
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
        self.reader
            .caption(&self.encoder.embed_images(images)?, config)
    }

    /// Puts the captions of each picture in the order of the cosine between CLIP's embeddings of picture and caption, and
    /// notes it in them. `embeddings`: the pictures', as CLIP gave them.
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
                caption.similarity = Some(cosine(image, &text));
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

/// The picture's tower as the CPU runs it, if it does; else its weights are read now, on both cores.
fn take_vision(
    clip: &mut Clip,
    device: &Device,
    precision: Precision,
) -> Result<Option<engine::Vision>> {
    if is_cpu(device) && clip.vision_model.is_some() {
        let parts = clip.vision_model.take().zip(clip.visual_projection.take());
        return parts
            .map(|(vit, projection)| engine::Vision::new(vit, projection, precision))
            .transpose();
    }
    model_folder::read_now(&clip.vision_model);
    model_folder::read_now(&clip.visual);
    Ok(None)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

impl ImageEncoder {
    /// Loads what embeds pictures from an opened folder, with its weights as they are.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        Self::load_as(folder, device, Precision::F32)
    }

    /// Loads CLIP from an opened folder. `precision` is how the CPU keeps the weights of a vision transformer.
    pub fn load_as(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let mut vision = None;
        let tower = match folder.load_encoder(device)? {
            Some(encoder) => Tower::Other(encoder),
            None => {
                let mut clip = folder.load_clip(device)?;
                vision = take_vision(&mut clip, device, precision)?;
                Tower::Clip(Box::new(clip))
            }
        };
        Ok(Self {
            tower,
            vision,
            preprocessing: folder.preprocessing()?.clone(),
            device: device.clone(),
            folder: folder.clone(),
            tokenizer: OnceLock::new(),
        })
    }

    /// What is done to a picture before CLIP sees it.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Width of an embedding.
    ///
    /// # Errors
    /// When the folder that was opened has no encoder.
    pub fn dim(&self) -> Result<usize> {
        self.folder.embedding_dim()
    }

    /// The square that the encoder looks at, as pixels.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        self.preprocessing.crop(image)
    }

    /// [`Self::embed`] of whole pictures.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        let crops: Vec<RgbImage> = images.iter().map(|image| self.crop(image)).collect();
        self.embed(&crops)
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
        if let Some(vision) = &self.vision {
            let embeddings = vision.encode(&pixel_values, crops.len());
            let width = embeddings.len() / crops.len();
            return Ok(embeddings.chunks(width).map(<[f32]>::to_vec).collect());
        }
        let pixel_values = TensorData::new(pixel_values, [crops.len(), 3, n, n]);
        let pixel_values = Tensor::from_data(pixel_values, &self.device);
        rows(match &self.tower {
            Tower::Clip(clip) => clip.encode(pixel_values),
            Tower::Other(encoder) => encoder.encode(pixel_values),
        }) // [B, clip_dim]
    }

    /// The projected embeddings of sentences, not normalised, `clip_dim` values each. A sentence longer than CLIP reads is
    /// cut.
    ///
    /// # Errors
    /// When the model folder has no CLIP, or no vocabulary for it.
    pub fn embed_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let Tower::Clip(_) = &self.tower else {
            return Err(self.no_clip());
        };
        let longest = self
            .folder
            .encoder_config()?
            .sizes
            .text
            .max_position_embeddings;
        let tokenizer = self.tokenizer()?;
        let mut embeddings = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TEXTS_TOGETHER) {
            let rows_of_ids = texts
                .iter()
                .map(|text| tokenizer.encode_clip(text, longest))
                .collect::<Result<Vec<_>, _>>()?;
            embeddings.extend(self.embed_tokens(&rows_of_ids)?);
        }
        Ok(embeddings)
    }

    /// `rows_of_ids`: token ids, each row ending with the end of text.
    fn embed_tokens(&self, rows_of_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let t = rows_of_ids.iter().map(Vec::len).max().unwrap_or(0);
        let ends: Vec<i32> = rows_of_ids.iter().map(|ids| ids.len() as i32 - 1).collect();
        let tokens: Vec<i32> = rows_of_ids
            .iter()
            .flat_map(|ids| (0..t).map(|i| ids.get(i).copied().unwrap_or(0) as i32))
            .collect();
        let tokens = TensorData::new(tokens, [rows_of_ids.len(), t]);
        let Tower::Clip(clip) = &self.tower else {
            return Err(self.no_clip());
        };
        rows(clip.encode_text(
            Tensor::from_data(tokens, &self.device), // [B, T]
            Tensor::<1, Int>::from_ints(ends.as_slice(), &self.device), // [B]
        ))
    }

    fn no_clip(&self) -> anyhow::Error {
        anyhow!(
            "{} embeds pictures with an encoder that is not CLIP: sentences cannot be embedded",
            self.folder.path.display()
        )
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = self.folder.load_tokenizer(TokenizerKind::Clip)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }
}

impl CaptionReader {
    /// Loads mapper and GPT-2 from an opened folder. `precision` is how the CPU keeps their weights.
    pub fn load(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let model = CaptionModel {
            prefix_mapper: folder.load_mapper(device)?,
            gpt2: folder.load_gpt2(device)?,
        };
        let config = folder.captioner_config()?.clone();
        let tokenizer = folder.load_tokenizer(TokenizerKind::Gpt2)?;
        let gpt2 = folder.gpt2_config()?;
        Self::new(model, tokenizer, config, gpt2, device, precision)
    }

    /// Puts a reader together from its parts.
    pub fn new(
        model: CaptionModel,
        tokenizer: Tokenizer,
        config: CaptionerConfig,
        gpt2: &crate::gpt2::Gpt2Config,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let network = if is_cpu(device) {
            Network::Packed(Box::new((
                engine::Mapper::new(model.prefix_mapper, precision)?,
                engine::Gpt2::new(model.gpt2, precision)?,
            )))
        } else {
            model_folder::read_now(&model);
            Network::Plain {
                model: Box::new(model),
                n_layer: gpt2.n_layer,
                device: device.clone(),
            }
        };
        Ok(Self {
            network,
            tokenizer,
            config,
            n_positions: gpt2.n_positions,
        })
    }

    /// Decoding as ClipCap does it: up to 67 tokens, ended by this model's stop tokens.
    pub fn decode_config(&self, strategy: decode::Strategy) -> DecodeConfig {
        let max_length = 67.min(self.longest_caption());
        DecodeConfig::new(strategy, max_length, self.config.stop_tokens.clone())
    }

    /// The token that a text is, to end captions with.
    ///
    /// # Errors
    /// When it is none, or several.
    pub fn stop_token(&self, text: &str) -> Result<u32> {
        match self.tokenizer.encode(text)?[..] {
            [token] => Ok(token),
            [] => bail!("the stop text is empty: give one token, such as `.`"),
            ref tokens => bail!(
                "the stop text `{text}` is {} tokens in this model's vocabulary: a caption ends at a single one, such as `.`",
                tokens.len()
            ),
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
        self.check_length(config)?;
        self.search(embeddings, config)?
            .into_iter()
            .map(|hypotheses| {
                hypotheses
                    .into_iter()
                    .map(|found| self.sentence(&config.prompt, found))
                    .collect()
            })
            .collect()
    }

    fn search(
        &self,
        embeddings: &[Vec<f32>],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        match &self.network {
            Network::Plain {
                model,
                n_layer,
                device,
            } => {
                let rows: Vec<&[f32]> = embeddings.iter().map(Vec::as_slice).collect();
                let mut clip_embedding = rows_to_tensor(&rows, device); // [B, clip_dim]
                if self.config.normalize_embedding {
                    clip_embedding = nn::normalize(clip_embedding);
                }
                let prefix = model.prefix_mapper.forward(clip_embedding); // [B, P, C]
                let mut step = Gpt2Step::new(&model.gpt2, *n_layer, prefix, config);
                decode::decode(&mut step, config)
            }
            Network::Packed(packed) => {
                let (mapper, gpt2) = &**packed;
                let mut clip_embedding = embeddings.concat(); // [B, clip_dim]
                if self.config.normalize_embedding {
                    let width = clip_embedding.len() / embeddings.len();
                    clip_embedding.chunks_mut(width).for_each(normalize);
                }
                let prefix = mapper.forward(&clip_embedding, embeddings.len()); // [B, P, C]
                let mut step =
                    engine::Gpt2Step::new(gpt2, &prefix, embeddings.len(), &config.prompt);
                decode::decode(&mut step, config)
            }
        }
    }

    fn check_length(&self, config: &DecodeConfig) -> Result<()> {
        let room = self.longest_caption();
        if config.max_length + config.prompt.len() > room {
            let prompt = match config.prompt.len() {
                0 => String::new(),
                length => format!(" and the prompt {length}"),
            };
            bail!(
                "a caption of {} tokens does not fit: GPT-2 has {} positions, the prefix takes {}{prompt}; use at most {}",
                config.max_length,
                self.n_positions,
                self.config.sizes.prefix_length,
                room.saturating_sub(config.prompt.len())
            );
        }
        Ok(())
    }

    fn sentence(&self, prompt: &[u32], found: Hypothesis) -> Result<Caption> {
        let tokens = [prompt, &found.tokens].concat();
        // ClipCap shows special tokens as it shows all others; only the one that ends the text is none of it.
        let shown = match tokens.split_last() {
            Some((&last, before)) if last == self.tokenizer.end_of_text() => before,
            _ => &tokens,
        };
        Ok(Caption {
            caption: self.tokenizer.decode_all(shown)?,
            tokens,
            log_prob: found.log_prob,
            score: found.score,
            similarity: None,
        })
    }
}

/// [`nn::normalize`] of one row on the host.
fn normalize(row: &mut [f32]) {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x /= norm);
}

/// The rows of a matrix on the host.
fn rows(matrix: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let [_, width] = matrix.dims();
    Ok(read(matrix)?.chunks(width).map(<[f32]>::to_vec).collect())
}

/// A tensor's values on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow!("the device failed: {error}"))
}
