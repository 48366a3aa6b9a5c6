use super::super::toy::Toy;
use super::super::{DecodeConfig, DecodeError, HfBeams, Strategy, decode, log_softmax};
use super::*;

fn config(strategy: Strategy, max_length: usize) -> DecodeConfig {
    DecodeConfig::new(strategy, max_length, vec![2])
}

fn sampling(seed: u64, num_captions: usize) -> Strategy {
    Strategy::Sample(Sampling {
        seed,
        num_captions,
        ..Sampling::default()
    })
}

#[test]
fn greedy_takes_the_maximum_at_every_step_and_stops_after_the_stop_token() {
    let images: Vec<u64> = (0..20).collect();
    let mut toy = Toy::new(6, &images, 4.0);
    let found = decode(&mut toy, &config(Strategy::Greedy, 9)).unwrap();
    let mut ended = 0;
    for (image, hypotheses) in images.iter().zip(&found) {
        let hypothesis = &hypotheses[0];
        let mut expected: Vec<u32> = Vec::new();
        let mut log_prob = 0.0;
        while expected.len() < 9 && expected.last() != Some(&2) {
            let logits = toy.logits(*image, &expected);
            let token = Row::whole(&logits).best(&[]);
            log_prob += log_softmax(&logits)[token as usize];
            expected.push(token);
        }
        assert_eq!(hypothesis.tokens, expected);
        assert!((hypothesis.log_prob - log_prob).abs() < 1e-5);
        assert!((hypothesis.score - log_prob / expected.len() as f32).abs() < 1e-5);
        assert_eq!(hypothesis.finished, expected.last() == Some(&2));
        ended += usize::from(hypothesis.finished);
    }
    assert!(ended > 3 && ended < 20, "the toy has both kinds: {ended}");
}

#[test]
fn greedy_takes_the_best_token_that_repeats_nothing_and_scores_it_as_the_model_does() {
    let images: Vec<u64> = (0..20).collect();
    let config = DecodeConfig {
        no_repeat_ngram: 1,
        prompt: vec![4, 1],
        length_penalty: 0.5,
        ..config(Strategy::Greedy, 4)
    };
    let mut toy = Toy::new(7, &images, 4.0);
    let found = decode(&mut toy, &config).unwrap();
    for (image, hypotheses) in images.iter().zip(&found) {
        let (mut expected, mut log_prob) = (Vec::new(), 0.0);
        while expected.len() < 4 && expected.last() != Some(&2) {
            let logits = toy.logits(*image, &expected);
            let token = (0..7_u32)
                .filter(|token| ![4, 1].contains(token) && !expected.contains(token))
                .max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]))
                .unwrap();
            log_prob += log_softmax(&logits)[token as usize];
            expected.push(token);
        }
        assert_eq!(hypotheses[0].tokens, expected);
        assert!((hypotheses[0].log_prob - log_prob).abs() < 1e-5);
        let score = log_prob / (expected.len() as f32).sqrt();
        assert!((hypotheses[0].score - score).abs() < 1e-5);
    }
}

#[test]
fn greedy_takes_the_best_of_penalized_logits() {
    let images: Vec<u64> = (0..20).collect();
    for repetition_penalty in [0.5, 1.7] {
        let config = DecodeConfig {
            repetition_penalty,
            prompt: vec![4],
            min_length: 3,
            ..config(Strategy::Greedy, 8)
        };
        let toy = Toy::new(7, &images, 4.0);
        let found = decode(&mut toy.clone(), &config).unwrap();
        for (image, hypotheses) in images.iter().zip(&found) {
            let mut expected: Vec<u32> = Vec::new();
            while expected.len() < 8 && expected.last() != Some(&2) {
                let mut logits = toy.logits(*image, &expected);
                for (token, logit) in (0..).zip(&mut logits) {
                    if token == 4 || expected.contains(&token) {
                        match *logit < 0.0 {
                            true => *logit *= repetition_penalty,
                            false => *logit /= repetition_penalty,
                        }
                    }
                }
                if expected.len() < 3 {
                    logits[2] = f32::NEG_INFINITY;
                }
                expected.push(Row::whole(&logits).best(&[]));
            }
            assert_eq!(hypotheses[0].tokens, expected);
        }
    }
}

#[test]
fn samples_never_repeat_a_sequence_that_may_not_repeat() {
    let config = DecodeConfig {
        no_repeat_ngram: 2,
        ..config(sampling(3, 200), 9)
    };
    for hypothesis in &decode(&mut Toy::new(4, &[7], 2.0), &config).unwrap()[0] {
        let mut pairs: Vec<_> = hypothesis.tokens.windows(2).collect();
        pairs.sort();
        assert!(pairs.is_sorted_by(|a, b| a < b), "{:?}", hypothesis.tokens);
    }
}

#[test]
fn finished_captions_cost_nothing_more() {
    let images: Vec<u64> = (0..20).collect();
    let mut toy = Toy::new(6, &images, 4.0);
    let found = decode(&mut toy, &config(Strategy::Greedy, 9)).unwrap();
    let steps: usize = found
        .iter()
        .flatten()
        .map(|hypothesis| hypothesis.tokens.len())
        .sum();
    assert_eq!(toy.computed, steps);
}

