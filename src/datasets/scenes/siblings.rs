//! Scenes that are alike but for one thing.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::draw::contrast;
use super::{
    Background, Color, GRID, JITTER, Kind, Object, Relation, SIDE, Scene, Shape, Size,
    VISIBLE_CONTRAST, apart, changed, scene,
};

/// A scene and the likes of it, at most.
pub const SIBLINGS: usize = 8;
/// Changes of one kind, and of any, that are tried for the siblings of one scene.
const ATTEMPTS: usize = 60;
/// How much larger a large object is than a small one.
const GROWTH: f32 = 1.82;

/// What tells a sibling from the first scene. Numbers say how many places further on in the list of all values the new
/// one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    MainShape(usize),
    MainColor(usize),
    SecondShape(usize),
    SecondColor(usize),
    /// Which of the two objects has which shape, color, or both.
    SwappedShapes,
    SwappedColors,
    SwappedKinds,
    Relation(usize),
    Background(usize),
    /// Large or small.
    Size,
    /// Two or three.
    Number,
}

/// A scene and the likes of it, each of which differs from it in one fact that its first caption names: the other facts
/// and the wording stay, and no two first captions are the same. Most of them differ in the same fact: what they have in
/// common cannot tell them apart. All objects can be seen against the background; there are at most [`SIBLINGS`].
pub fn siblings(seed: u64, index: u64) -> Vec<Scene> {
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    rng.set_stream(index);
    let first = scene(seed, index);
    let choices = Change::of(&first);
    // As many as can be had of one kind of change, then of any.
    let focus = [*choices
        .choose(&mut rng)
        .expect("every scene can be changed")];
    let mut all = vec![first];
    for choices in [&focus[..], choices] {
        for _ in 0..ATTEMPTS {
            if all.len() == SIBLINGS {
                break;
            }
            let change = Change::draw(choices, &mut rng);
            let sibling = changed(seed, index, |scene| change.apply(scene));
            let known = (all.iter()).any(|other| other.captions[0] == sibling.captions[0]);
            if sibling.is_visible() && !known {
                all.push(sibling);
            }
        }
    }
    all
}

impl Change {
    // Shapes stand here most often: they are learned last, colors first.
    const PAIR: &[Self] = &[
        Self::MainShape(0),
        Self::MainShape(0),
        Self::MainShape(0),
        Self::SecondShape(0),
        Self::SecondShape(0),
        Self::SecondShape(0),
        Self::MainColor(0),
        Self::SecondColor(0),
        Self::SwappedShapes,
        Self::SwappedColors,
        Self::SwappedKinds,
        Self::Relation(0),
        Self::Relation(0),
        Self::Background(0),
    ];
    const ONE: &[Self] = &[
        Self::MainShape(0),
        Self::MainShape(0),
        Self::MainShape(0),
        Self::MainColor(0),
        Self::Background(0),
        Self::Size,
    ];
    const SEVERAL: &[Self] = &[
        Self::MainShape(0),
        Self::MainShape(0),
        Self::MainShape(0),
        Self::MainColor(0),
        Self::Background(0),
        Self::Number,
        Self::Number,
    ];

