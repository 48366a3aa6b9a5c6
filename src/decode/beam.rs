//! ClipCap's beam search (`generate_beam` in `predict.py` at 1ad805a), token for token.
//!
//! Its particulars: beams are compared by their mean log-probability while they grow, not only at the end; a finished
//! beam stays among the others and competes with its own mean, which no longer changes; an unfinished one counts as
//! `max_length` long. Here a finished beam leaves the model's batch and keeps its place in the comparison.
//!
//! Added to it: a length penalty, which makes the mean `sum / length ^ penalty` and changes nothing at 1, and rules that
//! ban tokens or penalize their log-probabilities.

use super::best::{Best, Candidate};
use super::rules::Rules;
use super::{DecodeConfig, DecodeError, Hypothesis, Logits, Step};

/// One image's beams, best first.
type Beams = Vec<Beam>;

#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    /// Sum of log-probabilities after penalties, as ClipCap carries it: the score times what it was divided by.
    sum: f32,
    /// Sum of the model's log-probabilities.
    log_prob: f32,
    finished: bool,
    /// The row of logits that continues it.
    row: usize,
}

/// The beams of each image, by falling score.
pub fn search<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    beam_size: usize,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    let first = config.wanted(beam_size, &[&[]], usize::MAX);
    let mut logits = step.prefill(first)?;
    let vocab_size = logits.vocab_size();
    if beam_size == 0 || beam_size > vocab_size {
        return Err(DecodeError::BeamSize(beam_size, vocab_size).into());
    }
    let root = |row| Beam {
        tokens: Vec::new(),
        sum: 0.0,
        log_prob: 0.0,
        finished: false,
        row,
    };
    let mut images: Vec<Beams> = (0..logits.rows()).map(|row| vec![root(row)]).collect();
    for length in 1..=config.max_length {
        for beams in &mut images {
            *beams = grow(beams, &logits, beam_size, config);
        }
        let (parents, tokens) = assign_rows(&mut images);
        if parents.is_empty() || length == config.max_length {
            break;
        }
        let growing: Vec<&[u32]> = images
            .iter()
            .flatten()
            .filter(|beam| !beam.finished)
            .map(|beam| &beam.tokens[..])
            .collect();
        let wanted = config.wanted(beam_size, &growing, vocab_size);
        logits = step.extend(&parents, &tokens, wanted)?;
    }
    Ok(images
        .into_iter()
        .map(|beams| ranked(beams, config))
        .collect())
}

/// The best `beam_size` continuations of one image's beams.
fn grow(beams: &[Beam], logits: &Logits, beam_size: usize, config: &DecodeConfig) -> Beams {
    let mut best = Best::new(beam_size);
    for (source, beam) in beams.iter().enumerate() {
        if beam.finished {
            // ClipCap lets it emit token 0 for nothing.
            let score = beam.sum / config.length_divisor(beam.tokens.len());
            best.offer(Candidate {
                score,
                source,
                token: 0,
            });
            continue;
        }
        let divisor = config.length_divisor(beam.tokens.len() + 1);
        let rules = Rules::after(config, &beam.tokens, logits.vocab_size());
        let row = logits.row(beam.row);
        for token in rules.candidates(&row, beam_size) {
            let log_prob = rules.score(token, row.log_prob(token));
            best.offer(Candidate {
                score: (beam.sum + log_prob) / divisor,
                source,
                token,
            });
        }
    }
    let extended = |candidate: &Candidate| {
        let mut beam = beams[candidate.source].clone();
        if !beam.finished {
            beam.tokens.push(candidate.token);
            beam.log_prob += logits.row(beam.row).log_prob(candidate.token);
            beam.finished = config.stop_tokens.contains(&candidate.token);
        }
        beam.sum = candidate.score * config.length_divisor(beam.tokens.len());
        beam
    };
    best.candidates.iter().map(extended).collect()
}

/// Gives every unfinished beam a row of the next call, and lists the rows they come from and their last tokens.
fn assign_rows(images: &mut [Beams]) -> (Vec<usize>, Vec<u32>) {
    let (mut parents, mut tokens) = (Vec::new(), Vec::new());
    for beam in images.iter_mut().flatten().filter(|beam| !beam.finished) {
        tokens.extend(beam.tokens.last());
        parents.push(beam.row);
        beam.row = parents.len() - 1;
    }
    (parents, tokens)
}

fn ranked(beams: Beams, config: &DecodeConfig) -> Vec<Hypothesis> {
    let mut found: Vec<Hypothesis> = beams
        .into_iter()
        .map(|beam| Hypothesis {
            score: beam.sum / config.length_divisor(beam.tokens.len()),
            log_prob: match config.repetition_penalty == 1.0 {
                // As ClipCap rounds it.
                true => beam.sum,
                false => beam.log_prob,
            },
            tokens: beam.tokens,
            finished: beam.finished,
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

#[cfg(test)]
mod tests;
