//! Everything that could be aligned, by the four kinds of match.

use std::rc::Rc;

use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::{FxHashMap, FxHashSet};

use super::align::Match;
use super::paraphrases::Paraphrases;
use super::synonyms::{Synonyms, SynsetId};

/// Kinds of match: exact, stem, synonym, paraphrase.
pub(super) const MODULES: usize = 4;

/// Stems that were found before: a corpus has far fewer words than places for them.
pub(super) struct Stems {
    stemmer: Stemmer,
    known: FxHashMap<String, Rc<str>>,
}

impl Default for Stems {
    fn default() -> Self {
        Self {
            stemmer: Stemmer::create(Algorithm::English),
            known: FxHashMap::default(),
        }
    }
}

impl Stems {
    fn stem(&mut self, word: &str) -> Rc<str> {
        if let Some(stem) = self.known.get(word) {
            return stem.clone();
        }
        let stem: Rc<str> = self.stemmer.stem(word).into();
        self.known.insert(word.to_string(), stem.clone());
        stem
    }
}

/// A sentence's words with what is compared of them.
pub(super) struct Sentence {
    pub(super) words: Vec<String>,
    /// Whether each is a function word.
    functions: Vec<bool>,
    stems: Vec<Rc<str>>,
    /// The synsets of each word; empty without synonyms.
    synsets: Vec<Vec<SynsetId>>,
}

impl Sentence {
    pub(super) fn new(
        words: Vec<String>,
        function_words: &FxHashSet<&str>,
        stems: &mut Stems,
        synonyms: Option<&Synonyms>,
    ) -> Self {
        Self {
            functions: (words.iter())
                .map(|word| function_words.contains(word.as_str()))
                .collect(),
            stems: words.iter().map(|word| stems.stem(word)).collect(),
            synsets: synonyms.map_or_else(Vec::new, |synonyms| {
                words.iter().map(|word| synonyms.synsets(word)).collect()
            }),
            words,
        }
    }

    /// Function words among `length` words from `start`.
    pub(super) fn functions(&self, start: usize, length: usize) -> usize {
        let of = &self.functions[start..][..length];
        of.iter().filter(|&&function| function).count()
    }
}

/// All matches, by their first word in the reference; at a place those of an earlier kind first. Words that are equal are
/// not matched in another way, but the other kinds can match the same words more than once. Sentences that are equal as a whole
/// are matched by equal words alone.
pub(super) fn matches(
    test: &Sentence,
    reference: &Sentence,
    paraphrases: Option<&Paraphrases>,
) -> Vec<Vec<Match>> {
    let mut found: Vec<Vec<Match>> = (0..reference.words.len()).map(|_| Vec::new()).collect();
    let equal = |r: usize, t: usize| reference.words[r] == test.words[t];
    let mut pair = |module: usize, matches: &dyn Fn(usize, usize) -> bool| {
        for (start, here) in found.iter_mut().enumerate() {
            for test_start in (0..test.words.len()).filter(|&t| matches(start, t)) {
                here.push(Match {
                    start,
                    length: 1,
                    test_start,
                    test_length: 1,
                    module,
                });
            }
        }
    };
    pair(0, &equal);
    if test.words == reference.words {
        return found;
    }
    pair(1, &|r, t| {
        !equal(r, t) && reference.stems[r] == test.stems[t]
    });
    if !test.synsets.is_empty() && !reference.synsets.is_empty() {
        let shared = |r: usize, t: usize| {
            reference.synsets[r]
                .iter()
                .any(|synset| test.synsets[t].contains(synset))
        };
        pair(2, &|r, t| !equal(r, t) && shared(r, t));
    }
    if let Some(paraphrases) = paraphrases {
        paraphrases.add(&test.words, &reference.words, &mut found);
    }
    found
}
