//! The sentence's half of the captioner: embeddings in, captions out.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;

use super::Caption;
use super::memory::{Memory, Own};
use super::network::{CaptionNetwork, network};
use crate::captioner::model_folder::{CaptionerConfig, ModelFolder};
use crate::decode::{self, DecodeConfig, Hypothesis};
use crate::device::Precision;
use crate::models::caption_model::CaptionModel;
use crate::models::gpt2::Gpt2Config;
use crate::tokenizer::{Tokenizer, TokenizerKind};
use crate::vector;

/// Longest caption in tokens unless it is said otherwise: ClipCap's (`entry_length`).
pub(super) const MAX_LENGTH: usize = 67;

pub(super) const NO_WORD: &str = "a forbidden word is empty: give a word or a text";
pub(super) const NO_STOP: &str = "the stop text is empty: give one token, such as `.`";

/// Positions that a prompt of retrieved captions leaves to the caption.
pub const CAPTION_ROOM: usize = 32;

/// The sentence's half: mapper, GPT-2 and vocabulary.
#[derive(Debug)]
pub struct CaptionDecoder {
    network: Box<dyn CaptionNetwork>,
    pub tokenizer: Tokenizer,
    config: CaptionerConfig,
    n_positions: usize,
    /// What is looked up before captioning.
    memory: Option<Memory>,
}

impl CaptionDecoder {
    /// Loads mapper and GPT-2 from an opened folder, to compute in `precision`.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the device does not have the precision.
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

    /// Puts a decoder together from its parts.
    pub fn new(
        model: CaptionModel,
        tokenizer: Tokenizer,
        config: CaptionerConfig,
        gpt2: &Gpt2Config,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let network = network(model, gpt2.n_layer, device, precision)?;
        Ok(Self {
            network,
            tokenizer,
            config,
            n_positions: gpt2.n_positions,
            memory: None,
        })
    }

    /// The same, which looks something up in a datastore first.
    #[must_use]
    pub fn with_memory(self, memory: Option<Memory>) -> Self {
        Self { memory, ..self }
    }

    /// Decoding as ClipCap does it: up to 67 tokens, ended by this model's stop tokens.
    pub fn decode_config(&self, strategy: decode::Strategy) -> DecodeConfig {
        let max_length = MAX_LENGTH.min(self.longest_caption());
        DecodeConfig::new(strategy, max_length, self.config.stop_tokens.clone())
    }

    /// The token that a text is, to end captions with.
    ///
    /// # Errors
    /// When it is none, or several.
    pub fn stop_token(&self, text: &str) -> Result<u32> {
        match self.tokenizer.encode(text)?[..] {
            [token] => Ok(token),
            [] => bail!(NO_STOP),
            ref tokens => bail!(
                "the stop text `{text}` is {} tokens in this model's vocabulary: a caption ends at a single one, such as `.`",
                tokens.len()
            ),
        }
    }

    /// The tokens of texts that captions are to be without, each text as it is given, in lower case and with a capital
    /// first letter, with a space before it and without.
    ///
    /// # Errors
    /// When a text is empty.
    pub fn spellings(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        spellings(&self.tokenizer, texts)
    }

    /// Sizes of the mapper, and what its embeddings and captions are to be.
    pub fn config(&self) -> &CaptionerConfig {
        &self.config
    }

    /// The longest caption that fits GPT-2's positions after the prefix.
    pub fn longest_caption(&self) -> usize {
        self.n_positions - self.config.sizes.prefix_length
    }

    /// A text as if it had been found, after the prompt of `config`: its tokens, and nothing known of its scores.
    ///
    /// # Errors
    /// When it is empty, or longer than fits GPT-2.
    pub fn text_as_caption(&self, text: &str, config: &DecodeConfig) -> Result<Caption> {
        let tokens = self.tokenizer.encode(text)?;
        ensure!(!tokens.is_empty(), "the caption is empty: give a text");
        let (length, room) = (config.prompt.len() + tokens.len(), self.longest_caption());
        ensure!(
            length <= room,
            "the caption is {length} tokens long, its prompt included, and {room} fit: shorten it"
        );
        let found = Hypothesis {
            tokens,
            log_prob: f32::NAN,
            score: f32::NAN,
            finished: true,
        };
        self.sentence(&config.prompt, found)
    }

