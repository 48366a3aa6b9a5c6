//! CIDEr (Vedantam et al. 2015, <https://arxiv.org/abs/1411.5726>) in the form that is printed everywhere: CIDEr-D,
//! clipped and with a penalty on the difference in length, times 10.
//!
//! ```text
//! weight(g) = count(g) * (log N - log max(1, df(g)))
//! sim_n     = sum over candidate g of min(c_g, r_g) r_g / (|c| |r|) * exp(-(len_c - len_r)^2 / (2 * 6^2))
//! score     = 10 * mean over orders and references of sim_n
//! ```
//! `df` is the number of images with `g` in a reference, and lengths are counted in bigrams. Overall the mean.

use std::collections::HashMap;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::corpus::{Caption, Corpus, Image, Sample};
use super::ngrams::{Ngram, ORDERS, count, order};
use super::scores::{Scores, rows};

const SIGMA: f64 = 6.0;

/// In how many images' references n-grams occur.
pub struct Frequencies {
    /// Those that occur in more than one image: 0 and 1 weigh the same.
    several: FxHashMap<Ngram, u32>,
    /// Logarithm of the number of images.
    log_images: f64,
}

impl Frequencies {
    /// Counts the references of a corpus.
    pub fn of(corpus: &Corpus) -> Self {
        let mut ngrams: Vec<Ngram> = corpus
            .images
            .par_iter()
            .fold(Vec::new, |mut all, image| {
                all.extend(distinct(image));
                all
            })
            .reduce(Vec::new, |mut all, more| {
                all.extend_from_slice(&more);
                all
            });
        ngrams.par_sort_unstable();
        let several = ngrams
            .chunk_by(|a, b| a == b)
            .filter(|same| same.len() > 1)
            .map(|same| (same[0], same.len() as u32))
            .collect();
        Self {
            several,
            log_images: (corpus.images.len() as f64).ln(),
        }
    }

    /// Takes over counts from elsewhere: n-grams as words joined by spaces, and the logarithm of the number of images.
    /// Those with a word that `corpus` has not cannot matter and are left out.
    pub fn from_table(corpus: &Corpus, table: &HashMap<String, f64>, log_images: f64) -> Self {
        let number = |ngram: &str| {
            ngram.split(' ').try_fold(0, |ngram: Ngram, word| {
                Some(ngram << 32 | Ngram::from(corpus.words().known(word)?))
            })
        };
        Self {
            several: (table.iter())
                .filter_map(|(ngram, &images)| Some((number(ngram)?, images as u32)))
                .collect(),
            log_images,
        }
    }

    fn weight(&self, ngram: Ngram, count: u32) -> f64 {
        let images = self
            .several
            .get(&ngram)
            .map_or(1.0, |&images| f64::from(images.max(1)));
        f64::from(count) * (self.log_images - images.ln())
    }
}

/// Document frequencies to keep: n-grams as words joined by spaces, and the number of images counted.
pub fn table(samples: &[Sample]) -> (HashMap<String, f64>, f64) {
    let corpus = Corpus::new(samples);
    let names = corpus.words().names();
    let text = |ngram: Ngram| {
        let words = (0..=order(ngram))
            .rev()
            .map(|place| (ngram >> (32 * place)) as u32);
        words
            .map(|word| names[word as usize - 1])
            .collect::<Vec<_>>()
            .join(" ")
    };
    let table = (Frequencies::of(&corpus).several.iter())
        .map(|(&ngram, &images)| (text(ngram), f64::from(images)))
        .collect();
    (table, samples.len() as f64)
}

/// The n-grams of an image's references, each once.
fn distinct(image: &Image) -> Vec<Ngram> {
    let mut ngrams: Vec<Ngram> = (image.references.iter())
        .flat_map(|reference| count(&reference.words))
        .map(|(ngram, _)| ngram)
        .collect();
    ngrams.sort_unstable();
    ngrams.dedup();
    ngrams
}

/// A caption as a vector of weights for each order.
struct Vector {
    /// Sorted by n-gram.
    weights: Vec<(Ngram, f64)>,
    norms: [f64; ORDERS],
    bigrams: f64,
}

impl Vector {
    fn new(caption: &Caption, frequencies: &Frequencies) -> Self {
        let mut norms = [0.0; ORDERS];
        let weights: Vec<(Ngram, f64)> = count(&caption.words)
            .into_iter()
            .map(|(ngram, count)| (ngram, frequencies.weight(ngram, count)))
            .collect();
        for &(ngram, weight) in &weights {
            norms[order(ngram)] += weight * weight;
        }
        Self {
            weights,
            norms: norms.map(f64::sqrt),
            bigrams: caption.words.len().saturating_sub(1) as f64,
        }
    }

    /// Sum of the similarities of all orders.
    fn similarity(&self, reference: &Self) -> f64 {
        let mut products = [0.0; ORDERS];
        let mut others = reference.weights.iter().peekable();
        for &(ngram, weight) in &self.weights {
            while others.next_if(|(other, _)| *other < ngram).is_some() {}
            if let Some(&&(other, in_reference)) = others.peek()
                && other == ngram
            {
                products[order(ngram)] += weight.min(in_reference) * in_reference;
            }
        }
        for (n, product) in products.iter_mut().enumerate() {
            let norm = self.norms[n] * reference.norms[n];
            if norm != 0.0 {
                *product /= norm;
            }
        }
        let difference = self.bigrams - reference.bigrams;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        products.iter().sum::<f64>() * penalty
    }
}

/// `CIDEr`.
pub fn score(corpus: &Corpus, frequencies: &Frequencies) -> Scores {
    let per_image = rows(&corpus.images, |image| {
        let candidate = Vector::new(&image.candidate, frequencies);
        let sum: f64 = (image.references.iter())
            .map(|reference| candidate.similarity(&Vector::new(reference, frequencies)))
            .sum();
        [10.0 * sum / (ORDERS * image.references.len()) as f64]
    });
    Scores::mean("CIDEr", per_image)
}