#[test]
fn a_batch_gives_what_each_image_gives_alone() {
    for strategy in [
        Strategy::Greedy,
        sampling(5, 3),
        Strategy::Beam { beam_size: 3 },
        Strategy::HfBeam(HfBeams::new(3)),
    ] {
        let config = config(strategy, 8);
        let batch = decode(&mut Toy::new(7, &[4, 8, 15, 16], 3.0), &config).unwrap();
        for (image, together) in [4, 8, 15, 16].into_iter().zip(batch) {
            let alone = decode(&mut Toy::new(7, &[image], 3.0), &config).unwrap();
            assert_eq!(alone[0], together);
        }
    }
}

#[test]
fn samples_are_as_frequent_as_they_are_likely() {
    let toy = Toy::new(5, &[1], 3.0);
    let probs: Vec<f32> = log_softmax(&toy.logits(1, &[]))
        .iter()
        .map(|lp| lp.exp())
        .collect();
    let found = decode(&mut Toy::new(5, &[1], 3.0), &config(sampling(9, 20_000), 1)).unwrap();
    for (token, prob) in probs.iter().enumerate() {
        let count = found[0]
            .iter()
            .filter(|h| h.tokens[0] == token as u32)
            .count();
        assert!(
            (count as f32 / 20_000.0 - prob).abs() < 0.012,
            "{token}: {count} of 20000, {prob}"
        );
    }
}

#[test]
fn the_seed_decides_the_sample() {
    let run = |seed| {
        decode(
            &mut Toy::new(9, &[1, 2], 1.0),
            &config(sampling(seed, 4), 8),
        )
        .unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let captions = &run(1)[0];
    assert!(
        captions
            .iter()
            .any(|caption| caption.tokens != captions[0].tokens),
        "captions of one image differ"
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |strategy, max_length| {
        decode(&mut Toy::new(4, &[1], 1.0), &config(strategy, max_length)).unwrap_err()
    };
    assert_eq!(refused(Strategy::Greedy, 0), DecodeError::NoLength);
    for length_penalty in [f32::INFINITY, 1e30, -11.0] {
        let endless = DecodeConfig {
            length_penalty,
            ..config(Strategy::Greedy, 5)
        };
        assert_eq!(
            decode(&mut Toy::new(4, &[1], 1.0), &endless),
            Err(DecodeError::LengthPenalty(length_penalty))
        );
    }
    assert_eq!(
        refused(Strategy::Beam { beam_size: 0 }, 5),
        DecodeError::NoBeams
    );
    assert_eq!(
        refused(Strategy::Beam { beam_size: 5 }, 5),
        DecodeError::BeamSize(5, 4)
    );
    let sampling = Sampling::default;
    for (sampling, error) in [
        (
            Sampling {
                temperature: 0.0,
                ..sampling()
            },
            DecodeError::Temperature(0.0),
        ),
        (
            Sampling {
                top_k: Some(0),
                ..sampling()
            },
            DecodeError::TopK,
        ),
        (
            Sampling {
                top_p: Some(1.5),
                ..sampling()
            },
            DecodeError::TopP(1.5),
        ),
        (
            Sampling {
                min_p: Some(-0.1),
                ..sampling()
            },
            DecodeError::MinP(-0.1),
        ),
        (
            Sampling {
                typical_p: Some(0.0),
                ..sampling()
            },
            DecodeError::TypicalP(0.0),
        ),
        (
            Sampling {
                epsilon_cutoff: Some(1.0),
                ..sampling()
            },
            DecodeError::EpsilonCutoff(1.0),
        ),
        (
            Sampling {
                eta_cutoff: Some(2.0),
                ..sampling()
            },
            DecodeError::EtaCutoff(2.0),
        ),
        (
            Sampling {
                num_captions: 0,
                ..sampling()
            },
            DecodeError::NoCaptions,
        ),
    ] {
        assert_eq!(refused(Strategy::Sample(sampling), 5), error);
    }
    let groups = |beam_size, groups, diversity_penalty| {
        Strategy::HfBeam(HfBeams {
            groups,
            diversity_penalty,
            ..HfBeams::new(beam_size)
        })
    };
    assert_eq!(refused(groups(4, 3, 1.0), 5), DecodeError::Groups(3, 4));
    assert_eq!(
        refused(groups(4, 2, 0.0), 5),
        DecodeError::DiversityPenalty(0.0)
    );
    assert_eq!(
        refused(groups(4, 2, 1e30), 5),
        DecodeError::DiversityPenalty(1e30)
    );
    assert_eq!(refused(groups(5, 1, 0.0), 5), DecodeError::BeamSize(5, 4));
    assert_eq!(refused(groups(0, 1, 0.0), 5), DecodeError::NoBeams);
    for (config, error) in [
        (
            DecodeConfig {
                min_length: 6,
                ..config(Strategy::Greedy, 5)
            },
            DecodeError::MinLength(6, 5),
        ),
        (
            DecodeConfig {
                repetition_penalty: 0.0,
                ..config(Strategy::Greedy, 5)
            },
            DecodeError::RepetitionPenalty(0.0),
        ),
        (
            DecodeConfig {
                repetition_penalty: 1e30,
                ..config(Strategy::Greedy, 5)
            },
            DecodeError::RepetitionPenalty(1e30),
        ),
    ] {
        assert_eq!(decode(&mut Toy::new(4, &[1], 1.0), &config), Err(error));
    }
}