    /// Captions of embeddings as CLIP gave them, for each the best first.
    pub fn caption(
        &self,
        embeddings: &[Vec<f32>],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Caption>>> {
        self.caption_of(embeddings, &[], config)
    }

    /// [`Self::caption`] of images that a datastore may know: their own captions are not looked up. `own`: none, or one an
    /// embedding.
    pub fn caption_of(
        &self,
        embeddings: &[Vec<f32>],
        own: &[Own],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Caption>>> {
        if embeddings.is_empty() {
            return Ok(Vec::new());
        }
        self.check_length(config)?;
        self.search(embeddings, own, config)?
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
        own: &[Own],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let contexts = self.contexts(embeddings, own, config)?;
        let mut embeddings = match &self.memory {
            Some(memory) => memory.embeddings(embeddings)?,
            None => embeddings.to_vec(),
        };
        if self.config.normalize_embedding {
            embeddings.iter_mut().for_each(|row| vector::normalize(row));
        }
        if contexts.is_empty() {
            let mut step = self.network.start(&embeddings, &contexts, config);
            return decode::decode(&mut *step, config);
        }
        let mut found = vec![Vec::new(); embeddings.len()];
        for group in by_length(&contexts) {
            let pick = |rows: &[Vec<f32>]| group.iter().map(|&row| rows[row].clone()).collect();
            let embeddings: Vec<Vec<f32>> = pick(&embeddings);
            let contexts: Vec<Vec<u32>> = group.iter().map(|&row| contexts[row].clone()).collect();
            let mut config = config.clone();
            let taken = contexts[0].len() + config.prompt.len();
            config.max_length = config.max_length.min(self.longest_caption() - taken);
            let mut step = self.network.start(&embeddings, &contexts, &config);
            for (row, captions) in group.into_iter().zip(decode::decode(&mut *step, &config)?) {
                found[row] = captions;
            }
        }
        Ok(found)
    }

    /// What GPT-2 reads between prefix and caption of each embedding; none at all where nothing is looked up for it.
    fn contexts(
        &self,
        embeddings: &[Vec<f32>],
        own: &[Own],
        config: &DecodeConfig,
    ) -> Result<Vec<Vec<u32>>> {
        let Some(memory) = self.memory.as_ref().filter(|memory| memory.has_prompts()) else {
            return Ok(Vec::new());
        };
        let room = self.longest_caption();
        let caption = config.max_length.min(CAPTION_ROOM) + config.prompt.len();
        memory.prompts(
            embeddings,
            own,
            &self.tokenizer,
            room.saturating_sub(caption),
        )
    }

    /// # Errors
    /// When embeddings are projected on a datastore, so that captions cannot be explained.
    pub(crate) fn check_explained(&self) -> Result<()> {
        ensure!(
            !self.memory.as_ref().is_some_and(Memory::projects),
            "an embedding that is projected on captions says nothing of the image's parts: explain without the projection"
        );
        Ok(())
    }

    /// What GPT-2 reads between prefix and prompt of an embedding that is to be explained, beside a caption of `length` tokens
    /// with its prompt.
    ///
    /// # Errors
    /// When embeddings are projected on a datastore, or it all does not fit.
    pub(crate) fn explained_context(
        &self,
        embedding: &[f32],
        length: usize,
        config: &DecodeConfig,
    ) -> Result<Vec<u32>> {
        self.check_explained()?;
        let contexts = self.contexts(&[embedding.to_vec()], &[], config)?;
        let context = contexts.into_iter().next().unwrap_or_default();
        let (taken, room) = (context.len() + length, self.longest_caption());
        ensure!(
            taken <= room,
            "the caption and the captions that stand before it are {taken} tokens long, and {room} fit: shorten it, or retrieve fewer"
        );
        Ok(context)
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
            consensus: None,
        })
    }
}

/// The places of equally long rows, together.
pub(crate) fn by_length(rows: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut groups = BTreeMap::<usize, Vec<usize>>::new();
    for (place, row) in rows.iter().enumerate() {
        groups.entry(row.len()).or_default().push(place);
    }
    groups.into_values().collect()
}

/// [`CaptionDecoder::spellings`] in any vocabulary.
pub(crate) fn spellings(tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::new();
    for text in texts {
        let text = text.trim();
        let Some(first) = text.chars().next() else {
            bail!(NO_WORD);
        };
        let capital: String = first.to_uppercase().chain(text.chars().skip(1)).collect();
        for spelling in [text, &text.to_lowercase(), &capital] {
            sequences.push(tokenizer.encode(spelling)?);
            sequences.push(tokenizer.encode(&format!(" {spelling}"))?);
        }
    }
    sequences.sort_unstable();
    sequences.dedup();
    Ok(sequences)
}
