//! Why a caption says what it says: for each of its tokens the parts of the image, the prefix vectors and the earlier words that
//! it came from, and what else could have stood there.
//!
//! ```no_run
//! use clipcap::{Captioner, ExplainOptions};
//!
//! # fn main() -> anyhow::Result<()> {
//! let captioner = Captioner::load("model/sample")?;
//! let image = clipcap::images::open("photo.jpg")?;
//! let explanation = captioner.explain(&image, &ExplainOptions::default())?;
//! for token in &explanation.tokens {
//!     println!("{:?} {:.2}, {:.0}% from the image", token.text, token.probability(), 100.0 * token.image_share);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Method::Attention`] is gradient-weighted attention (Chefer, Gur and Wolf 2021, <https://arxiv.org/abs/2103.15679>) through
//! GPT-2, the mapper and CLIP's vision transformer; [`Method::Occlusion`] covers one part of the image after the other, which any
//! encoder takes. [`mod@check`] measures whether what they find is what the caption depends on.

#[doc(hidden)]
pub mod attention;
pub mod check;
mod forward;
mod occlusion;
mod options;
pub mod overlay;
mod prefix;
pub mod report;
mod trace;
mod words;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use serde::Serialize;

use self::attention::{Reading, TokenSources};
use crate::captioner::{Caption, Captioner, Modules, Search, read};
use crate::vector;

pub use check::{Faithfulness, Losses};
pub use occlusion::Grid;
pub use options::ExplainOptions;
pub use prefix::{Neighbor, PrefixVector};

/// By occlusion, a log-probability that is lost and is less than this is hardly an effect.
pub const HARDLY: f32 = 0.01;

/// How relevance of the image's parts is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Gradient-weighted attention, of CLIP's vision transformers.
    Attention,
    /// The log-probability that is lost when a part is covered, of any encoder.
    Occlusion,
}

/// A caption and where its tokens came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub caption: String,
    /// How likely the networks find it in float32, the sum of its tokens.
    pub log_prob: f32,
    /// How the tokens' `cells` were found.
    pub method: Method,
    /// Cells a side of the square that the encoder looks at.
    pub side: usize,
    /// Texts of the tokens before the caption, which are not explained: captions that were looked up, and the prompt.
    pub prompt: Vec<String>,
    pub tokens: Vec<ExplainedToken>,
    /// The vectors that GPT-2 read, in order.
    pub prefix: Vec<PrefixVector>,
}

/// A token of a caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedToken {
    pub id: u32,
    pub text: String,
    pub log_prob: f32,
    /// Whether it belongs to a content word: neither one like `the` nor a mark. The list of such words is English.
    pub content: bool,
    /// The likeliest tokens in its place, likeliest first, itself among them.
    pub alternatives: Vec<Alternative>,
    /// Relevance of the image's cells, row by row. By attention it is at least 0, and comparable within a token; by occlusion it is
    /// the log-probability that is lost, and negative where the cell spoke against the token.
    pub cells: Vec<f32>,
    /// The share of the prefix in what GPT-2's attention found relevant; the rest are the words before.
    pub image_share: f32,
    /// Relevance of the prefix vectors by GPT-2's attention.
    pub prefix: Vec<f32>,
    /// Relevance of the prompt's tokens and the earlier ones.
    pub words: Vec<f32>,
    /// Relevance of the vectors that a transformer mapper makes of the embedding; other mappers have none.
    pub embedding: Vec<f32>,
}

/// A token that could have stood somewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    pub id: u32,
    pub text: String,
    pub log_prob: f32,
}

impl Explanation {
    /// The caption's map: the sum of its content words' maps, each by its largest value; of all tokens where it has none.
    pub fn content_cells(&self) -> Vec<f32> {
        let count = self.side * self.side;
        let maps = |all: bool| {
            let tokens = self.tokens.iter().filter(move |token| all || token.content);
            tokens.map(|token| &token.cells[..])
        };
        overlay::sum(maps(!self.tokens.iter().any(|token| token.content)), count)
    }
}

impl ExplainedToken {
    /// How likely it was, from 0 to 1.
    pub fn probability(&self) -> f32 {
        self.log_prob.exp()
    }
}

impl Captioner {
    /// The best caption of an image, and where its tokens came from.
    ///
    /// # Errors
    /// When an option makes no sense for this model, a file of the model folder is missing or damaged, or the device fails.
    pub fn explain(&self, image: &RgbImage, options: &ExplainOptions) -> Result<Explanation> {
        let search = options.captions.search(self)?;
        let crop = self.encoder.crop(image);
        let captions = self.caption_crops(std::slice::from_ref(&crop), &search)?;
        let best = captions.into_iter().flatten().next();
        let best = best.context("decoding gave no caption")?;
        self.explain_caption(&crop, &best, &search, options)
    }

