//! ROUGE-L (Lin 2004, <https://aclanthology.org/W04-1013>): the longest common subsequence of words, as the COCO caption
//! evaluation takes it, with the best precision and the best recall over the references chosen separately.
//!
//! `F = (1 + b^2) P R / (R + b^2 P)` with `b = 1.2`; overall the mean.

use super::corpus::{Corpus, Image};
use super::scores::{Scores, rows};

const BETA: f64 = 1.2;

/// `ROUGE_L`.
pub fn score(corpus: &Corpus) -> Scores {
    Scores::mean("ROUGE_L", rows(&corpus.images, |image| [f(image)]))
}

fn f(image: &Image) -> f64 {
    let candidate = image.candidate.parts();
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in &image.references {
        let reference = reference.parts();
        let common = common_subsequence(candidate, reference) as f64;
        precision = precision.max(common / candidate.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    let beta = BETA * BETA;
    (1.0 + beta) * precision * recall / (recall + beta * precision)
}

/// Length of the longest common subsequence.
fn common_subsequence(a: &[u32], b: &[u32]) -> usize {
    let mut lengths = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = lengths[j + 1];
            lengths[j + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(lengths[j])
            };
            diagonal = above;
        }
    }
    lengths[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subsequence_need_not_be_in_one_piece() {
        assert_eq!(common_subsequence(&[1, 2, 3, 4], &[1, 9, 3, 2, 4]), 3);
        assert_eq!(common_subsequence(&[1, 2], &[2, 1]), 1);
        assert_eq!(common_subsequence(&[], &[1]), 0);
    }
}
