//! The best few of what beams may become.

/// A possible next beam: `beams[source]` with `token`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// By which it is compared.
    pub score: f32,
    pub source: usize,
    pub token: u32,
}

/// The largest few of the candidates offered, largest first, the earlier of equals before the later.
pub struct Best {
    pub candidates: Vec<Candidate>,
    room: usize,
}

impl Best {
    pub fn new(room: usize) -> Self {
        Self {
            candidates: Vec::with_capacity(room + 1),
            room,
        }
    }

    pub fn offer(&mut self, candidate: Candidate) {
        if self.candidates.len() == self.room
            && self
                .candidates
                .last()
                .is_some_and(|worst| candidate.score <= worst.score)
        {
            return;
        }
        let place = self
            .candidates
            .partition_point(|other| other.score >= candidate.score);
        self.candidates.insert(place, candidate);
        self.candidates.truncate(self.room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_candidates_the_earlier_wins() {
        let mut best = Best::new(2);
        for (source, score) in [(0, -1.0), (1, -1.0), (2, -1.0), (3, -0.5)] {
            best.offer(Candidate {
                score,
                source,
                token: 0,
            });
        }
        let sources: Vec<usize> = best
            .candidates
            .iter()
            .map(|candidate| candidate.source)
            .collect();
        assert_eq!(sources, [3, 0]);
    }
}
