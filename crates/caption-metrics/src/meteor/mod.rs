//! METEOR 1.5 (Denkowski and Lavie 2014, <https://aclanthology.org/W14-3348>), with the parameters of its English ranking
//! task, as the COCO caption evaluation calls it.
//!
//! Words of candidate and reference are matched if they are equal, have the same stem (Snowball's English), share a
//! WordNet synset, or are paraphrases of each other. The best alignment (`align`) gives
//!
//! ```text
//! P, R  = weighted matches / weighted length of candidate and reference
//! Fmean = 1 / ((1 - alpha) / P + alpha / R)
//! score = Fmean * (1 - gamma * fragmentation^beta),   fragmentation = chunks / matched words
//! ```
//! where content words weigh `delta` and function words `1 - delta`. Of several references the best counts; overall the
//! statistics are summed. The first two kinds of match need no data and are scored under a name of their own.

mod align;
mod data;
mod matchers;
mod normalize;
mod paraphrases;
mod synonyms;
mod words;

use std::path::Path;

use rustc_hash::FxHashSet;

use self::align::align;
pub use self::data::DataError;
use self::matchers::{MODULES, Sentence, Stems};
use self::normalize::normalize;
use self::paraphrases::Paraphrases;
use self::synonyms::Synonyms;
use super::corpus::{Corpus, Image};
use super::scores::{Scores, rows_with};

const ALPHA: f64 = 0.85;
const BETA: f64 = 0.2;
const GAMMA: f64 = 0.6;
const DELTA: f64 = 0.75;
/// Exact, stem, synonym, paraphrase.
const WEIGHTS: [f64; MODULES] = [1.0, 0.6, 0.8, 0.6];

/// Sums over the images: words and function words of candidate and reference; four numbers a kind of match; chunks and
/// matched words of candidate and reference. The order is that of the program's statistics.
const WIDTH: usize = 4 + 4 * MODULES + 3;

/// A scorer with what it knows of English.
pub struct Meteor {
    name: &'static str,
    function_words: FxHashSet<&'static str>,
    synonyms: Option<Synonyms>,
    paraphrases: Option<Paraphrases>,
}

impl Meteor {
    /// Equal words and equal stems only, under the name `METEOR_exact_stem`.
    pub fn exact_stem() -> Self {
        Self {
            name: "METEOR_exact_stem",
            function_words: words::FUNCTION_WORDS.split(' ').collect(),
            synonyms: None,
            paraphrases: None,
        }
    }

    /// All of METEOR, under its name, with the data of the program's version 1.5 in a folder: `meteor-1.5.jar`, or what is
    /// in it, and `paraphrase-en.gz`, there or in a folder `data`. Of the paraphrases, only those are kept that `corpus` can
    /// use.
    ///
    /// # Errors
    /// When a file is missing or not as expected; the message names it.
    pub fn load(folder: &Path, corpus: &Corpus) -> Result<Self, DataError> {
        data::load(folder, corpus)
    }

    /// `METEOR` or `METEOR_exact_stem`, as [`Scores::names`] will have it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Scores a corpus.
    pub fn score(&self, corpus: &Corpus) -> Scores {
        let statistics = rows_with(&corpus.images, Stems::default, |stems, image| {
            self.statistics(stems, image)
        });
        Scores::new(&[self.name], WIDTH, statistics, |sums, _| {
            vec![finish(sums)]
        })
    }

    fn sentence(&self, stems: &mut Stems, text: &str) -> Sentence {
        Sentence::new(
            normalize(text),
            &self.function_words,
            stems,
            self.synonyms.as_ref(),
        )
    }

    /// The statistics of the reference that scores best, the first of them on a tie.
    fn statistics(&self, stems: &mut Stems, image: &Image) -> [f64; WIDTH] {
        let test = self.sentence(stems, &image.candidate.text);
        let mut best: Option<([f64; WIDTH], f64)> = None;
        for reference in &image.references {
            let statistics = self.pair(&test, &self.sentence(stems, &reference.text));
            let score = finish(&statistics);
            if best.is_none_or(|(_, best)| score > best) {
                best = Some((statistics, score));
            }
        }
        best.map_or([0.0; WIDTH], |(statistics, _)| statistics)
    }

    fn pair(&self, test: &Sentence, reference: &Sentence) -> [f64; WIDTH] {
        let matches = matchers::matches(test, reference, self.paraphrases.as_ref());
        let (matches, chunks) = align(&matches, test.words.len());
        let mut statistics = [0.0; WIDTH];
        statistics[0] = test.words.len() as f64;
        statistics[1] = reference.words.len() as f64;
        statistics[2] = test.functions(0, test.words.len()) as f64;
        statistics[3] = reference.functions(0, reference.words.len()) as f64;
        for found in &matches {
            let test_functions = test.functions(found.test_start, found.test_length);
            let reference_functions = reference.functions(found.start, found.length);
            let module = &mut statistics[4 + 4 * found.module..][..4];
            module[0] += (found.test_length - test_functions) as f64;
            module[1] += (found.length - reference_functions) as f64;
            module[2] += test_functions as f64;
            module[3] += reference_functions as f64;
            statistics[WIDTH - 2] += found.test_length as f64;
            statistics[WIDTH - 1] += found.length as f64;
        }
        // A sentence that matches as a whole is not fragmented at all.
        let whole = chunks == 1
            && statistics[WIDTH - 2] == statistics[0]
            && statistics[WIDTH - 1] == statistics[1];
        statistics[WIDTH - 3] = if whole { 0.0 } else { chunks as f64 };
        statistics
    }
}

fn finish(sums: &[f64]) -> f64 {
    let [test, reference, test_functions, reference_functions] =
        [sums[0], sums[1], sums[2], sums[3]];
    let weighted = |all: f64, functions: f64| DELTA * (all - functions) + (1.0 - DELTA) * functions;
    let (mut in_test, mut in_reference) = (0.0, 0.0);
    for (module, weight) in sums[4..4 + 4 * MODULES].chunks_exact(4).zip(WEIGHTS) {
        in_test += weight * (DELTA * module[0] + (1.0 - DELTA) * module[2]);
        in_reference += weight * (DELTA * module[1] + (1.0 - DELTA) * module[3]);
    }
    let precision = in_test / weighted(test, test_functions);
    let recall = in_reference / weighted(reference, reference_functions);
    let mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall);
    let [chunks, test_matched, reference_matched] =
        [sums[WIDTH - 3], sums[WIDTH - 2], sums[WIDTH - 1]];
    let fragmentation = chunks / ((test_matched + reference_matched) / 2.0);
    let score = mean * (1.0 - GAMMA * fragmentation.powf(BETA));
    if score.is_finite() { score } else { 0.0 }
}
