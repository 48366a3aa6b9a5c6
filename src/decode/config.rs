//! What a search is told, and what of it makes no sense.

use std::convert::Infallible;

use super::Sampling;

/// Largest length penalty either way: beyond it powers of lengths leave float32.
const LARGEST_LENGTH_PENALTY: f32 = 10.0;
/// Largest repetition penalty, and one over the least: beyond it penalized logits leave all others behind.
const LARGEST_REPETITION_PENALTY: f32 = 1000.0;
/// Largest diversity penalty: no two logits are so far apart.
const LARGEST_DIVERSITY_PENALTY: f32 = 1000.0;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// The most likely token.
    Greedy,
    /// ClipCap's beam search.
    Beam { beam_size: usize },
    /// Hugging Face's beam search.
    HfBeam(HfBeams),
    /// A random token.
    Sample(Sampling),
}

impl Strategy {
    /// The same search with so many beams; a search without beams as it is.
    #[must_use]
    pub fn with_beam_size(self, beam_size: usize) -> Self {
        match self {
            Self::Beam { .. } => Self::Beam { beam_size },
            Self::HfBeam(beams) => Self::HfBeam(HfBeams { beam_size, ..beams }),
            other => other,
        }
    }

    /// Captions that are found of an image.
    pub fn found(&self) -> usize {
        match self {
            Self::Greedy => 1,
            Self::Beam { beam_size } => *beam_size,
            Self::HfBeam(beams) => beams.beam_size,
            Self::Sample(sampling) => sampling.num_captions,
        }
    }
}

/// Settings of Hugging Face's beam search.
#[derive(Clone, Debug, PartialEq)]
pub struct HfBeams {
    /// Beams, those of all groups together: `num_beams`.
    pub beam_size: usize,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
    /// Groups of beams, which avoid each other's tokens (Vijayakumar et al. 2016, <https://arxiv.org/abs/1610.02424>); 1 is
    /// no groups: `num_beam_groups`.
    pub groups: usize,
    /// What a token loses for each beam of an earlier group that takes it at the same place; above 0 with groups.
    pub diversity_penalty: f32,
}

impl HfBeams {
    /// Beams without groups, as `generate(num_beams=..)` searches.
    pub fn new(beam_size: usize) -> Self {
        Self {
            beam_size,
            early_stopping: EarlyStopping::default(),
            groups: 1,
            diversity_penalty: 0.0,
        }
    }
}

/// When Hugging Face's beam search ends, once as many captions are finished as there are beams: `early_stopping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// At once: `True`.
    Always,
    /// When the best beam would not be better than the worst of them if it ended now: `False`.
    #[default]
    Estimate,
    /// When no beam can get better than the worst of them, however long it grows: `"never"`.
    Never,
}

