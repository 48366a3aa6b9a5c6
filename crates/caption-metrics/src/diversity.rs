//! How much a model says, and how varied: needs no references.

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::corpus::Corpus;
use super::ngrams::{Ngram, ORDERS, order};

/// Statistics of the candidates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diversity {
    /// Different runs of 1 to 4 words, as a share of all runs of that length (distinct-n, Li et al. 2016).
    pub distinct: [f64; ORDERS],
    /// Different words.
    pub vocabulary: usize,
    /// Different captions, as a share of all.
    pub different_captions: f64,
    /// Words a caption.
    pub length: Lengths,
    /// The same of the references.
    pub reference_length: Lengths,
}

/// Words a caption.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lengths {
    pub mean: f64,
    pub deviation: f64,
    pub shortest: usize,
    pub longest: usize,
}

impl Lengths {
    fn of(lengths: &[usize]) -> Self {
        let n = lengths.len().max(1) as f64;
        let mean = lengths.iter().sum::<usize>() as f64 / n;
        let variance = lengths
            .iter()
            .map(|&l| (l as f64 - mean).powi(2))
            .sum::<f64>()
            / n;
        Self {
            mean,
            deviation: variance.sqrt(),
            shortest: lengths.iter().copied().min().unwrap_or_default(),
            longest: lengths.iter().copied().max().unwrap_or_default(),
        }
    }
}

/// Counts the candidates of a corpus.
pub fn measure(corpus: &Corpus) -> Diversity {
    let mut distinct: FxHashSet<Ngram> = FxHashSet::default();
    let mut totals = [0_usize; ORDERS];
    let mut captions: FxHashSet<&[u32]> = FxHashSet::default();
    for image in &corpus.images {
        let words = &image.candidate.words;
        captions.insert(words);
        for start in 0..words.len() {
            let mut ngram = 0;
            for (n, &word) in words[start..].iter().take(ORDERS).enumerate() {
                ngram = ngram << 32 | Ngram::from(word);
                distinct.insert(ngram);
                totals[n] += 1;
            }
        }
    }
    let mut found = [0_usize; ORDERS];
    for &ngram in &distinct {
        found[order(ngram)] += 1;
    }
    let candidates: Vec<usize> = (corpus.images.iter())
        .map(|image| image.candidate.words.len())
        .collect();
    let references: Vec<usize> = (corpus.images.iter())
        .flat_map(|image| {
            image
                .references
                .iter()
                .map(|reference| reference.words.len())
        })
        .collect();
    Diversity {
        distinct: std::array::from_fn(|n| found[n] as f64 / totals[n].max(1) as f64),
        vocabulary: found[0],
        different_captions: captions.len() as f64 / corpus.len().max(1) as f64,
        length: Lengths::of(&candidates),
        reference_length: Lengths::of(&references),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    #[test]
    fn a_model_that_says_one_thing_is_not_diverse() {
        let sample = |candidate: &str| Sample {
            candidate: candidate.into(),
            references: vec!["A bird.".into()],
        };
        let same = measure(&Corpus::new(&[sample("a dog runs"), sample("A dog runs.")]));
        assert_eq!(same.vocabulary, 3);
        assert_eq!(same.distinct[0], 0.5);
        assert_eq!(same.distinct[3], 0.0, "there are no runs of four words");
        assert_eq!(same.different_captions, 0.5);
        assert_eq!((same.length.mean, same.length.deviation), (3.0, 0.0));
        assert_eq!(same.reference_length.longest, 2);
        let other = measure(&Corpus::new(&[
            sample("a dog runs"),
            sample("two cats sleep"),
        ]));
        assert_eq!(other.distinct[0], 1.0);
    }
}
