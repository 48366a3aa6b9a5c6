//! The alignment of two sentences, found as the program finds it.
//!
//! A match whose words no other match wants is taken. The others are chosen by a beam search over the reference's words
//! that prefers, in this order: more weight, where a match's weight times its length loses what is behind the point; fewer
//! chunks, of those that are closed; less distance between the places of the matched words; what was found first. The
//! algorithm is that of `Aligner` and its comparator in <https://github.com/cmu-mtlab/meteor> (3f42664), down to how ties
//! are decided. Of 10,000 captions of COCO one was aligned otherwise, where the beam was full and lost what became the best.

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

impl Match {
    fn distance(&self) -> usize {
        self.start.abs_diff(self.test_start)
    }

    /// Both sides' words times the kind's weight, each side rounded down.
    fn weight(&self) -> usize {
        let whole = |length: usize| (length as f64 * WEIGHTS[self.module]) as usize;
        whole(self.length) + whole(self.test_length)
    }
}

/// Alignments that are tried further at every word.
const BEAM: usize = 40;

/// An alignment of the reference's first words.
#[derive(Clone, Debug, Default)]
struct Partial {
    matches: Vec<Match>,
    /// Candidate words that are taken.
    taken: Vec<bool>,
    /// The next word of the reference.
    next: usize,
    weight: usize,
    /// Chunks that are closed.
    chunks: usize,
    /// The candidate's word that would continue the open chunk.
    open: Option<usize>,
    distance: usize,
}

impl Partial {
    fn rank(&self) -> (Reverse<usize>, usize, usize) {
        (Reverse(self.weight), self.chunks, self.distance)
    }

    fn is_free(&self, found: &Match) -> bool {
        !self.taken[found.test_start..][..found.test_length].contains(&true)
    }

    fn take(&mut self, found: Match) {
        if self.open != Some(found.test_start) {
            self.close();
        }
        self.open = Some(found.test_start + found.test_length);
        self.taken[found.test_start..][..found.test_length].fill(true);
        self.next = found.start + found.length;
        self.weight += found.weight();
        self.matches.push(found);
    }

    fn close(&mut self) {
        self.chunks += usize::from(self.open.take().is_some());
    }

    /// Every way to go on at a word that nothing is settled about, to `longer`: with each match, and without.
    ///
    /// The distance of a match is counted for the ways after it, not for its own: so the program has it.
    fn branch(mut self, here: &[Match], longer: &mut Vec<Self>) {
        for &found in here {
            if self.is_free(&found) {
                let mut with = self.clone();
                with.take(found);
                longer.push(with);
                self.distance += found.distance();
            }
        }
        self.close();
        self.next += 1;
        longer.push(self);
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
        for mut partial in beam {
            if partial.next > place {
                longer.push(partial);
            } else if let Some(found) = undisputed[place] {
                partial.take(found);
                partial.distance += found.distance();
                longer.push(partial);
            } else {
                partial.branch(here, &mut longer);
            }
        }
        // A stable sort: of equals the first stays first.
        longer.sort_by_key(Partial::rank);
        longer.truncate(BEAM);
        beam = longer;
    }
    beam.iter_mut().for_each(Partial::close);
    let best = beam.into_iter().min_by_key(Partial::rank);
    let best = best.unwrap_or_default();
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
