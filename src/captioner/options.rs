//! What is asked of a captioner.

use anyhow::{Result, bail};

use super::Captioner;
use super::caption_decoder::{MAX_LENGTH, NO_STOP, NO_WORD};
use crate::decode::{DecodeConfig, HfBeams, Strategy};

/// How captions are searched, and which of them are given. The default is one caption an image, found greedily, as long
/// as the model allows up to ClipCap's 67 tokens.
///
/// ```
/// use clipcap::captioner::CaptionOptions;
///
/// let options = CaptionOptions::beam(5).num_captions(3).max_length(20).prompt("A photo of");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionOptions {
    strategy: Strategy,
    num_captions: usize,
    max_length: Option<usize>,
    min_length: usize,
    length_penalty: f32,
    no_repeat_ngram: usize,
    repetition_penalty: f32,
    bad_words: Vec<String>,
    stop: Vec<String>,
    prompt: String,
    rerank: Rerank,
}

/// What decides which of the captions found are best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rerank {
    /// The search's score.
    #[default]
    Score,
    /// How similar CLIP finds image and caption: [`Captioner::rerank`].
    Clip,
    /// How similar they are to each other: [`consensus`](super::consensus).
    Consensus,
}

/// [`CaptionOptions`] as one model understands them.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    pub decode: DecodeConfig,
    /// Captions given an image, of those that are found.
    pub num_captions: usize,
    /// What decides which are best.
    pub rerank: Rerank,
}

impl Default for CaptionOptions {
    fn default() -> Self {
        Self::new(Strategy::Greedy)
    }
}

impl CaptionOptions {
    /// One caption an image, by any strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            num_captions: 1,
            max_length: None,
            min_length: 0,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            repetition_penalty: 1.0,
            bad_words: Vec::new(),
            stop: Vec::new(),
            prompt: String::new(),
            rerank: Rerank::Score,
        }
    }

    /// ClipCap's beam search.
    pub fn beam(beam_size: usize) -> Self {
        Self::new(Strategy::Beam { beam_size })
    }

    /// Hugging Face's beam search, with its defaults.
    pub fn hf_beam(beam_size: usize) -> Self {
        Self::new(Strategy::HfBeam(HfBeams::new(beam_size)))
    }

    /// Captions given an image, best first: of a beam search at most its beams, of sampling at most the captions drawn.
    #[must_use]
    pub fn num_captions(self, num_captions: usize) -> Self {
        Self {
            num_captions,
            ..self
        }
    }

    /// Longest caption in tokens, the prompt not counted.
    #[must_use]
    pub fn max_length(self, max_length: usize) -> Self {
        Self {
            max_length: Some(max_length),
            ..self
        }
    }

    /// Tokens before a stop token at least, the prompt not counted.
    #[must_use]
    pub fn min_length(self, min_length: usize) -> Self {
        Self { min_length, ..self }
    }

    /// Captions are ranked by the sum of log-probabilities over `length ^ length_penalty`: 1 is ClipCap's mean, 0 the sum.
    #[must_use]
    pub fn length_penalty(self, length_penalty: f32) -> Self {
        Self {
            length_penalty,
            ..self
        }
    }

    /// No sequence of so many tokens twice in a caption; 0 allows all.
    #[must_use]
    pub fn no_repeat_ngram(self, no_repeat_ngram: usize) -> Self {
        Self {
            no_repeat_ngram,
            ..self
        }
    }

    /// Above 1 tokens that the caption or its prompt has already become less likely; 1 leaves them alone.
    #[must_use]
    pub fn repetition_penalty(self, repetition_penalty: f32) -> Self {
        Self {
            repetition_penalty,
            ..self
        }
    }

    /// Words or texts that no caption has, in the spellings of [`CaptionDecoder::spellings`](super::CaptionDecoder).
    #[must_use]
    pub fn bad_words(self, bad_words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bad_words: bad_words.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// Texts of one token each that end a caption, instead of the model's own.
    #[must_use]
    pub fn stop(self, stop: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            stop: stop.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// What every caption begins with, without a space at its end.
    #[must_use]
    pub fn prompt(self, prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            ..self
        }
    }

    /// Whether captions are put in the order of the cosine between CLIP's embeddings of image and caption.
    #[must_use]
    pub fn rerank_by_clip(self, rerank_by_clip: bool) -> Self {
        self.rerank(match rerank_by_clip {
            true => Rerank::Clip,
            false => Rerank::Score,
        })
    }

    /// What decides which captions are best.
    #[must_use]
    pub fn rerank(self, rerank: Rerank) -> Self {
        Self { rerank, ..self }
    }

    /// Refuses what makes no sense for any model.
    ///
    /// # Errors
    /// When an option does; the message names it.
    pub fn validate(&self) -> Result<()> {
        let longest = self.max_length.unwrap_or(MAX_LENGTH);
        let decode = DecodeConfig {
            min_length: self.min_length,
            length_penalty: self.length_penalty,
            repetition_penalty: self.repetition_penalty,
            ..DecodeConfig::new(self.strategy.clone(), longest, Vec::new())
        };
        decode.validate()?;
        if self.bad_words.iter().any(|word| word.trim().is_empty()) {
            bail!(NO_WORD);
        }
        if self.stop.iter().any(String::is_empty) {
            bail!(NO_STOP);
        }
        let found = self.strategy.found();
        if !(1..=found).contains(&self.num_captions) {
            bail!(
                "{} captions an image are asked for, and the search finds {found}: ask for 1 to {found}",
                self.num_captions
            );
        }
        if self.rerank == Rerank::Consensus && self.strategy == Strategy::Greedy {
            bail!(
                "consensus is among several captions, and greedy finds one: search with beams or by sampling"
            );
        }
        Ok(())
    }

    /// These options in the tokens of a model.
    ///
    /// # Errors
    /// When an option makes no sense, or not for this model.
    pub fn search(&self, captioner: &Captioner) -> Result<Search> {
        self.validate()?;
        if self.rerank == Rerank::Clip {
            captioner.encoder.check_texts()?;
        }
        Ok(Search {
            decode: self.decode(captioner)?,
            num_captions: self.num_captions,
            rerank: self.rerank,
        })
    }

    fn decode(&self, captioner: &Captioner) -> Result<DecodeConfig> {
        let decoder = &captioner.decoder;
        let mut decode = decoder.decode_config(self.strategy.clone());
        decode.prompt = decoder.tokenizer.encode(&self.prompt)?;
        decode.max_length = self.max_length.unwrap_or_else(|| {
            let room = decoder.longest_caption();
            // At least 1, so that a prompt without room for a caption is refused by its length.
            (decode.max_length)
                .min(room.saturating_sub(decode.prompt.len()))
                .max(1)
        });
        decode.min_length = self.min_length;
        decode.length_penalty = self.length_penalty;
        decode.repetition_penalty = self.repetition_penalty;
        decode.bad_words = decoder.spellings(&self.bad_words)?;
        decode.no_repeat_ngram = self.no_repeat_ngram;
        if !self.stop.is_empty() {
            let tokens = self.stop.iter().map(|text| decoder.stop_token(text));
            decode.stop_tokens = tokens.collect::<Result<_>>()?;
        }
        let end = decoder.tokenizer.end_of_text();
        if self.min_length > 0 && !decode.stop_tokens.contains(&end) {
            // What ends the text is held back like what ends the sentence.
            decode.stop_tokens.push(end);
        }
        decode.validate()?;
        Ok(decode)
    }
}