    /// What can be changed of a scene.
    fn of(scene: &Scene) -> &'static [Self] {
        match (&scene.second, scene.main.len()) {
            (Some(_), _) => Self::PAIR,
            (None, 1) => Self::ONE,
            (None, _) => Self::SEVERAL,
        }
    }

    /// One of the choices, with a random number.
    fn draw(choices: &[Self], rng: &mut ChaCha8Rng) -> Self {
        let change = *choices.choose(rng).expect("every scene can be changed");
        let mut turn = |values: usize| rng.random_range(1..values);
        match change {
            Self::MainShape(_) => Self::MainShape(turn(Shape::ALL.len())),
            Self::MainColor(_) => Self::MainColor(turn(Color::ALL.len())),
            Self::SecondShape(_) => Self::SecondShape(turn(Shape::ALL.len())),
            Self::SecondColor(_) => Self::SecondColor(turn(Color::ALL.len())),
            Self::Relation(_) => Self::Relation(turn(Relation::ALL.len())),
            Self::Background(_) => Self::Background(turn(Background::ALL.len())),
            other => other,
        }
    }

    fn apply(self, scene: &mut Scene) {
        let main = scene.main.iter_mut().map(|object| &mut object.kind);
        let mut second = scene.second.as_mut().map(|(object, _)| &mut object.kind);
        match self {
            Self::MainShape(turn) => {
                main.for_each(|kind| kind.shape = turned(&Shape::ALL, kind.shape, turn))
            }
            Self::MainColor(turn) => {
                main.for_each(|kind| kind.color = turned(&Color::ALL, kind.color, turn))
            }
            Self::SecondShape(turn) => second
                .iter_mut()
                .for_each(|kind| kind.shape = turned(&Shape::ALL, kind.shape, turn)),
            Self::SecondColor(turn) => second
                .iter_mut()
                .for_each(|kind| kind.color = turned(&Color::ALL, kind.color, turn)),
            Self::SwappedShapes => main
                .zip(second)
                .for_each(|(main, second)| std::mem::swap(&mut main.shape, &mut second.shape)),
            Self::SwappedColors => main
                .zip(second)
                .for_each(|(main, second)| std::mem::swap(&mut main.color, &mut second.color)),
            Self::SwappedKinds => main
                .zip(second)
                .for_each(|(main, second)| std::mem::swap(main, second)),
            Self::Relation(turn) => scene.turn_relation(turn),
            Self::Background(turn) => {
                scene.background = turned(&Background::ALL, scene.background, turn)
            }
            Self::Size => scene.change_size(),
            Self::Number => scene.change_number(),
        }
    }
}

/// The value that is so many places further on in the list of all.
fn turned<T: Copy + PartialEq>(all: &[T], value: T, turn: usize) -> T {
    let place = all.iter().position(|&other| other == value).unwrap_or(0);
    all[(place + turn) % all.len()]
}

impl Scene {
    /// Mirrors both objects' places, or turns them over, until the relation is the one wanted.
    fn turn_relation(&mut self, turn: usize) {
        let Some((second, relation)) = &mut self.second else {
            return;
        };
        let wanted = turned(&Relation::ALL, *relation, turn);
        let flat = |relation| matches!(relation, Relation::LeftOf | Relation::RightOf);
        let first = |relation| matches!(relation, Relation::LeftOf | Relation::Above);
        for object in self.main.iter_mut().chain([second]) {
            if flat(*relation) != flat(wanted) {
                std::mem::swap(&mut object.x, &mut object.y);
            }
            if first(*relation) != first(wanted) {
                let place = match flat(wanted) {
                    true => &mut object.x,
                    false => &mut object.y,
                };
                *place = SIDE as f32 - *place;
            }
        }
        *relation = wanted;
    }

    /// Makes a large object small, and the other way round; it stays within the image.
    fn change_size(&mut self) {
        let factor = match self.size {
            Size::Small => GROWTH,
            Size::Large => 1.0 / GROWTH,
        };
        self.size = match self.size {
            Size::Small => Size::Large,
            Size::Large => Size::Small,
        };
        for object in &mut self.main {
            object.radius *= factor;
            let margin = object.radius + JITTER;
            for place in [&mut object.x, &mut object.y] {
                *place = place.clamp(margin, SIDE as f32 - margin);
            }
        }
    }

    /// Takes the third object away, or puts one where there is room.
    fn change_number(&mut self) {
        if self.main.len() == 3 {
            self.main.pop();
            return;
        }
        let like = self.main[0];
        let first = ((like.radius + JITTER - GRID / 2.0) / GRID).ceil() as u32;
        let cells = first..SIDE / GRID as u32 - first;
        let middle = |cell: u32| (cell as f32 + 0.5) * GRID;
        let third = cells
            .clone()
            .flat_map(|x| cells.clone().map(move |y| (middle(x), middle(y))))
            .map(|(x, y)| Object { x, y, ..like })
            .find(|third| self.main.iter().all(|other| apart(other, third)));
        self.main.extend(third);
    }

