//! Words that share a meaning, by WordNet as METEOR packs it.

use rustc_hash::FxHashMap;

/// The number of a synset.
pub(super) type SynsetId = u32;

/// Endings of inflected nouns, verbs and adjectives, and what stands in their place, in the program's order: WordNet's
/// (`morphy`), with the plain `s` before all.
const ENDINGS: [(&str, &str); 18] = [
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
];

/// Letters of the longest word that is not taken for an inflected one.
const SHORT: usize = 2;

/// Synsets by word, and the words that irregular forms come from.
pub(super) struct Synonyms {
    synsets: FxHashMap<String, Vec<SynsetId>>,
    exceptions: FxHashMap<String, Vec<String>>,
}

impl Synonyms {
    /// Reads `english.synsets` (a word, then its synsets, on alternate lines) and `english.exceptions` (a word, then its
    /// irregular forms).
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub(super) fn read(synsets: &str, exceptions: &str) -> Result<Self, String> {
        let mut words = FxHashMap::default();
        for (number, word, ids) in pairs(synsets) {
            let ids = (ids.split_ascii_whitespace())
                .map(|id| id.parse())
                .collect::<Result<Vec<SynsetId>, _>>()
                .map_err(|_| format!("line {number} is not a list of synsets: `{ids}`"))?;
            words.insert(word.to_string(), ids);
        }
        let mut bases: FxHashMap<String, Vec<String>> = FxHashMap::default();
        for (_, word, forms) in pairs(exceptions) {
            for form in forms.split_ascii_whitespace() {
                bases
                    .entry(form.to_string())
                    .or_default()
                    .push(word.to_string());
            }
        }
        if words.is_empty() {
            return Err("it holds no synset".to_string());
        }
        Ok(Self {
            synsets: words,
            exceptions: bases,
        })
    }

    /// The synsets of a word and of what it may be a form of: by the exceptions if it is one, else by the first ending that
    /// gives a known word.
    pub(super) fn synsets(&self, word: &str) -> Vec<SynsetId> {
        let of = |word: &str| self.synsets.get(word);
        let mut found = of(word).cloned().unwrap_or_default();
        if let Some(bases) = self.exceptions.get(word) {
            found.extend(bases.iter().filter_map(|base| of(base)).flatten());
        } else if word.chars().nth(SHORT).is_some() && !word.ends_with("ss") {
            let base = ENDINGS.iter().find_map(|(ending, instead)| {
                let start = word.strip_suffix(ending)?;
                of(&format!("{start}{instead}"))
            });
            found.extend(base.into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Lines two by two, with the number of the second.
fn pairs(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (_, first) = lines.next()?;
        let (number, second) = lines.next()?;
        Some((number + 1, first, second))
    })
}
