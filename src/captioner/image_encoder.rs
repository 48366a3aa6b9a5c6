//! The image's half of the captioner: images in, embeddings out.

use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;

use super::read;
use crate::captioner::model_folder::{self, ModelFolder};
use crate::device::Precision;
use crate::device::is_cpu;
use crate::engine;
use crate::models::clip::{Clip, ClipText, ClipTextConfig, Preprocessing};
use crate::models::encoder::Encoder;
use crate::nn;
use crate::tokenizer::{CutTexts, Tokenizer, TokenizerKind};

/// Images that the CPU embeds together: their activations stay in its caches.
const IMAGES_TOGETHER: usize = 8;
/// Sentences embedded together.
const TEXTS_TOGETHER: usize = 64;

/// The image's half: CLIP, or another encoder, with the preprocessing that belongs to it.
#[derive(Debug)]
pub struct ImageEncoder {
    tower: Tower,
    /// The image's tower where the CPU runs it; the one in `tower` is then without.
    vision: Option<engine::Vision>,
    /// The sentences' tower where the CPU runs it.
    text: Option<LazyText>,
    preprocessing: Preprocessing,
    device: Device,
    /// What the tower takes images in.
    dtype: FloatDType,
    precision: Precision,
    /// Where it was loaded from; encoders that are fitted rather than loaded have none.
    folder: Option<ModelFolder>,
    /// Read when the first sentence is embedded: captioning does without, and not every folder has one.
    tokenizer: OnceLock<Tokenizer>,
}

/// The sentences' tower as the CPU runs it, read and packed when the first sentence comes: captioning does without.
#[derive(Debug)]
struct LazyText {
    module: Mutex<Option<(ClipText, Linear)>>,
    packed: OnceLock<engine::Text>,
    precision: Precision,
}

/// What embeds images.
#[derive(Debug)]
enum Tower {
    /// It embeds sentences too.
    Clip(Box<Clip>),
    Other(Box<dyn Encoder>),
}

