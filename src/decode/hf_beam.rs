//! Hugging Face's beam search, and its diverse groups of beams.
//!
//! Beams grow by their sums. One that stops among the best leaves them, and competes with the others that stopped by its
//! sum over `length ^ length_penalty`; as many of these are kept as there are beams, and [`EarlyStopping`] says when growing
//! ends. Without groups it is `_beam_search` of transformers 5.17, with groups `_group_beam_search` of 4.53, the last to
//! have it: each group is a search of its own, whose tokens cost what earlier groups take at the same place.
//! There are two differences, both kept: with groups the best continuation may be one that stops when the end is
//! estimated, and beams that reach the longest length are taken unless the group has just ended.

use super::best::{Best, Candidate};
use super::rules::Rules;
use super::{DecodeConfig, DecodeError, EarlyStopping, HfBeams, Hypothesis, Logits, Step, Wanted};

#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    /// Sum of log-probabilities after penalties.
    sum: f32,
    /// Sum of the model's log-probabilities.
    log_prob: f32,
    /// The row of logits that continues it.
    row: usize,
}

/// Beams of one image that compete with each other.
#[derive(Clone, Debug)]
struct Group {
    /// Best first.
    running: Vec<Beam>,
    /// Best first, at most as many as beams.
    finished: Vec<Hypothesis>,
    open: bool,
}

/// The search's settings.
struct Search<'a> {
    config: &'a DecodeConfig,
    beams: &'a HfBeams,
    /// Beams of a group.
    size: usize,
    /// Candidates looked at in a group: enough are left when stop tokens are taken out.
    kept: usize,
}

/// The captions of each image, by falling score.
pub fn search<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    beams: &HfBeams,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    let size = beams.beam_size / beams.groups;
    let search = Search {
        config,
        beams,
        size,
        kept: (1 + config.stop_tokens.len()).max(2) * size,
    };
    let mut logits = step.prefill(search.wanted(&[&[]], usize::MAX))?;
    let vocab_size = logits.vocab_size();
    if beams.beam_size == 0 || beams.beam_size > vocab_size {
        return Err(DecodeError::BeamSize(beams.beam_size, vocab_size).into());
    }
    let mut images: Vec<Vec<Group>> = (0..logits.rows())
        .map(|row| vec![Group::new(row); beams.groups])
        .collect();
    for length in 1..=config.max_length {
        for groups in &mut images {
            search.grow(groups, &logits, length);
        }
        let (parents, tokens) = assign_rows(&mut images);
        if parents.is_empty() || length == config.max_length {
            break;
        }
        let growing: Vec<&[u32]> = (images.iter().flatten())
            .flat_map(|group| &group.running)
            .map(|beam| &beam.tokens[..])
            .collect();
        logits = step.extend(&parents, &tokens, search.wanted(&growing, vocab_size))?;
    }
    Ok(images.into_iter().map(ranked).collect())
}

/// Gives every beam of open groups a row of the next call, and lists the rows they come from and their last tokens.
fn assign_rows(images: &mut [Vec<Group>]) -> (Vec<usize>, Vec<u32>) {
    let (mut parents, mut tokens) = (Vec::new(), Vec::new());
    for group in images.iter_mut().flatten() {
        if !group.open {
            group.running.clear();
        }
        for beam in &mut group.running {
            tokens.extend(beam.tokens.last());
            parents.push(beam.row);
            beam.row = parents.len() - 1;
        }
    }
    (parents, tokens)
}

