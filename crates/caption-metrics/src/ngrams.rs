//! Runs of one to four words, each packed into one number.

/// Orders that are counted: 1 to 4 words.
pub(super) const ORDERS: usize = 4;

/// Up to four word numbers of 32 bits, the last one lowest. Words count from 1, so the highest place that is not 0 tells
/// the order.
pub(super) type Ngram = u128;

/// The order of an n-gram, counted from 0.
pub(super) fn order(ngram: Ngram) -> usize {
    (127 - ngram.leading_zeros() as usize) / 32
}

/// A caption's n-grams of all orders, sorted, each with how often it occurs.
pub(super) fn count(words: &[u32]) -> Vec<(Ngram, u32)> {
    let mut ngrams = Vec::with_capacity(ORDERS * words.len());
    for start in 0..words.len() {
        let mut ngram = 0;
        for &word in words[start..].iter().take(ORDERS) {
            ngram = ngram << 32 | Ngram::from(word);
            ngrams.push(ngram);
        }
    }
    ngrams.sort_unstable();
    let mut counts: Vec<(Ngram, u32)> = Vec::with_capacity(ngrams.len());
    for ngram in ngrams {
        match counts.last_mut() {
            Some((last, count)) if *last == ngram => *count += 1,
            _ => counts.push((ngram, 1)),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_up_to_four_words_is_counted_under_its_order() {
        let counts = count(&[1, 2, 1, 2, 1]);
        let of_order = |n| counts.iter().filter(move |(ngram, _)| order(*ngram) == n);
        assert_eq!(of_order(0).map(|(_, count)| count).sum::<u32>(), 5);
        assert_eq!(
            of_order(1).map(|(_, count)| *count).collect::<Vec<_>>(),
            [2, 2]
        );
        assert_eq!(of_order(3).count(), 2);
        assert!(count(&[]).is_empty());
    }
}
