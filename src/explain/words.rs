//! Which tokens say what is in the image, and which only hold the sentence together.

/// English words that say nothing of an image by themselves.
const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "after", "all", "along", "also", "an", "and", "another", "are", "around", "as",
    "at", "be", "been", "being", "but", "by", "can", "do", "does", "down", "each", "else", "for",
    "from", "has", "have", "he", "her", "his", "i", "if", "in", "into", "is", "it", "its",
    "itself", "no", "not", "nothing", "of", "off", "on", "one", "onto", "or", "other", "out",
    "over", "she", "so", "some", "that", "the", "their", "them", "there", "these", "they", "this",
    "those", "through", "to", "up", "was", "we", "were", "what", "where", "which", "while", "who",
    "with", "you", "your",
];

/// Whether each token is a part of a content word: neither a function word nor a mark. `texts`: the tokens' texts in order, where
/// words begin with a space or after a mark.
pub fn content(texts: &[&str]) -> Vec<bool> {
    let mut content = vec![false; texts.len()];
    let mut start = 0;
    while start < texts.len() {
        let begins = |index: usize| {
            let is_mark = |text: &str| !text.chars().any(char::is_alphanumeric);
            texts[index].starts_with(char::is_whitespace)
                || is_mark(texts[index])
                || is_mark(texts[index - 1])
        };
        let end = (start + 1..texts.len())
            .find(|&index| begins(index))
            .unwrap_or(texts.len());
        let word = texts[start..end].concat();
        let word = word
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        let says = !word.is_empty() && !FUNCTION_WORDS.contains(&word.as_str());
        content[start..end].fill(says);
        start = end;
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_by_what_they_are_made_of() {
        let texts = ["A", " red", " cro", "ss", " on", " its", " own", ".", "The"];
        let expected = [false, true, true, true, false, false, true, false, false];
        assert_eq!(content(&texts), expected);
        let texts = ["An", "other", " t", "-", "shirt", "."];
        assert_eq!(content(&texts), [false, false, true, false, true, false]);
        assert!(content(&[]).is_empty());
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(FUNCTION_WORDS.is_sorted());
    }
}