/// A strategy, its rules and when it stops.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeConfig {
    pub strategy: Strategy,
    /// Longest caption in tokens, the stop token included and the prompt not: `max_new_tokens`.
    pub max_length: usize,
    /// Tokens before a stop token at least, the prompt not counted: `min_new_tokens`.
    pub min_length: usize,
    /// Tokens that end a caption. They are kept in it.
    pub stop_tokens: Vec<u32>,
    /// Captions are compared by `log_prob / length ^ length_penalty`: 1 is ClipCap's mean, 0 the sum, which favors short
    /// captions; above 1 favors long ones.
    pub length_penalty: f32,
    /// No sequence of so many tokens twice in a caption, the prompt included; 0 allows all: `no_repeat_ngram_size`.
    pub no_repeat_ngram: usize,
    /// Above 1 tokens that the caption or its prompt has already become less likely, below 1 likelier: `repetition_penalty`.
    /// Logits are divided by it, or multiplied where negative; in beam searches log-probabilities are.
    pub repetition_penalty: f32,
    /// Sequences of tokens that no caption has: `bad_words_ids`.
    pub bad_words: Vec<Vec<u32>>,
    /// What every caption begins with, read after the prefix.
    pub prompt: Vec<u32>,
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("the longest caption is 0 tokens: give at least 1")]
    NoLength,
    #[error("the shortest caption is {0} tokens and the longest {1}: give at most as many")]
    MinLength(usize, usize),
    #[error("the beam size is 0: give at least 1")]
    NoBeams,
    #[error("the beam size is {0}: give a number from 1 to the vocabulary's size, {1}")]
    BeamSize(usize, usize),
    #[error("{0} groups of {1} beams: give a number of groups that divides that of the beams")]
    Groups(usize, usize),
    #[error(
        "the diversity penalty is {0}: give a number above 0 and at most 1000, and 2 groups of beams or more"
    )]
    DiversityPenalty(f32),
    #[error("the temperature is {0}: give a number above 0")]
    Temperature(f32),
    #[error("top-k is 0: give at least 1")]
    TopK,
    #[error("top-p is {0}: give a number above 0 and at most 1")]
    TopP(f32),
    #[error("min-p is {0}: give a number from 0 to 1")]
    MinP(f32),
    #[error("typical-p is {0}: give a number above 0 and at most 1")]
    TypicalP(f32),
    #[error("the epsilon cutoff is {0}: give a number from 0 to below 1")]
    EpsilonCutoff(f32),
    #[error("the eta cutoff is {0}: give a number from 0 to below 1")]
    EtaCutoff(f32),
    #[error("the number of captions is 0: give at least 1")]
    NoCaptions,
    #[error("the number of captions is {0}: give at most 100000")]
    TooManyCaptions(usize),
    #[error("the length penalty is {0}: give a number from -10 to 10; 1 is the mean, 0 the sum")]
    LengthPenalty(f32),
    #[error("the repetition penalty is {0}: give a number from 0.001 to 1000; 1 is none")]
    RepetitionPenalty(f32),
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
            min_length: 0,
            stop_tokens,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            repetition_penalty: 1.0,
            bad_words: Vec::new(),
            prompt: Vec::new(),
        }
    }

    /// # Errors
    /// When a setting makes no sense.
    pub fn validate(&self) -> Result<(), DecodeError> {
        if self.max_length == 0 {
            return Err(DecodeError::NoLength);
        }
        if self.min_length > self.max_length {
            return Err(DecodeError::MinLength(self.min_length, self.max_length));
        }
        let penalties = -LARGEST_LENGTH_PENALTY..=LARGEST_LENGTH_PENALTY;
        if !penalties.contains(&self.length_penalty) {
            return Err(DecodeError::LengthPenalty(self.length_penalty));
        }
        let repetition = self.repetition_penalty;
        let repetitions = 1.0 / LARGEST_REPETITION_PENALTY..=LARGEST_REPETITION_PENALTY;
        if !repetitions.contains(&repetition) {
            return Err(DecodeError::RepetitionPenalty(repetition));
        }
        match &self.strategy {
            Strategy::Beam { beam_size: 0 } => Err(DecodeError::NoBeams),
            Strategy::Greedy | Strategy::Beam { .. } => Ok(()),
            Strategy::HfBeam(beams) => beams.validate(),
            Strategy::Sample(sampling) => sampling.validate(),
        }
    }

    /// What a sum of log-probabilities is divided by.
    pub(super) fn length_divisor(&self, length: usize) -> f32 {
        // Without a power for 1: there ClipCap's bits must come out.
        if self.length_penalty == 1.0 {
            length as f32
        } else {
            (length as f32).powf(self.length_penalty)
        }
    }
}

impl HfBeams {
    fn validate(&self) -> Result<(), DecodeError> {
        let Self {
            beam_size,
            groups,
            diversity_penalty: penalty,
            ..
        } = *self;
        if beam_size == 0 {
            return Err(DecodeError::NoBeams);
        }
        if groups == 0 || !beam_size.is_multiple_of(groups) {
            return Err(DecodeError::Groups(groups, beam_size));
        }
        let fits = match groups {
            1 => penalty == 0.0,
            _ => penalty > 0.0 && penalty <= LARGEST_DIVERSITY_PENALTY,
        };
        match fits {
            true => Ok(()),
            false => Err(DecodeError::DiversityPenalty(penalty)),
        }
    }
}