    /// Where a caption's tokens came from, or would have. `crop`: what [`ImageEncoder::crop`](crate::ImageEncoder::crop) cut out;
    /// of `search` the prompt is read, and of `options` all but how captions are found.
    ///
    /// # Errors
    /// When the caption is empty, a file of the model folder is missing or damaged, or the device fails.
    pub fn explain_caption(
        &self,
        crop: &RgbImage,
        caption: &Caption,
        search: &Search,
        options: &ExplainOptions,
    ) -> Result<Explanation> {
        let modules = self.modules()?;
        let pixels = self.encoder.preprocessing().image_size as usize;
        let (method, grid) = options.resolve(modules, pixels)?;
        let crops = std::slice::from_ref(crop);
        let embedding = match method {
            Method::Attention => None,
            Method::Occlusion => self.encoder.embed(crops)?.pop(),
        };
        let pixel_values = || pixel_values(self, crop, modules);
        let embedding = match (embedding, &modules.clip) {
            (Some(embedding), _) => embedding,
            (None, Some(clip)) => read(clip.encode_image(pixel_values()))?,
            (None, None) => bail!("the encoder gave no embedding"),
        };
        let normalize = self.decoder.config().normalize_embedding;
        let tokens = read_tokens(self, &embedding, caption, search)?;
        let explained = tokens.len() - caption.tokens.len() + search.decode.prompt.len();
        let reading = Reading {
            embedding: &embedding,
            normalize,
            tokens: &tokens,
            explained: explained..tokens.len(),
        };
        let sources = attention::sources(modules, &reading)?;
        let cells = match (method, &modules.clip) {
            (Method::Attention, Some(clip)) => {
                let gradients: Vec<Vec<f32>> = (sources.iter())
                    .map(|source| source.gradient.clone())
                    .collect();
                attention::patches(clip, &pixel_values(), &gradients)?
            }
            _ => occlusion::cells(modules, &self.encoder, crop, &reading, grid)?,
        };
        let as_read = match normalize {
            true => vector::normalized(&embedding),
            false => embedding.clone(),
        };
        let tokenizer = &self.decoder.tokenizer;
        let prefix = prefix::neighbors(modules, tokenizer, &as_read, options.neighbors)?;
        let explained = self.tokens(&reading, sources, cells, prefix.len(), options)?;
        let prompt = &reading.tokens[..reading.explained.start];
        Ok(Explanation {
            caption: caption.caption.clone(),
            log_prob: explained.iter().map(|token| token.log_prob).sum(),
            method,
            side: grid.side,
            prompt: self.texts(prompt)?,
            tokens: explained,
            prefix,
        })
    }

    /// Whether this model's captions can be explained so.
    ///
    /// # Errors
    /// When an option makes no sense for this model, embeddings are projected on a datastore, or a file of the model folder is
    /// missing or damaged.
    pub fn check_explained(&self, options: &ExplainOptions) -> Result<()> {
        self.decoder.check_explained()?;
        let pixels = self.encoder.preprocessing().image_size as usize;
        options.resolve(self.modules()?, pixels).map(drop)
    }

    fn texts(&self, tokens: &[u32]) -> Result<Vec<String>> {
        let text = |&token: &u32| Ok(self.decoder.tokenizer.token_text(token)?);
        tokens.iter().map(text).collect()
    }

    fn tokens(
        &self,
        reading: &Reading,
        sources: Vec<TokenSources>,
        cells: Vec<Vec<f32>>,
        prefix_length: usize,
        options: &ExplainOptions,
    ) -> Result<Vec<ExplainedToken>> {
        let texts = self.texts(reading.tokens)?;
        let content = words::content(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let explained = reading.explained.clone().zip(sources).zip(cells);
        explained
            .map(|((place, source), cells)| {
                let id = reading.tokens[place];
                let mut positions = source.positions;
                if let Some(own) = positions.last_mut() {
                    // What the rule begins with was not attended to.
                    *own -= 1.0;
                }
                let words = positions.split_off(prefix_length);
                let sum = |values: &[f32]| values.iter().sum::<f32>();
                let (of_prefix, of_words) = (sum(&positions), sum(&words));
                let all = of_prefix + of_words;
                Ok(ExplainedToken {
                    id,
                    text: texts[place].clone(),
                    log_prob: source.log_probs[id as usize],
                    content: content[place],
                    alternatives: self.alternatives(&source.log_probs, options.alternatives)?,
                    cells,
                    image_share: if all > 0.0 { of_prefix / all } else { 0.0 },
                    prefix: positions,
                    words,
                    embedding: source.embedding,
                })
            })
            .collect()
    }

    fn alternatives(&self, log_probs: &[f32], count: usize) -> Result<Vec<Alternative>> {
        let known = self.decoder.tokenizer.vocab_size().min(log_probs.len());
        let highest = prefix::highest(&log_probs[..known], count).into_iter();
        highest
            .map(|(id, log_prob)| {
                Ok(Alternative {
                    id,
                    text: self.decoder.tokenizer.token_text(id)?,
                    log_prob,
                })
            })
            .collect()
    }
}

/// All that GPT-2 reads after the prefix of an embedding: captions that were looked up, the prompt, and the caption.
fn read_tokens(
    captioner: &Captioner,
    embedding: &[f32],
    caption: &Caption,
    search: &Search,
) -> Result<Vec<u32>> {
    let (decoder, length) = (&captioner.decoder, caption.tokens.len());
    let mut tokens = decoder.explained_context(embedding, length, &search.decode)?;
    tokens.extend(&caption.tokens);
    Ok(tokens)
}

/// `[1, 3, n, n]`
fn pixel_values(captioner: &Captioner, crop: &RgbImage, modules: &Modules) -> Tensor<4> {
    let preprocessing = captioner.encoder.preprocessing();
    let n = preprocessing.image_size as usize;
    let values = TensorData::new(preprocessing.pixel_values(crop), [1, 3, n, n]);
    Tensor::from_data(values, &modules.device)
}
