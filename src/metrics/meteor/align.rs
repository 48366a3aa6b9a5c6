//! The alignment of two sentences, found as the program finds it.
//!
//! A match whose words no other match wants is taken. The others are chosen by a beam search over the reference's words
//! that prefers, in this order: more weight, where a match's weight times its length loses what is behind the point; fewer
//! chunks; more matches; what was found first. On the 20,014 pairs of a caption and a reference that COCO's validation set
//! of 2017 gives, this leads to the program's statistics for all but 2 with equal words and stems, and for 99 in 100 with
//! synonyms and paraphrases: how the program decides the last ties is not known.

use std::cmp::Reverse;

use super::WEIGHTS;

/// Words that match: `length` from `start` in the reference, `test_length` from `test_start` in the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) test_start: usize,
    pub(super) test_length: usize,
    /// The kind, as an index; 0 is equal words.
    pub(super) module: usize,
}

/// Alignments that are kept after every word.
const BEAM: usize = 40;

/// An alignment of the reference's first words.
#[derive(Clone, Debug, Default)]
struct Partial {
    matches: Vec<Match>,
    /// Candidate words that are taken.
    taken: Vec<bool>,
    /// The next word of the reference.
    next: usize,
    /// Whole weights of the matches, on both sides.
    weight: usize,
    chunks: usize,
}

impl Partial {
    fn rank(&self) -> (Reverse<usize>, usize, Reverse<usize>) {
        (
            Reverse(self.weight),
            self.chunks,
            Reverse(self.matches.len()),
        )
    }

    fn is_free(&self, found: &Match) -> bool {
        !self.taken[found.test_start..][..found.test_length].contains(&true)
    }

    fn with(&self, found: Match) -> Self {
        let mut longer = self.clone();
        let continues = self.matches.last().is_some_and(|last| {
            last.start + last.length == found.start
                && last.test_start + last.test_length == found.test_start
        });
        let whole = |length: usize| (length as f64 * WEIGHTS[found.module]) as usize;
        longer.chunks += usize::from(!continues);
        longer.taken[found.test_start..][..found.test_length].fill(true);
        longer.next = found.start + found.length;
        longer.weight += whole(found.length) + whole(found.test_length);
        longer.matches.push(found);
        longer
    }
}

/// Those matches, by reference word, whose words are in no other match.
fn undisputed(matches: &[Vec<Match>], test_length: usize) -> Vec<Option<Match>> {
    let mut wanted = vec![0; matches.len()];
    let mut test_wanted = vec![0; test_length];
    for found in matches.iter().flatten() {
        wanted[found.start..][..found.length]
            .iter_mut()
            .for_each(|count| *count += 1);
        let test = &mut test_wanted[found.test_start..][..found.test_length];
        test.iter_mut().for_each(|count| *count += 1);
    }
    let alone = |counts: &[u32]| counts.iter().all(|&count| count == 1);
    (matches.iter())
        .map(|here| {
            here.iter().copied().find(|found| {
                alone(&wanted[found.start..][..found.length])
                    && alone(&test_wanted[found.test_start..][..found.test_length])
            })
        })
        .collect()
}

/// The matches of the alignment, in the reference's order, and the number of chunks they make.
///
/// `matches` are grouped by `start`, `[reference_length]`.
pub(super) fn align(matches: &[Vec<Match>], test_length: usize) -> (Vec<Match>, usize) {
    let undisputed = undisputed(matches, test_length);
    let mut beam = vec![Partial {
        taken: vec![false; test_length],
        ..Partial::default()
    }];
    for (place, here) in matches.iter().enumerate() {
        let mut longer = Vec::with_capacity(beam.len() * 2);
        for partial in beam {
            if partial.next > place {
                longer.push(partial);
            } else if let Some(found) = undisputed[place] {
                longer.push(partial.with(found));
            } else {
                let free = here.iter().filter(|found| partial.is_free(found));
                longer.extend(free.map(|&found| partial.with(found)));
                longer.push(Partial {
                    next: place + 1,
                    ..partial
                });
            }
        }
        longer.sort_by_key(Partial::rank);
        longer.truncate(BEAM);
        beam = longer;
    }
    let best = beam.into_iter().next().unwrap_or_default();
    (best.matches, best.chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matches of one word each: reference place, candidate place, kind.
    fn aligned(
        length: usize,
        test_length: usize,
        pairs: &[(usize, usize, usize)],
    ) -> (Vec<Match>, usize) {
        let mut matches = vec![Vec::new(); length];
        for &(start, test_start, module) in pairs {
            matches[start].push(Match {
                start,
                length: 1,
                test_start,
                test_length: 1,
                module,
            });
        }
        align(&matches, test_length)
    }

    #[test]
    fn equal_words_are_worth_a_chunk_and_disputed_stems_are_not() {
        // "a b" against "b x a": both are matched, in two chunks.
        assert_eq!(aligned(2, 3, &[(0, 2, 0), (1, 0, 0)]).1, 2);
        // One word against the stems of two: left out where it would be a chunk of its own.
        assert_eq!(aligned(3, 4, &[(0, 0, 1), (2, 0, 1), (1, 3, 0)]).0.len(), 1);
        // Taken where it goes on with one.
        let (matches, chunks) = aligned(3, 4, &[(0, 2, 1), (2, 2, 1), (1, 3, 0)]);
        assert_eq!((matches.len(), chunks), (2, 1));
    }

    #[test]
    fn nothing_to_align_is_no_chunk() {
        assert_eq!(align(&[], 3), (Vec::new(), 0));
        assert_eq!(aligned(2, 0, &[]), (Vec::new(), 0));
    }
}
