//! No sequence of `n` tokens twice in a caption.

/// The tokens that would repeat, after `prompt` and `tokens`, a sequence of `n` tokens that stands there already, in
/// order. None with `n` 0, and none when the rule leaves no token of the vocabulary: then it gives way.
pub fn banned(prompt: &[u32], tokens: &[u32], n: usize, vocab_size: usize) -> Vec<u32> {
    let read: Vec<u32> = [prompt, tokens].concat();
    if n == 0 || read.len() < n {
        return Vec::new();
    }
    let ending = &read[read.len() + 1 - n..];
    let mut banned: Vec<u32> = read
        .windows(n)
        .filter(|window| window[..n - 1] == *ending)
        .map(|window| window[n - 1])
        .collect();
    banned.sort_unstable();
    banned.dedup();
    if banned.len() == vocab_size {
        banned.clear();
    }
    banned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_complete_a_known_sequence_is_banned() {
        assert_eq!(banned(&[], &[1, 2, 3, 1], 2, 9), [2]);
        assert_eq!(banned(&[], &[1, 2, 1, 4, 1], 2, 9), [2, 4]);
        assert_eq!(banned(&[], &[1, 2, 3, 1, 2], 3, 9), [3]);
        assert_eq!(banned(&[], &[1, 2, 3], 2, 9), [0; 0]);
        assert_eq!(banned(&[], &[3, 1, 3], 1, 9), [1, 3]);
        assert_eq!(banned(&[1, 2], &[5, 1], 2, 9), [2], "the prompt counts");
        assert_eq!(banned(&[], &[1, 1], 0, 9), [0; 0]);
        assert_eq!(banned(&[], &[1], 4, 9), [0; 0]);
    }

    #[test]
    fn a_rule_that_leaves_nothing_gives_way() {
        assert_eq!(banned(&[], &[0, 1], 1, 2), [0; 0]);
    }
}
