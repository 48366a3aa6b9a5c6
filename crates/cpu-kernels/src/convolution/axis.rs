//! How the places of a convolution's output lie over its input, along one axis.

use std::ops::Range;

/// Places in a row, each of which sees a window of a source and is written to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub source: usize,
    /// Where the first place's window begins. Before and behind the source there are zeros.
    pub first: isize,
    /// From a place's window to the next one's.
    pub step: usize,
    pub window: usize,
    pub places: usize,
    pub target: usize,
    /// Where the first place is written.
    pub target_first: usize,
    /// From there to where the next one is.
    pub target_step: usize,
}

impl Axis {
    /// From a convolution's input to its output.
    pub fn forward(source: usize, window: usize, step: usize, padding: usize) -> Self {
        let reach = source + 2 * padding;
        assert!(reach >= window, "a kernel wider than what it is laid on");
        let places = (reach - window) / step + 1;
        Self {
            source,
            first: -(padding as isize),
            step,
            window,
            places,
            target: places,
            target_first: 0,
            target_step: 1,
        }
    }

    /// From the gradient of the output back to that of the input: one for each rest that a position of the padded input has when
    /// divided by the step. Its places see the taps of the same rest, from the last to the first.
    pub fn backward(self, rest: usize) -> Self {
        let padding = self.first.unsigned_abs();
        let window = self.window.saturating_sub(rest).div_ceil(self.step);
        let first = (rest as isize - padding as isize).rem_euclid(self.step as isize) as usize;
        // The last output that sees the first of these places.
        let seen = (first + padding - rest) / self.step;
        Self {
            source: self.places,
            first: seen as isize + 1 - window as isize,
            step: 1,
            window,
            places: self.source.saturating_sub(first).div_ceil(self.step),
            target: self.source,
            target_first: first,
            target_step: self.step,
        }
    }

    /// The taps that a place of [`Self::backward`] sees, in the order of its window.
    pub fn taps(self, rest: usize) -> impl Iterator<Item = usize> + Clone {
        (rest..self.window).step_by(self.step).rev()
    }

    /// Positions of the source, zeros among them, that so many places see in all.
    pub fn span(self, places: usize) -> usize {
        match places {
            0 => 0,
            places => (places - 1) * self.step + self.window,
        }
    }

    /// Of the positions that all places see, those that are in the source.
    pub fn inside(self) -> Range<usize> {
        let [start, end] = [0, self.source as isize]
            .map(|end| (end - self.first).clamp(0, self.span(self.places) as isize) as usize);
        start..end
    }

    /// The position of the source that is `index` behind the first place's first.
    pub fn position(self, index: usize) -> Option<usize> {
        usize::try_from(self.first + index as isize)
            .ok()
            .filter(|position| *position < self.source)
    }

    /// Where a place is written.
    pub fn target(self, place: usize) -> usize {
        self.target_first + place * self.target_step
    }
}