    /// Whether all objects stand out against the background, and the second from the main ones.
    fn is_visible(&self) -> bool {
        let second = self.second.map(|(object, _)| object.kind);
        let stands_out = |kind: Kind| contrast(kind.color, self.background) > VISIBLE_CONTRAST;
        stands_out(self.kind()) && second.is_none_or(|kind| kind != self.kind() && stands_out(kind))
    }
}

/// Every scene that differs from one in one fact, whatever its captions name, and can be seen.
#[cfg(test)]
pub(super) fn all_changes(seed: u64, index: u64) -> Vec<Scene> {
    let turns = |values: usize, change: fn(usize) -> Change| (1..values).map(change);
    let first = scene(seed, index);
    let mut changes: Vec<Change> = turns(Shape::ALL.len(), Change::MainShape).collect();
    changes.extend(turns(Color::ALL.len(), Change::MainColor));
    changes.extend(turns(Background::ALL.len(), Change::Background));
    match (&first.second, first.main.len()) {
        (Some(_), _) => {
            changes.extend(turns(Shape::ALL.len(), Change::SecondShape));
            changes.extend(turns(Color::ALL.len(), Change::SecondColor));
            changes.extend(turns(Relation::ALL.len(), Change::Relation));
        }
        (None, 1) => changes.push(Change::Size),
        (None, _) => changes.push(Change::Number),
    }
    let scenes = changes
        .into_iter()
        .map(|change| changed(seed, index, |scene| change.apply(scene)));
    scenes
        .filter(|scene| scene.is_visible() && *scene != first)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_SEED;
    use super::*;
    use crate::datasets::scenes::is_true;

    #[test]
    fn siblings_differ_from_the_first_in_what_their_first_captions_name() {
        let mut full = 0;
        for index in 0..300 {
            let all = siblings(SAMPLE_SEED, index);
            assert_eq!(all[0], scene(SAMPLE_SEED, index));
            assert_eq!(all, siblings(SAMPLE_SEED, index));
            full += usize::from(all.len() == SIBLINGS);
            for (i, a) in all.iter().enumerate() {
                assert!(is_true(&a.captions[0], a));
                assert!(a.is_visible());
                for b in &all[..i] {
                    assert_ne!(a.captions[0], b.captions[0]);
                }
            }
        }
        assert!(full > 290, "{full}");
    }

    #[test]
    fn changed_scenes_are_drawn_as_they_are_told() {
        let mut seen = [0; 3];
        for index in 0..300 {
            let first = scene(SAMPLE_SEED, index);
            for changed in all_changes(SAMPLE_SEED, index) {
                let mut objects = changed.main.clone();
                objects.extend(changed.second.map(|(object, _)| object));
                for (i, a) in objects.iter().enumerate() {
                    let inside = |value: f32| value >= a.radius && value + a.radius <= SIDE as f32;
                    assert!(inside(a.x) && inside(a.y), "{a:?}");
                    assert!(objects[..i].iter().all(|b| apart(a, b)));
                }
                if let Some((second, relation)) = changed.second {
                    let main = changed.main[0];
                    let (dx, dy) = (main.x - second.x, main.y - second.y);
                    let distance = match relation {
                        Relation::LeftOf => -dx,
                        Relation::RightOf => dx,
                        Relation::Above => -dy,
                        Relation::Below => dy,
                    };
                    assert!(distance >= dx.abs().max(dy.abs()), "{changed:?}");
                    seen[0] += usize::from(Some(relation) != first.second.map(|(_, r)| r));
                }
                if changed.second.is_none() && changed.main.len() == 1 {
                    let large = changed.main[0].radius > 22.0;
                    assert_eq!(large, changed.size == Size::Large);
                    seen[1] += usize::from(changed.size != first.size);
                }
                seen[2] += usize::from(changed.main.len() != first.main.len());
            }
        }
        assert!(seen.iter().all(|&count| count > 30), "{seen:?}");
    }
}
