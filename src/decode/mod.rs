//! Searching a caption token by token. No tensors and no model here: a [`Step`] gives logits, a strategy chooses.

mod bad_words;
mod beam;
mod best;
mod config;
mod hf_beam;
mod logits;
mod ngram;
mod repetition;
mod rules;
mod sampling;
mod single;

pub use config::{DecodeConfig, DecodeError, EarlyStopping, HfBeams, Strategy};
pub use logits::{Logits, Row, Wanted};
pub use sampling::Sampling;

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

/// A caption as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens found, without the prompt.
    pub tokens: Vec<u32>,
    /// Sum of their log-probabilities at temperature 1, no token being banned or penalized.
    pub log_prob: f32,
    /// `log_prob / length ^ length_penalty`, by which captions are ranked; of beams the sum is that after penalties.
    pub score: f32,
    /// Whether it ended with a stop token.
    pub finished: bool,
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
    match &config.strategy {
        Strategy::Greedy => single::greedy(step, config),
        Strategy::Beam { beam_size } => beam::search(step, config, *beam_size),
        Strategy::HfBeam(beams) => hf_beam::search(step, config, beams),
        Strategy::Sample(sampling) => single::sample(step, config, sampling),
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
