//! Searching a caption token by token. No tensors and no model here: a [`Step`] gives scores, a strategy chooses.

mod beam;
mod ngram;
mod single;

use std::convert::Infallible;

use crate::kernels::reduce;

/// Rows of next-token scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    /// # Panics
    /// When `values` is not a whole number of rows.
    pub fn new(values: Vec<f32>, vocab_size: usize) -> Self {
        assert!(
            vocab_size > 0 && values.len().is_multiple_of(vocab_size),
            "{} scores are no whole rows of {vocab_size}",
            values.len()
        );
        Self { values, vocab_size }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.vocab_size
    }

    /// The scores of one row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab_size..][..self.vocab_size]
    }
}

/// A language model that has read something, row by row.
pub trait Step {
    type Error;

    /// Reads the prefixes of all images, and the prompt after each, and gives one row of scores an image.
    fn prefill(&mut self) -> Result<Logits, Self::Error>;

    /// Row `i` goes on from what row `parents[i]` was, with `tokens[i]`. Rows that are nobody's parent are dropped.
    /// Gives one row of scores for each new row.
    fn extend(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits, Self::Error>;
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
    /// Captions are compared by `log_prob / length ^ length_penalty`: 1 is ClipCap's mean, 0 the sum, which favours short
    /// captions; above 1 favours long ones.
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

    /// Tokens that may not follow `tokens`.
    fn banned(&self, tokens: &[u32], vocab_size: usize) -> Vec<u32> {
        ngram::banned(&self.prompt, tokens, self.no_repeat_ngram, vocab_size)
    }
}

/// The captions of each image, best first.
///
/// # Errors
/// When a setting makes no sense, or the model fails.
pub fn decode<S: Step>(
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

/// `ln(softmax(logits))` as ClipCap computes it: the probability may underflow to 0, and its logarithm is then -inf.
/// It is computed token by token, for the few that are asked for.
struct LogProbs<'a> {
    logits: &'a [f32],
    highest: f32,
    /// Of `e^(logit - highest)`.
    sum: f32,
}

impl<'a> LogProbs<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let (highest, sum) = reduce::exponential_sum(logits);
        Self {
            logits,
            highest,
            sum,
        }
    }

    fn of(&self, token: u32) -> f32 {
        ((self.logits[token as usize] - self.highest).exp() / self.sum).ln()
    }

    /// Tokens in order, the `count` likeliest among them, and those that rounding might take for one of them.
    fn likeliest(&self, count: usize) -> Vec<u32> {
        /// More than logarithms of probabilities are rounded by.
        const ROUNDING: f32 = 1e-3;
        /// Further below the likeliest token probabilities lose digits, and then vanish.
        const TINY: f32 = 80.0;
        let mut least = reduce::nth_greatest(self.logits, count) - ROUNDING;
        if least < self.highest - TINY {
            least = f32::NEG_INFINITY;
        }
        reduce::at_least(self.logits, least)
    }
}

#[cfg(test)]
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let log_probs = LogProbs::new(logits);
    (0..logits.len() as u32)
        .map(|token| log_probs.of(token))
        .collect()
}

/// Index of the largest value, the first of equals.
fn argmax(values: &[f32]) -> usize {
    let highest = reduce::highest(values);
    (values.iter().position(|&value| value == highest)).unwrap_or(0)
}

#[cfg(test)]
mod toy;