fn ranked(groups: Vec<Group>) -> Vec<Hypothesis> {
    let mut found: Vec<Hypothesis> = (groups.into_iter())
        .flat_map(|group| group.finished)
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

impl Search<'_> {
    fn grouped(&self) -> bool {
        self.beams.groups > 1
    }

    /// Tokens that earlier groups make fall are wanted too.
    fn wanted(&self, captions: &[&[u32]], vocab_size: usize) -> Wanted {
        let taken = match self.grouped() {
            true => self.beams.beam_size,
            false => 0,
        };
        (self.config).wanted(self.kept + taken, captions, vocab_size)
    }

    /// Grows an image's groups to `length` tokens.
    fn grow(&self, groups: &mut [Group], logits: &Logits, length: usize) {
        let mut taken: Vec<u32> = Vec::new();
        for group in groups {
            if !group.open {
                // A group that has ended goes on with padding, which is the stop token.
                let padding = self.config.stop_tokens.first();
                taken.extend(padding.iter().flat_map(|&&token| vec![token; self.size]));
                continue;
            }
            let here = self.grow_group(group, logits, length, &taken);
            taken.extend(here);
        }
    }

    /// Gives the tokens that beams of the group go on with. `taken`: those of earlier groups.
    fn grow_group(
        &self,
        group: &mut Group,
        logits: &Logits,
        length: usize,
        taken: &[u32],
    ) -> Vec<u32> {
        let best = self.candidates(&group.running, logits, taken);
        let last = length == self.config.max_length;
        let mut running = Vec::with_capacity(self.size);
        for (rank, candidate) in best.iter().enumerate() {
            let stops = self.config.stop_tokens.contains(&candidate.token);
            let beam = group.running[candidate.source].extended(candidate, logits);
            if stops || last && !self.grouped() {
                if rank < self.size {
                    self.finish(group, beam, stops);
                }
            } else if running.len() < self.size {
                running.push(beam);
            }
        }
        let most = match self.grouped() {
            true => best.first().map(|candidate| candidate.score),
            false => running.first().map(|beam| beam.sum),
        };
        let tokens = (running.iter())
            .flat_map(|beam| beam.tokens.last().copied())
            .collect();
        let ended = most.is_none_or(|most| self.ends(group, most, length));
        if last && self.grouped() && !ended {
            for beam in running.drain(..) {
                self.finish(group, beam, false);
            }
        }
        group.running = running;
        group.open = !last && !ended;
        tokens
    }

    fn candidates(&self, beams: &[Beam], logits: &Logits, taken: &[u32]) -> Vec<Candidate> {
        let mut best = Best::new(self.kept);
        for (source, beam) in beams.iter().enumerate() {
            let rules = Rules::after(self.config, &beam.tokens, logits.vocab_size());
            let row = logits.row(beam.row);
            for token in rules.candidates(&row, self.kept + taken.len()) {
                let times = taken.iter().filter(|&&other| other == token).count();
                let lost = self.beams.diversity_penalty * times as f32;
                let log_prob = rules.score(token, row.log_softmax(token) - lost);
                best.offer(Candidate {
                    score: beam.sum + log_prob,
                    source,
                    token,
                });
            }
        }
        best.candidates
    }

    /// Keeps a caption if it is among the best.
    fn finish(&self, group: &mut Group, beam: Beam, finished: bool) {
        let score = beam.sum / self.config.length_divisor(beam.tokens.len());
        let place = (group.finished).partition_point(|other| other.score >= score);
        let found = Hypothesis {
            tokens: beam.tokens,
            log_prob: beam.log_prob,
            score,
            finished,
        };
        group.finished.insert(place, found);
        group.finished.truncate(self.size);
    }

    /// Whether no more is to be gained, when the best of what goes on sums to `most` at `length`.
    fn ends(&self, group: &Group, most: f32, length: usize) -> bool {
        let [.., worst] = &group.finished[..] else {
            return false;
        };
        if group.finished.len() < self.size {
            return false;
        }
        let length = match self.beams.early_stopping {
            EarlyStopping::Always => return true,
            EarlyStopping::Never if self.config.length_penalty > 0.0 => self.config.max_length,
            EarlyStopping::Never | EarlyStopping::Estimate => length,
        };
        worst.score >= most / self.config.length_divisor(length)
    }
}

impl Group {
    /// Of an image whose row of logits this is.
    fn new(row: usize) -> Self {
        let root = Beam {
            tokens: Vec::new(),
            sum: 0.0,
            log_prob: 0.0,
            row,
        };
        Self {
            running: vec![root],
            finished: Vec::new(),
            open: true,
        }
    }
}

impl Beam {
    fn extended(&self, candidate: &Candidate, logits: &Logits) -> Self {
        let log_prob = logits.row(self.row).log_softmax(candidate.token);
        Self {
            tokens: [&self.tokens[..], &[candidate.token]].concat(),
            sum: candidate.score,
            log_prob: self.log_prob + log_prob,
            row: self.row,
        }
    }
}

#[cfg(test)]
mod tests;
