//! Words that no caption has, as sequences of tokens: Hugging Face's `bad_words_ids`.
//!
//! Unlike there (`NoBadWordsLogitsProcessor` of transformers 5.17 wants as many tokens before as the sequence has), a
//! sequence that a caption begins with is banned too.

/// The tokens that would complete, after `prompt` and `tokens`, one of the sequences `words`. A stop token by itself is
/// no word.
pub fn banned<'a>(
    prompt: &'a [u32],
    tokens: &'a [u32],
    words: &'a [Vec<u32>],
    stop_tokens: &'a [u32],
) -> impl Iterator<Item = u32> + 'a {
    words.iter().filter_map(move |word| {
        let (&last, before) = word.split_last()?;
        let stops = before.is_empty() && stop_tokens.contains(&last);
        (!stops && ends_with(prompt, tokens, before)).then_some(last)
    })
}

/// Whether `prompt` and `tokens` together end with `ending`.
fn ends_with(prompt: &[u32], tokens: &[u32], ending: &[u32]) -> bool {
    match ending.len().checked_sub(tokens.len()) {
        None | Some(0) => tokens.ends_with(ending),
        Some(before) => prompt.ends_with(&ending[..before]) && ending[before..] == *tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(prompt: &[u32], tokens: &[u32], words: &[&[u32]]) -> Vec<u32> {
        let words: Vec<Vec<u32>> = words.iter().map(|word| word.to_vec()).collect();
        banned(prompt, tokens, &words, &[9]).collect()
    }

    #[test]
    fn what_would_complete_a_word_is_banned() {
        let words: [&[u32]; 4] = [&[5], &[1, 2], &[3, 1, 7], &[9]];
        assert_eq!(after(&[], &[], &words), [5], "a stop token may come");
        assert_eq!(after(&[], &[1], &words), [5, 2]);
        assert_eq!(after(&[], &[4, 3, 1], &words), [5, 2, 7]);
        assert_eq!(after(&[], &[1, 3], &words), [5]);
        assert_eq!(
            after(&[4, 3], &[1], &words),
            [5, 2, 7],
            "begun in the prompt"
        );
        assert_eq!(after(&[3], &[], &[&[]]), [0; 0]);
    }
}
