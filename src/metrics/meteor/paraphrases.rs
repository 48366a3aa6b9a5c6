//! Phrases that mean the same, by METEOR's table.

use std::io::{self, BufRead};

use rustc_hash::{FxHashMap, FxHashSet};

use super::align::Match;

/// Paraphrases by phrase, both as words joined by spaces.
#[derive(Default)]
pub(super) struct Paraphrases {
    of: FxHashMap<String, Vec<Vec<String>>>,
    longest: usize,
}

impl Paraphrases {
    /// Reads a table: a probability, a phrase and another on three lines each. Pairs with a word that is not in `vocabulary`
    /// cannot match anything and are left out.
    ///
    /// # Errors
    /// When reading fails, or the last entry is not whole.
    pub(super) fn read(
        mut table: impl BufRead,
        vocabulary: &FxHashSet<String>,
    ) -> io::Result<Self> {
        let mut paraphrases = Self::default();
        let mut lines = [String::new(), String::new(), String::new()];
        loop {
            for (i, line) in lines.iter_mut().enumerate() {
                line.clear();
                if table.read_line(line)? == 0 {
                    return match i {
                        0 => Ok(paraphrases),
                        _ => Err(io::Error::other("the last entry is not whole")),
                    };
                }
            }
            let [_, phrase, other] = &lines;
            let known = |phrase: &str| {
                phrase
                    .split_ascii_whitespace()
                    .all(|word| vocabulary.contains(word))
            };
            // Both ways, and twice where the table has both: then it is no undisputed match.
            if known(phrase) && known(other) {
                paraphrases.learn(phrase, other);
                paraphrases.learn(other, phrase);
            }
        }
    }

    fn learn(&mut self, phrase: &str, other: &str) {
        let words: Vec<&str> = phrase.split_ascii_whitespace().collect();
        let other: Vec<String> = other.split_ascii_whitespace().map(String::from).collect();
        self.longest = self.longest.max(words.len());
        self.of.entry(words.join(" ")).or_default().push(other);
    }

    /// Adds the matches of two sentences' phrases to those already found, by the reference word they start at.
    pub(super) fn add(&self, test: &[String], reference: &[String], found: &mut [Vec<Match>]) {
        for test_start in 0..test.len() {
            let mut phrase = String::new();
            for (more, word) in test[test_start..].iter().take(self.longest).enumerate() {
                if more > 0 {
                    phrase.push(' ');
                }
                phrase.push_str(word);
                for other in self.of.get(&phrase).into_iter().flatten() {
                    for (start, window) in reference.windows(other.len()).enumerate() {
                        if window == other {
                            found[start].push(Match {
                                start,
                                length: other.len(),
                                test_start,
                                test_length: more + 1,
                                module: 3,
                            });
                        }
                    }
                }
            }
        }
    }
}
