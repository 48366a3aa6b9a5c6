//! ClipCap's beam search (`generate_beam` in `predict.py` at 1ad805a), token for token.
//!
//! Its particulars: beams are compared by their mean log-probability while they grow, not only at the end; a finished
//! beam stays among the others and competes with its own mean, which no longer changes; an unfinished one counts as
//! `max_length` long. Here a finished beam leaves the model's batch and keeps its place in the comparison.
//!
//! Added to it: a length penalty, which makes the mean `sum / length ^ penalty` and changes nothing at 1, and tokens that
//! are banned because they would repeat a sequence.

use super::{DecodeConfig, DecodeError, Hypothesis, Logits, Step};

/// One image's beams, best first.
type Beams = Vec<Beam>;

#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    /// Sum of log-probabilities, as ClipCap carries it: the score times what it was divided by.
    sum: f32,
    finished: bool,
    /// The row of logits that continues it.
    row: usize,
}

/// A possible next beam: `beams[source]` with `token`, or `beams[source]` as it is when it is finished.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    /// Sum of log-probabilities over `length ^ length_penalty`.
    score: f32,
    source: usize,
    token: u32,
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
        let banned = config.banned(&beam.tokens, logits.vocab_size());
        let row = logits.row(beam.row);
        // What is banned may be what is likeliest.
        for token in row.likeliest(beam_size + banned.len()) {
            if banned.binary_search(&token).is_err() {
                let score = (beam.sum + row.log_prob(token)) / divisor;
                best.offer(Candidate {
                    score,
                    source,
                    token,
                });
            }
        }
    }
    let extended = |candidate: &Candidate| {
        let mut beam = beams[candidate.source].clone();
        if !beam.finished {
            beam.tokens.push(candidate.token);
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
            log_prob: beam.sum,
            tokens: beam.tokens,
            finished: beam.finished,
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// The largest few of the candidates offered, largest first, the earlier of equals before the later.
struct Best {
    candidates: Vec<Candidate>,
    room: usize,
}

impl Best {
    fn new(room: usize) -> Self {
        Self {
            candidates: Vec::with_capacity(room + 1),
            room,
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.candidates.len() == self.room
            && self
                .candidates
                .last()
                .is_some_and(|worst| candidate.score <= worst.score)
        {
            return;
        }
        let place = self
            .candidates
            .partition_point(|other| other.score >= candidate.score);
        self.candidates.insert(place, candidate);
        self.candidates.truncate(self.room);
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::super::{Strategy, decode, log_softmax};
    use super::*;

    fn config(beam_size: usize, max_length: usize, stop_tokens: &[u32]) -> DecodeConfig {
        DecodeConfig::new(
            Strategy::Beam { beam_size },
            max_length,
            stop_tokens.to_vec(),
        )
    }

    /// Whether the last `n` of the tokens stand together earlier too.
    fn repeats(tokens: &[u32], n: usize) -> bool {
        let Some(start) = tokens.len().checked_sub(n).filter(|_| n > 0) else {
            return false;
        };
        (0..start).any(|earlier| tokens[earlier..earlier + n] == tokens[start..])
    }

    /// ClipCap's loop written out: whole `[beam, vocab]` matrices, finished beams emitting token 0, a full sort. With a
    /// penalty other than 1 and a rule against repeating, where it has none.
    fn literal(toy: &Toy, image: u64, config: &DecodeConfig) -> Vec<(Vec<u32>, f32)> {
        let Strategy::Beam { beam_size } = config.strategy else {
            panic!("not a beam search");
        };
        let stop = config.stop_tokens[0];
        let divisor = |length: usize| (length as f32).powf(config.length_penalty);
        let first = log_softmax(&toy.logits(image, &[]));
        let mut order: Vec<usize> = (0..first.len()).collect();
        order.sort_by(|&a, &b| first[b].total_cmp(&first[a]));
        let mut tokens: Vec<Vec<u32>> = order[..beam_size]
            .iter()
            .map(|&token| vec![token as u32])
            .collect();
        let mut scores: Vec<f32> = order[..beam_size]
            .iter()
            .map(|&token| first[token])
            .collect();
        let mut lengths = vec![1_usize; beam_size];
        let mut stopped: Vec<bool> = tokens.iter().map(|ids| ids[0] == stop).collect();
        for _ in 1..config.max_length {
            if stopped.iter().all(|&stopped| stopped) {
                break;
            }
            let mut means = Vec::new();
            for beam in 0..beam_size {
                let mut log_probs = log_softmax(&toy.logits(image, &tokens[beam]));
                if stopped[beam] {
                    log_probs.fill(f32::NEG_INFINITY);
                    log_probs[0] = 0.0;
                } else {
                    lengths[beam] += 1;
                    for (token, log_prob) in (0..).zip(&mut log_probs) {
                        if repeats(
                            &[&tokens[beam][..], &[token]].concat(),
                            config.no_repeat_ngram,
                        ) {
                            *log_prob = f32::NEG_INFINITY;
                        }
                    }
                }
                means.extend(
                    log_probs
                        .iter()
                        .map(|lp| (scores[beam] + lp) / divisor(lengths[beam])),
                );
            }
            let mut order: Vec<usize> = (0..means.len()).collect();
            order.sort_by(|&a, &b| means[b].total_cmp(&means[a]));
            let chosen = &order[..beam_size];
            let source = |flat: &usize| flat / toy.vocab_size;
            let token = |flat: &usize| (flat % toy.vocab_size) as u32;
            tokens = chosen
                .iter()
                .map(|flat| [&tokens[source(flat)][..], &[token(flat)]].concat())
                .collect();
            let old = lengths.clone();
            lengths = chosen.iter().map(|flat| old[source(flat)]).collect();
            scores = chosen
                .iter()
                .zip(&lengths)
                .map(|(&flat, &length)| means[flat] * divisor(length))
                .collect();
            stopped = chosen
                .iter()
                .map(|flat| stopped[source(flat)] || token(flat) == stop)
                .collect();
        }
        let mut found: Vec<(Vec<u32>, f32)> = (0..beam_size)
            .map(|beam| {
                (
                    tokens[beam][..lengths[beam]].to_vec(),
                    scores[beam] / divisor(lengths[beam]),
                )
            })
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found
    }

    /// Compares 40 images' beams with the loop written out; returns how many beams finished early.
    fn check_against_literal(vocab_size: usize, spread: f32, config: &DecodeConfig) -> usize {
        let images: Vec<u64> = (0..40).collect();
        let toy = Toy::new(vocab_size, &images, spread);
        let mut early = 0;
        for (&image, found) in images.iter().zip(decode(&mut toy.clone(), config).unwrap()) {
            let expected = literal(&toy, image, config);
            assert_eq!(found.len(), expected.len());
            for (hypothesis, (tokens, score)) in found.iter().zip(&expected) {
                assert_eq!(&hypothesis.tokens, tokens);
                assert!((hypothesis.score - score).abs() < 1e-5);
                early += usize::from(hypothesis.finished && tokens.len() < config.max_length);
            }
        }
        early
    }

    #[test]
    fn ids_and_scores_equal_clipcaps_loop_with_early_finished_beams() {
        let early: usize = [
            (9, 3, 8, 4, 3.0),
            (12, 5, 10, 0, 2.0),
            (6, 5, 6, 5, 6.0),
            (30, 4, 12, 7, 9.0),
        ]
        .into_iter()
        .map(|(vocab_size, beam_size, max_length, stop, spread)| {
            check_against_literal(vocab_size, spread, &config(beam_size, max_length, &[stop]))
        })
        .sum();
        assert!(
            early > 50,
            "the tables must let beams finish early: {early}"
        );
    }

    #[test]
    fn a_length_penalty_changes_what_beams_are_compared_by() {
        let early = [-0.5, 0.0, 0.7, 1.0, 2.0].map(|length_penalty| {
            let config = DecodeConfig {
                length_penalty,
                ..config(4, 9, &[3])
            };
            check_against_literal(10, 3.0, &config)
        });
        assert!(
            early.is_sorted_by(|a, b| a >= b) && early[0] > early[4],
            "the higher the penalty, the longer the captions: {early:?}"
        );
    }

    #[test]
    fn no_beam_repeats_a_sequence_that_may_not_repeat() {
        for (n, max_length) in [(1, 8), (2, 10), (3, 14)] {
            let config = DecodeConfig {
                no_repeat_ngram: n,
                ..config(4, max_length, &[11])
            };
            check_against_literal(12, 3.0, &config);
            let found = decode(&mut Toy::new(12, &[1, 2, 3], 3.0), &config).unwrap();
            for hypothesis in found.iter().flatten() {
                let tokens = &hypothesis.tokens;
                assert!((0..=tokens.len()).all(|end| !repeats(&tokens[..end], n)));
            }
        }
    }

    #[test]
    fn a_beam_as_wide_as_everything_finds_the_best_caption_there_is() {
        // Three steps over four tokens, none of which stops: 64 captions, all of which a beam of 16 prefixes reaches.
        let toy = Toy::new(4, &[3], 5.0);
        let mut all = Vec::new();
        for code in 0..64_u32 {
            let tokens = [code / 16, code / 4 % 4, code % 4];
            let score: f32 = (0..3)
                .map(|i| log_softmax(&toy.logits(3, &tokens[..i]))[tokens[i] as usize])
                .sum();
            all.push((tokens.to_vec(), score / 3.0));
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        let found = decode(&mut Toy::new(4, &[3], 5.0), &config(4, 3, &[])).unwrap();
        assert_eq!(found[0][0].tokens, all[0].0);
        assert!((found[0][0].score - all[0].1).abs() < 1e-6);
    }

    #[test]
    fn one_beam_is_greedy() {
        let images: Vec<u64> = (0..30).collect();
        let one = decode(&mut Toy::new(8, &images, 3.0), &config(1, 9, &[3])).unwrap();
        let greedy = DecodeConfig {
            strategy: Strategy::Greedy,
            ..config(1, 9, &[3])
        };
        let greedy = decode(&mut Toy::new(8, &images, 3.0), &greedy).unwrap();
        for (a, b) in one.iter().flatten().zip(greedy.iter().flatten()) {
            assert_eq!(a.tokens, b.tokens);
            assert!((a.log_prob - b.log_prob).abs() < 1e-5);
        }
    }

    #[test]
    fn of_equal_candidates_the_earlier_wins() {
        let mut best = Best::new(2);
        for (source, score) in [(0, -1.0), (1, -1.0), (2, -1.0), (3, -0.5)] {
            best.offer(Candidate {
                score,
                source,
                token: 0,
            });
        }
        let sources: Vec<usize> = best
            .candidates
            .iter()
            .map(|candidate| candidate.source)
            .collect();
        assert_eq!(sources, [3, 0]);
    }
}
