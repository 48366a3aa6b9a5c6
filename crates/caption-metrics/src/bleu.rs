//! BLEU of one to four words (Papineni et al. 2002, <https://aclanthology.org/P02-1040>), with the reference that is
//! closest in length, as the COCO caption evaluation smooths it.
//!
//! ```text
//! B_n = (product over k <= n of (correct_k + tiny) / (guess_k + small))^(1/n) * min(1, exp(1 - 1/ratio))
//! ratio = (candidate length + tiny) / (closest reference length + small)
//! ```
//! `guess_k` are the candidate's runs of `k` words and `correct_k` those of them in a reference, each at most as often as
//! in the reference that has most of it. The overall score takes these numbers summed over the images.

use super::corpus::{Corpus, Image};
use super::ngrams::{ORDERS, count, order};
use super::scores::{Scores, rows};

const SMALL: f64 = 1e-9;
const TINY: f64 = 1e-15;

/// Correct and guessed n-grams of each order, then the lengths of candidate and reference.
const WIDTH: usize = 2 * ORDERS + 2;

/// `Bleu_1` to `Bleu_4`.
pub fn score(corpus: &Corpus) -> Scores {
    let names = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"];
    Scores::new(&names, WIDTH, rows(&corpus.images, statistics), finish)
}

fn statistics(image: &Image) -> [f64; WIDTH] {
    let words = image.candidate.words.len();
    let mut statistics = [0.0; WIDTH];
    let candidate = count(&image.candidate.words);
    let mut most = vec![0; candidate.len()];
    for reference in &image.references {
        let reference = count(&reference.words);
        for (most, (ngram, _)) in most.iter_mut().zip(&candidate) {
            if let Ok(place) = reference.binary_search_by_key(ngram, |&(ngram, _)| ngram) {
                *most = reference[place].1.max(*most);
            }
        }
    }
    for (&(ngram, count), most) in candidate.iter().zip(most) {
        statistics[order(ngram)] += f64::from(count.min(most));
    }
    for k in 0..ORDERS {
        statistics[ORDERS + k] = words.saturating_sub(k) as f64;
    }
    let lengths = (image.references.iter()).map(|reference| reference.words.len());
    let closest = lengths.min_by_key(|&length| (length.abs_diff(words), length));
    statistics[2 * ORDERS] = words as f64;
    statistics[2 * ORDERS + 1] = closest.unwrap_or_default() as f64;
    statistics
}

fn finish(sums: &[f64], _images: f64) -> Vec<f64> {
    let (correct, rest) = sums.split_at(ORDERS);
    let (guess, lengths) = rest.split_at(ORDERS);
    let ratio = (lengths[0] + TINY) / (lengths[1] + SMALL);
    let penalty = if ratio < 1.0 {
        (1.0 - 1.0 / ratio).exp()
    } else {
        1.0
    };
    let mut product = 1.0;
    (0..ORDERS)
        .map(|k| {
            product *= (correct[k] + TINY) / (guess[k] + SMALL);
            product.powf(1.0 / (k + 1) as f64) * penalty
        })
        .collect()
}
