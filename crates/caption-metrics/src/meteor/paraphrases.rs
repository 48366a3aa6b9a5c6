//! Phrases that mean the same, by METEOR's table.

use std::io::{self, BufRead};

use rustc_hash::{FxHashMap, FxHashSet};

use super::align::Match;

/// Paraphrases by phrase, which is words joined by spaces; in the table's order.
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
            if known(phrase) && known(other) {
                paraphrases.learn(phrase, other);
            }
        }
    }

    fn learn(&mut self, phrase: &str, other: &str) {
        let words: Vec<&str> = phrase.split_ascii_whitespace().collect();
        let other: Vec<String> = other.split_ascii_whitespace().map(String::from).collect();
        self.longest = self.longest.max(words.len());
        self.of.entry(words.join(" ")).or_default().push(other);
    }

    /// Adds the matches of two sentences' phrases to those already found, by the reference word they start at: first of the
    /// reference's phrases with what the table has beside them in the candidate, then of the candidate's with what it has
    /// in the reference. A pair that the table has both ways is two matches, and none of them undisputed.
    pub(super) fn add(&self, test: &[String], reference: &[String], found: &mut [Vec<Match>]) {
        self.find(reference, test, |start, length, test_start, test_length| {
            found[start].push(Match {
                start,
                length,
                test_start,
                test_length,
                module: 3,
            });
        });
        self.find(test, reference, |test_start, test_length, start, length| {
            found[start].push(Match {
                start,
                length,
                test_start,
                test_length,
                module: 3,
            });
        });
    }

    /// Calls `take` with the place and length of every phrase of `words`, and of a paraphrase of it in `others`; shorter
    /// phrases first at a place, paraphrases in the table's order.
    fn find(
        &self,
        words: &[String],
        others: &[String],
        mut take: impl FnMut(usize, usize, usize, usize),
    ) {
        for start in 0..words.len() {
            let mut phrase = String::new();
            for (more, word) in words[start..].iter().take(self.longest).enumerate() {
                if more > 0 {
                    phrase.push(' ');
                }
                phrase.push_str(word);
                for other in self.of.get(&phrase).into_iter().flatten() {
                    for (place, window) in others.windows(other.len()).enumerate() {
                        if window == other {
                            take(start, more + 1, place, other.len());
                        }
                    }
                }
            }
        }
    }
}
