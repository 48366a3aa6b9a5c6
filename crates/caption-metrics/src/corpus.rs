//! Captions made ready to be counted: tokenized, and each word a number.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::ptb::tokenize_before;

/// What a model said of an image, and what people did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub candidate: String,
    /// At least one.
    pub references: Vec<String>,
}

/// The images to score, tokenized.
pub struct Corpus {
    pub(super) images: Vec<Image>,
    words: Words,
}

/// An image's captions.
pub(super) struct Image {
    pub(super) candidate: Caption,
    pub(super) references: Vec<Caption>,
}

/// A caption.
pub(super) struct Caption {
    /// The tokens, joined by spaces.
    pub(super) text: String,
    /// Words as `str.split()` finds them, which parts tokens at a no-break space too.
    pub(super) words: Vec<u32>,
    /// Words as `str.split(" ")` finds them, where they are others. An empty caption has one empty word.
    pub(super) parts: Option<Vec<u32>>,
}

impl Caption {
    /// The words that ROUGE sees.
    pub(super) fn parts(&self) -> &[u32] {
        self.parts.as_deref().unwrap_or(&self.words)
    }
}

/// Numbers for words, from 1 up.
#[derive(Default)]
pub(super) struct Words(FxHashMap<String, u32>);

impl Words {
    pub(super) fn number(&mut self, word: &str) -> u32 {
        if let Some(&number) = self.0.get(word) {
            return number;
        }
        let number = self.0.len() as u32 + 1;
        self.0.insert(word.to_string(), number);
        number
    }

    /// The number of a word that is in the corpus.
    pub(super) fn known(&self, word: &str) -> Option<u32> {
        self.0.get(word).copied()
    }

    /// The words by number, the first at 0.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = vec![""; self.0.len()];
        for (word, &number) in &self.0 {
            names[number as usize - 1] = word;
        }
        names
    }

    fn caption(&mut self, text: String) -> Caption {
        let words = (text.split([' ', '\u{a0}']))
            .filter(|word| !word.is_empty())
            .map(|word| self.number(word))
            .collect();
        let parts = (text.is_empty() || text.contains('\u{a0}'))
            .then(|| text.split(' ').map(|word| self.number(word)).collect());
        Caption { text, words, parts }
    }
}

impl Corpus {
    /// Tokenizes captions on all cores.
    ///
    /// The order matters in one rare case, as it does to pycocoevalcap: see [`tokenize_before`].
    ///
    /// # Panics
    /// When an image has no reference.
    pub fn new(samples: &[Sample]) -> Self {
        let tokenized: Vec<(String, Vec<String>)> = (0..samples.len())
            .into_par_iter()
            .map(|i| {
                let Sample {
                    candidate,
                    references,
                } = &samples[i];
                assert!(!references.is_empty(), "an image has no reference");
                let next = samples.get(i + 1);
                let next_candidate = next.map_or("", |next| &next.candidate);
                let next_reference = next.map_or("", |next| &next.references[0]);
                let following = references[1..]
                    .iter()
                    .map(String::as_str)
                    .chain([next_reference]);
                let references = (references.iter().zip(following))
                    .map(|(reference, following)| tokenize_before(reference, following));
                (
                    tokenize_before(candidate, next_candidate),
                    references.collect(),
                )
            })
            .collect();
        let mut words = Words::default();
        let images = tokenized
            .into_iter()
            .map(|(candidate, references)| Image {
                candidate: words.caption(candidate),
                references: (references.into_iter())
                    .map(|reference| words.caption(reference))
                    .collect(),
            })
            .collect();
        Self { images, words }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// A candidate as it is scored: its tokens joined by spaces.
    pub fn candidate(&self, image: usize) -> &str {
        &self.images[image].candidate.text
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }
}
