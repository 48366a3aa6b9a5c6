//! Searching a caption token by token. No tensors and no model here: a [`Step`] gives logits, a strategy chooses.

mod beam;
mod logits;
mod ngram;
mod single;

use std::convert::Infallible;

pub use logits::{Logits, Row, Wanted};

/// A language model that has read something, row by row.
pub trait Step {
    type Error;

    /// Reads the prefixes of all images, and the prompt after each, and gives one row of logits an image, with at least
    /// what is wanted of each.
    fn prefill(&mut self, wanted: Wanted) -> Result<Logits, Self::Error>;

    /// Row `i` goes on from what row `parents[i]` was, with `tokens[i]`. Rows that are nobody's parent are dropped.
    /// Gives one row of logits for each new row, with at least what is wanted of each.
    fn extend(
        &mut self,
        parents: &[usize],
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Logits, Self::Error>;
}

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// The most likely token.
    Greedy,
    /// ClipCap's beam search.
    Beam { beam_size: usize },
    /// A random token.
    Sample {
        /// Divides the scores; below 1 the likely tokens become likelier.
        temperature: f32,
        /// Only the most likely `k` tokens.
        top_k: Option<usize>,
        /// Only the most likely tokens that together have this probability.
        top_p: Option<f32>,
        seed: u64,
        /// Captions an image.
        num_captions: usize,
    },
}

/// A strategy, its rules and when it stops.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeConfig {
    pub strategy: Strategy,
    /// Longest caption in tokens, the stop token included and the prompt not.
    pub max_length: usize,
    /// Tokens that end a caption. They are kept in it.
    pub stop_tokens: Vec<u32>,
    /// Captions are compared by `log_prob / length ^ length_penalty`: 1 is ClipCap's mean, 0 the sum, which favors short
    /// captions; above 1 favors long ones.
    pub length_penalty: f32,
    /// No sequence of so many tokens twice in a caption, the prompt included; 0 allows all.
    pub no_repeat_ngram: usize,
    /// What every caption begins with, read after the prefix.
    pub prompt: Vec<u32>,
}

/// A caption as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens found, without the prompt.
    pub tokens: Vec<u32>,
    /// Sum of their log-probabilities at temperature 1, no token being banned.
    pub log_prob: f32,
    /// `log_prob / length ^ length_penalty`, by which captions are ranked.
    pub score: f32,
    /// Whether it ended with a stop token.
    pub finished: bool,
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("the longest caption is 0 tokens: give at least 1")]
    NoLength,
    #[error("the beam size is {0}: give a number from 1 to the vocabulary's size, {1}")]
    BeamSize(usize, usize),
    #[error("the temperature is {0}: give a number above 0")]
    Temperature(f32),
    #[error("top-k is 0: give at least 1")]
    TopK,
    #[error("top-p is {0}: give a number above 0 and at most 1")]
    TopP(f32),
    #[error("the number of captions is 0: give at least 1")]
    NoCaptions,
    #[error("the length penalty is {0}: give a number; 1 is the mean, 0 the sum")]
    LengthPenalty(f32),
}

impl From<Infallible> for DecodeError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl DecodeConfig {
    /// ClipCap's rules: captions ranked by their mean, nothing banned, no prompt.
    pub fn new(strategy: Strategy, max_length: usize, stop_tokens: Vec<u32>) -> Self {
        Self {
            strategy,
            max_length,
            stop_tokens,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            prompt: Vec::new(),
        }
    }

    /// # Errors
    /// When a setting makes no sense.
    pub fn validate(&self) -> Result<(), DecodeError> {
        if self.max_length == 0 {
            return Err(DecodeError::NoLength);
        }
        if !self.length_penalty.is_finite() {
            return Err(DecodeError::LengthPenalty(self.length_penalty));
        }
        let Strategy::Sample {
            temperature,
            top_k,
            top_p,
            num_captions,
            ..
        } = self.strategy
        else {
            return Ok(());
        };
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(DecodeError::Temperature(temperature));
        }
        if top_k == Some(0) {
            return Err(DecodeError::TopK);
        }
        if let Some(p) = top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(DecodeError::TopP(p));
        }
        if num_captions == 0 {
            return Err(DecodeError::NoCaptions);
        }
        Ok(())
    }

    /// What a sum of log-probabilities is divided by.
    fn length_divisor(&self, length: usize) -> f32 {
        // Without a power for 1: there ClipCap's bits must come out.
        if self.length_penalty == 1.0 {
            length as f32
        } else {
            (length as f32).powf(self.length_penalty)
        }
    }

    /// Tokens that may not follow `tokens`, in order.
    fn banned(&self, tokens: &[u32], vocab_size: usize) -> Vec<u32> {
        ngram::banned(&self.prompt, tokens, self.no_repeat_ngram, vocab_size)
    }

    /// How many of the likeliest tokens hold `count` that are not banned after any of `captions`.
    fn wanted(&self, count: usize, captions: &[&[u32]], vocab_size: usize) -> Wanted {
        let banned = captions
            .iter()
            .map(|tokens| self.banned(tokens, vocab_size).len());
        Wanted::Likeliest(count + banned.max().unwrap_or(0))
    }
}

/// The captions of each image, best first.
///
/// # Errors
/// When a setting makes no sense, or the model fails.
pub fn decode<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    config.validate()?;
    match config.strategy {
        Strategy::Greedy => single::greedy(step, config),
        Strategy::Beam { beam_size } => beam::search(step, config, beam_size),
        Strategy::Sample {
            temperature,
            top_k,
            top_p,
            seed,
            num_captions,
        } => {
            let sampler = single::Sampler {
                temperature,
                top_k,
                top_p,
            };
            single::sample(step, config, &sampler, seed, num_captions)
        }
    }
}

#[cfg(test)]
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let row = Row::whole(logits);
    (0..logits.len() as u32)
        .map(|token| row.log_prob(token))
        .collect()
}

#[cfg(test)]
mod toy;
