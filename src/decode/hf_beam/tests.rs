use super::super::toy::Toy;
use super::super::{Strategy, decode};
use super::*;

/// Ids are held to transformers' by `tests/integration/decoding.rs`.
fn config(beams: HfBeams, max_length: usize) -> DecodeConfig {
    DecodeConfig::new(Strategy::HfBeam(beams), max_length, vec![3])
}

fn found(config: &DecodeConfig) -> Vec<Vec<Hypothesis>> {
    decode(&mut Toy::new(16, &[4, 8, 15, 16, 23, 42], 3.0), config).unwrap()
}

#[test]
fn scores_are_sums_over_length_and_fall() {
    for length_penalty in [0.0, 1.0, 2.0] {
        let config = DecodeConfig {
            length_penalty,
            ..config(HfBeams::new(4), 9)
        };
        for captions in found(&config) {
            assert_eq!(captions.len(), 4);
            assert!(captions.is_sorted_by(|a, b| a.score >= b.score));
            for caption in captions {
                let divisor = (caption.tokens.len() as f32).powf(length_penalty);
                assert!((caption.score - caption.log_prob / divisor).abs() < 1e-5);
                assert_eq!(caption.finished, caption.tokens.last() == Some(&3));
            }
        }
    }
}

#[test]
fn the_later_a_search_ends_the_better_its_best_caption() {
    let best = |early_stopping| -> Vec<f32> {
        let beams = HfBeams {
            early_stopping,
            ..HfBeams::new(3)
        };
        let captions = found(&config(beams, 12));
        captions.iter().map(|captions| captions[0].score).collect()
    };
    let [at_once, estimate, never] = [
        EarlyStopping::Always,
        EarlyStopping::Estimate,
        EarlyStopping::Never,
    ]
    .map(best);
    for image in 0..6 {
        assert!(at_once[image] <= estimate[image] && estimate[image] <= never[image]);
    }
    assert_ne!(at_once, never);
}

#[test]
fn groups_begin_with_other_tokens_when_the_penalty_is_high() {
    let beams = HfBeams {
        groups: 4,
        diversity_penalty: 100.0,
        ..HfBeams::new(4)
    };
    for captions in found(&config(beams, 6)) {
        let mut first: Vec<u32> = captions.iter().map(|caption| caption.tokens[0]).collect();
        first.sort_unstable();
        first.dedup();
        assert!(
            first.len() >= 3,
            "all but those that stop differ: {first:?}"
        );
    }
}

#[test]
fn rules_hold_in_every_beam() {
    for groups in [1, 2] {
        let config = DecodeConfig {
            min_length: 4,
            bad_words: vec![vec![5], vec![1, 2]],
            no_repeat_ngram: 2,
            repetition_penalty: 1.5,
            ..config(
                HfBeams {
                    groups,
                    diversity_penalty: (groups - 1) as f32,
                    ..HfBeams::new(4)
                },
                9,
            )
        };
        for caption in found(&config).iter().flatten() {
            let tokens = &caption.tokens;
            assert!(
                !tokens[..4].contains(&3) && !tokens.contains(&5),
                "{tokens:?}"
            );
            assert!(!tokens.windows(2).any(|pair| pair == [1, 2]), "{tokens:?}");
        }
    }
}