impl ImageEncoder {
    /// Loads what embeds images from an opened folder, with its weights as they are.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        Self::load_as(folder, device, Precision::F32)
    }

    /// Loads what embeds images from an opened folder. A vision transformer computes in `precision`; others keep their
    /// weights as they are.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the device has no such type.
    pub fn load_as(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let (mut vision, mut text) = (None, None);
        let (mut dtype, mut is_vit) = (FloatDType::F32, false);
        let tower = match folder.load_encoder(device)? {
            Some(encoder) => Tower::Other(encoder),
            None => {
                let mut clip = folder.load_clip(device)?;
                is_vit = clip.vision_model.is_some();
                if is_cpu(device) {
                    vision = take_vision(&mut clip, precision)?;
                    // A ResNet keeps float32, and its sentences do.
                    let precision = if is_vit { precision } else { Precision::F32 };
                    text = LazyText::take(&mut clip, precision);
                } else if is_vit {
                    dtype = precision.on_gpu(device)?;
                    cast_vision(&mut clip, dtype);
                }
                // What is left is read now, on both cores.
                model_folder::read_now(&clip.vision_model);
                model_folder::read_now(&clip.visual);
                Tower::Clip(Box::new(clip))
            }
        };
        Ok(Self {
            tower,
            vision,
            text,
            preprocessing: folder.preprocessing()?.clone(),
            device: device.clone(),
            dtype,
            precision: match is_vit {
                true => precision,
                false => Precision::F32,
            },
            folder: Some(folder.clone()),
            tokenizer: OnceLock::new(),
        })
    }

    /// An encoder that is not a model folder's, with the preprocessing that goes with it.
    pub fn new(encoder: Box<dyn Encoder>, preprocessing: Preprocessing, device: &Device) -> Self {
        Self {
            tower: Tower::Other(encoder),
            vision: None,
            text: None,
            preprocessing,
            device: device.clone(),
            dtype: FloatDType::F32,
            precision: Precision::F32,
            folder: None,
            tokenizer: OnceLock::new(),
        }
    }

    /// The model folder that it was loaded from.
    ///
    /// # Errors
    /// When it is of none.
    pub(crate) fn folder(&self) -> Result<&ModelFolder> {
        self.folder
            .as_ref()
            .context("this image encoder is not of a model folder")
    }

    /// What is done to an image before CLIP sees it.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// What images are embedded on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What images are embedded in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Width of an embedding.
    ///
    /// # Errors
    /// When it is not of a model folder, or that has no encoder.
    pub fn dim(&self) -> Result<usize> {
        self.folder()?.embedding_dim()
    }

    /// The square that the encoder looks at, as pixels.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        self.preprocessing.crop(image)
    }

    /// [`Self::embed`] of whole images.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        let crops: Vec<RgbImage> = images.iter().map(|image| self.crop(image)).collect();
        self.embed(&crops)
    }

    /// The projected embeddings of cropped images, not normalized, `clip_dim` values each.
    pub fn embed(&self, crops: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(vision) = &self.vision {
            let embeddings = |crops: &[RgbImage]| {
                let embeddings = vision.encode(
                    &self.preprocessing.normalize_all(crops.par_iter()),
                    crops.len(),
                );
                let width = embeddings.len() / crops.len();
                embeddings
                    .chunks(width)
                    .map(<[f32]>::to_vec)
                    .collect::<Vec<_>>()
            };
            return Ok(crops.chunks(IMAGES_TOGETHER).flat_map(embeddings).collect());
        }
        let n = self.preprocessing.image_size as usize;
        let pixel_values = self.preprocessing.normalize_all(crops.par_iter());
        let pixel_values = TensorData::new(pixel_values, [crops.len(), 3, n, n]);
        let pixel_values = Tensor::<4>::from_data(pixel_values, &self.device).cast(self.dtype);
        rows(match &self.tower {
            Tower::Clip(clip) => clip.encode(pixel_values),
            Tower::Other(encoder) => encoder.encode(pixel_values),
        }) // [B, clip_dim]
    }

    /// The projected embeddings of sentences, not normalized, `clip_dim` values each. A sentence longer than CLIP reads is
    /// cut; [`Self::cut_texts`] tells how many are.
    ///
    /// # Errors
    /// When the model folder has no CLIP, no text tower, or no vocabulary for it.
    pub fn embed_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.check_texts()?;
        let longest = self.longest_text()?;
        let tokenizer = self.tokenizer()?;
        let mut embeddings = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TEXTS_TOGETHER) {
            let rows_of_ids = texts
                .iter()
                .map(|text| tokenizer.encode_clip(text, longest))
                .collect::<Result<Vec<_>, _>>()?;
            self.check_known(&rows_of_ids)?;
            embeddings.extend(self.embed_tokens(&rows_of_ids)?);
        }
        Ok(embeddings)
    }

    /// How many of some sentences [`Self::embed_texts`] cuts.
    ///
    /// # Errors
    /// As [`Self::embed_texts`]'s.
    pub fn cut_texts<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<CutTexts> {
        self.check_texts()?;
        Ok(self.tokenizer()?.cut_texts(texts, self.longest_text()?)?)
    }

    /// Longest sentence in tokens, start and end included.
    fn text_config(&self) -> Result<&ClipTextConfig> {
        let text = self.folder()?.encoder_config()?.sizes.text.as_ref();
        text.context("CLIP has no text tower")
    }

    fn longest_text(&self) -> Result<usize> {
        Ok(self.text_config()?.max_position_embeddings)
    }

    /// # Errors
    /// When CLIP has no embedding for a token, as with another model's tokenizer.
    fn check_known(&self, rows_of_ids: &[Vec<u32>]) -> Result<()> {
        let count = self.text_config()?.vocab_size;
        let unknown = rows_of_ids
            .iter()
            .flatten()
            .find(|&&id| id as usize >= count);
        ensure!(
            unknown.is_none(),
            "{}: CLIP's tokenizer gives token {}, and CLIP knows {count}: copy the tokenizer.json there that belongs to it",
            self.folder()?.path.display(),
            unknown.unwrap_or(&0)
        );
        Ok(())
    }

    /// `rows_of_ids`: token ids, each row ending with the end of text.
    fn embed_tokens(&self, rows_of_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        if let Some(text) = &self.text {
            let embeddings = text.packed()?.encode(rows_of_ids);
            let width = embeddings.len() / rows_of_ids.len().max(1);
            return Ok(embeddings
                .chunks(width.max(1))
                .map(<[f32]>::to_vec)
                .collect());
        }
        let t = rows_of_ids.iter().map(Vec::len).max().unwrap_or(0);
        let ends: Vec<i32> = rows_of_ids.iter().map(|ids| ids.len() as i32 - 1).collect();
        let tokens: Vec<i32> = rows_of_ids
            .iter()
            .flat_map(|ids| (0..t).map(|i| ids.get(i).copied().unwrap_or(0) as i32))
            .collect();
        let tokens = TensorData::new(tokens, [rows_of_ids.len(), t]);
        let Tower::Clip(clip) = &self.tower else {
            bail!("the image encoder is not CLIP");
        };
        rows(clip.encode_text(
            Tensor::from_data(tokens, &self.device), // [B, T]
            Tensor::<1, Int>::from_ints(ends.as_slice(), &self.device), // [B]
        ))
    }

    /// Whether texts can be embedded too; see [`ModelFolder::check_texts`].
    ///
    /// # Errors
    /// When they cannot; the message says what the model folder lacks.
    pub fn check_texts(&self) -> Result<()> {
        self.folder()?.check_texts()
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = self.folder()?.load_tokenizer(TokenizerKind::Clip)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }
}

impl LazyText {
    /// Takes the tower out of CLIP, if it has one.
    fn take(clip: &mut Clip, precision: Precision) -> Option<Self> {
        let parts = clip.text_model.take().zip(clip.text_projection.take())?;
        Some(Self {
            module: Mutex::new(Some(parts)),
            packed: OnceLock::new(),
            precision,
        })
    }

    /// # Errors
    /// When its weights cannot be read.
    fn packed(&self) -> Result<&engine::Text> {
        let mut module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let (text, projection) =
            (module.take()).context("the weights of CLIP's text tower could not be read before")?;
        let packed = engine::Text::new(text, projection, self.precision)?;
        Ok(self.packed.get_or_init(|| packed))
    }
}

/// The vision transformer as the CPU runs it, if there is one.
fn take_vision(clip: &mut Clip, weights: Precision) -> Result<Option<engine::Vision>> {
    let parts = clip.vision_model.take().zip(clip.visual_projection.take());
    parts
        .map(|(vit, projection)| engine::Vision::new(vit, projection, weights))
        .transpose()
}

/// Has the vision transformer compute in another type. The sentence's tower keeps its own, and stays on disk.
fn cast_vision(clip: &mut Clip, dtype: FloatDType) {
    clip.vision_model = clip.vision_model.take().map(|vit| nn::cast(vit, dtype));
    let projection = clip.visual_projection.take();
    clip.visual_projection = projection.map(|projection| nn::cast(projection, dtype));
}

/// The rows of a matrix on the host.
fn rows(matrix: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let [_, width] = matrix.dims();
    Ok(read(matrix)?.chunks(width).map(<[f32]>::to_vec).collect())
}
