//! Scenes that are alike but for one thing.

use super::draw::contrast;
use super::{Color, Kind, Scene, Shape, VISIBLE_CONTRAST, changed, scene};

/// A scene and the likes of it, at most: there are as many shapes as colors.
pub const SIBLINGS: usize = Shape::ALL.len();

/// What tells siblings apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    MainShape,
    MainColor,
    /// The main object's shape, and which of the two objects has which.
    Shapes,
    /// The main object's color, and which of the two objects has which.
    Colors,
}

impl Attribute {
    /// That of a scene's siblings.
    fn of(index: u64, has_second: bool) -> Self {
        match (index.is_multiple_of(2), has_second) {
            (true, false) => Self::MainShape,
            (false, false) => Self::MainColor,
            (true, true) => Self::Shapes,
            (false, true) => Self::Colors,
        }
    }
}

/// A scene and the likes of it that differ in one [`Attribute`] alone: places, everything else and the wording of the
/// captions stay. All can be seen against the background; there are at most [`SIBLINGS`].
pub fn siblings(seed: u64, index: u64) -> Vec<Scene> {
    let first = scene(seed, index);
    let attribute = Attribute::of(index, first.second.is_some());
    let mut all = vec![first];
    for turn in 1..SIBLINGS {
        let sibling = changed(seed, index, |scene| scene.turn(attribute, turn));
        if sibling.is_visible() && !all.contains(&sibling) {
            all.push(sibling);
        }
    }
    all
}

impl Shape {
    /// The shape so many places further on.
    fn turned(self, turn: usize) -> Self {
        Self::ALL[(self as usize + turn) % Self::ALL.len()]
    }
}

impl Color {
    /// The color so many places further on.
    fn turned(self, turn: usize) -> Self {
        Self::ALL[(self as usize + turn) % Self::ALL.len()]
    }
}

impl Scene {
    /// Gives an attribute the value that is so many places further on in the list of all. Of [`Attribute::Shapes`] and
    /// [`Attribute::Colors`], every odd turn is the one before it with the two objects' values swapped.
    fn turn(&mut self, attribute: Attribute, turn: usize) {
        let swap = turn % 2 == 1;
        let main = self.main.iter_mut().map(|object| &mut object.kind);
        let second = self.second.iter_mut().map(|(object, _)| &mut object.kind);
        match attribute {
            Attribute::MainShape => main.for_each(|kind| kind.shape = kind.shape.turned(turn)),
            Attribute::MainColor => main.for_each(|kind| kind.color = kind.color.turned(turn)),
            Attribute::Shapes => main.zip(second).for_each(|(main, second)| {
                main.shape = main.shape.turned(turn / 2);
                if swap {
                    std::mem::swap(&mut main.shape, &mut second.shape);
                }
            }),
            Attribute::Colors => main.zip(second).for_each(|(main, second)| {
                main.color = main.color.turned(turn / 2);
                if swap {
                    std::mem::swap(&mut main.color, &mut second.color);
                }
            }),
        }
    }

    /// Whether all objects stand out against the background, and the second from the main ones.
    fn is_visible(&self) -> bool {
        let second = self.second.map(|(object, _)| object.kind);
        let stands_out = |kind: Kind| contrast(kind.color, self.background) > VISIBLE_CONTRAST;
        stands_out(self.kind()) && second.is_none_or(|kind| kind != self.kind() && stands_out(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::scenes::SAMPLE_SEED;

    #[test]
    fn siblings_differ_in_one_attribute_alone() {
        let mut counts = [0; 4];
        for index in 0..300 {
            let all = siblings(SAMPLE_SEED, index);
            let first = &all[0];
            assert_eq!(*first, scene(SAMPLE_SEED, index));
            assert!((3..=SIBLINGS).contains(&all.len()), "{}", all.len());
            let attribute = Attribute::of(index, first.second.is_some());
            counts[attribute as usize] += 1;
            for (i, other) in all.iter().enumerate().skip(1) {
                let values = |scene: &Scene| {
                    let second = scene.second.map(|(object, _)| object.kind);
                    [
                        Some(scene.kind().shape as usize),
                        Some(scene.kind().color as usize),
                        second.map(|kind| kind.shape as usize),
                        second.map(|kind| kind.color as usize),
                    ]
                };
                let changed: Vec<usize> = (0..4)
                    .filter(|&place| values(first)[place] != values(other)[place])
                    .collect();
                let expected: &[usize] = match attribute {
                    Attribute::MainShape => &[0],
                    Attribute::MainColor => &[1],
                    Attribute::Shapes => &[0, 2],
                    Attribute::Colors => &[1, 3],
                };
                assert!(!changed.is_empty());
                assert!(changed.iter().all(|place| expected.contains(place)));
                assert_eq!(first.background, other.background);
                assert_eq!(
                    (first.main[0].x, first.main.len()),
                    (other.main[0].x, other.main.len())
                );
                assert!(
                    all[..i]
                        .iter()
                        .all(|earlier| earlier.captions != other.captions)
                );
                for (a, b) in first.captions.iter().zip(&other.captions) {
                    assert_eq!(a.split(' ').count(), b.split(' ').count(), "{a} {b}");
                }
            }
        }
        assert!(counts.iter().all(|&count| count > 15), "{counts:?}");
    }
}
