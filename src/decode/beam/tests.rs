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
    let mut first = log_softmax(&toy.logits(image, &[]));
    for (token, log_prob) in (0..).zip(&mut first) {
        if (token == stop && config.min_length > 0) || config.bad_words.contains(&vec![token]) {
            *log_prob = f32::NEG_INFINITY;
        }
    }
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
                    if tokens[beam].contains(&token) {
                        *log_prob *= config.repetition_penalty;
                    }
                    if (token == stop && lengths[beam] <= config.min_length)
                        || config.bad_words.contains(&vec![token])
                    {
                        *log_prob = f32::NEG_INFINITY;
                    }
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
fn beams_are_compared_by_what_the_rules_leave() {
    for repetition_penalty in [0.6, 1.0, 1.4] {
        let config = DecodeConfig {
            repetition_penalty,
            min_length: 4,
            bad_words: vec![vec![5], vec![0]],
            ..config(4, 9, &[3])
        };
        check_against_literal(14, 3.0, &config);
        let found = decode(&mut Toy::new(14, &[1, 2, 3], 3.0), &config).unwrap();
        for hypothesis in found.iter().flatten() {
            let tokens = &hypothesis.tokens;
            assert!(
                !tokens[..4].contains(&3) && !tokens.contains(&5),
                "{tokens:?}"
            );
            let penalized = hypothesis.score * tokens.len() as f32 - hypothesis.log_prob;
            match repetition_penalty {
                1.0 => assert!(penalized.abs() < 1e-4),
                above if above > 1.0 => assert!(penalized < 1e-4),
                _ => assert!(penalized > -1e-4),
            }
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
