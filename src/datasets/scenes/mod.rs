//! The sample data set: captioned scenes of simple shapes, the same on every machine.
//!
//! A scene has a main object (or two or three of a kind) and in about half the cases a second, smaller one beside it.
//! Everything follows from a seed and an index.

mod draw;
mod files;
mod siblings;
mod truth;
mod words;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use draw::draw;
pub use files::ensure;
pub use siblings::{SIBLINGS, siblings};
pub use truth::{SceneScores, SceneSet, is_true};
pub use words::{Facts, mentions, parse};

/// Side of an image in pixels.
pub const SIDE: u32 = 96;
/// Seed of the sample set.
pub const SAMPLE_SEED: u64 = 7;
/// Side of the cells in whose middles objects stand, more or less, in pixels.
const GRID: f32 = 12.0;
/// How far from the middle of its cell an object may be, in pixels.
const JITTER: f32 = 1.5;
/// Distance of an object's color from the background's, in RGB, from which it stands out.
const VISIBLE_CONTRAST: f32 = 115.0;
/// Images in the sample set.
pub const SAMPLE_COUNT: usize = 7000;
/// Changes whenever a scene of the same seed and index would come out differently.
const GENERATOR_VERSION: u32 = 4;

/// Outline of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Heart,
    Cross,
    Ring,
    Diamond,
}

/// Color of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Orange,
    Purple,
    Pink,
    Brown,
}

/// Color behind the objects; none of them is an object's color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    White,
    Black,
    Gray,
    Beige,
    Teal,
}

/// Size as the captions call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
}

/// Where the main object is, seen from the second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

/// What a caption is about: the part of the annotation that a caption can be checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    pub shape: Shape,
    pub color: Color,
}

/// One drawn object, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub x: f32,
    pub y: f32,
    /// Half the object's extent.
    pub radius: f32,
    /// Tilt in degrees.
    pub tilt: f32,
}

/// An image's content and what is said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub background: Background,
    pub size: Size,
    /// One to three objects of one kind.
    pub main: Vec<Object>,
    pub second: Option<(Object, Relation)>,
    pub captions: [String; 5],
    /// Added to each channel of every color, so that no two images have quite the same ones.
    shade: [i16; 3],
}

impl Shape {
    pub const ALL: [Self; 8] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Heart,
        Self::Cross,
        Self::Ring,
        Self::Diamond,
    ];
}

impl Color {
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Orange,
        Self::Purple,
        Self::Pink,
        Self::Brown,
    ];
}

impl Background {
    const ALL: [Self; 5] = [
        Self::White,
        Self::Black,
        Self::Gray,
        Self::Beige,
        Self::Teal,
    ];
}

impl Size {
    const ALL: [Self; 2] = [Self::Small, Self::Large];
}

impl Relation {
    const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];
}

impl Scene {
    /// Shape and color of the main object.
    pub fn kind(&self) -> Kind {
        self.main[0].kind
    }
}

/// Scene `index` of the endless row that `seed` begins.
pub fn scene(seed: u64, index: u64) -> Scene {
    changed(seed, index, |_| ())
}

/// [`scene`], with a change to its objects before it is put into words.
fn changed(seed: u64, index: u64, change: impl Fn(&mut Scene)) -> Scene {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    let rng = &mut rng;

    let kind = Kind {
        shape: pick(rng, &Shape::ALL),
        color: pick(rng, &Color::ALL),
    };
    let background = visible_background(rng, kind.color, None);
    let shade = std::array::from_fn(|_| rng.random_range(-10..=10));
    let mut scene = Scene {
        background,
        size: Size::Large,
        main: Vec::new(),
        second: None,
        captions: Default::default(),
        shade,
    };
    match rng.random_range(0..100) {
        0..30 => {
            scene.size = pick(rng, &[Size::Small, Size::Large]);
            let radius = match scene.size {
                Size::Small => rng.random_range(15.0..18.0),
                Size::Large => rng.random_range(27.0..33.0),
            };
            scene.main.push(anywhere(rng, kind, radius));
        }
        30..78 => add_pair(rng, &mut scene, kind),
        _ => {
            scene.size = Size::Small;
            let count = rng.random_range(2..=3);
            while scene.main.len() < count {
                let radius = rng.random_range(14.0..16.0);
                let object = anywhere(rng, kind, radius);
                if scene.main.iter().all(|other| apart(other, &object)) {
                    scene.main.push(object);
                }
            }
        }
    }
    change(&mut scene);
    scene.captions = words::captions(&scene, rng);
    scene
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, choices: &[T]) -> T {
    *choices.choose(rng).expect("no list of choices is empty")
}

/// A background against which the objects stand out.
fn visible_background(rng: &mut ChaCha8Rng, main: Color, second: Option<Color>) -> Background {
    loop {
        let background = pick(rng, &Background::ALL);
        if [Some(main), second]
            .into_iter()
            .flatten()
            .all(|color| draw::contrast(color, background) > VISIBLE_CONTRAST)
        {
            return background;
        }
    }
}

fn anywhere(rng: &mut ChaCha8Rng, kind: Kind, radius: f32) -> Object {
    let margin = radius + JITTER;
    let mut place = || {
        let first = ((margin - GRID / 2.0) / GRID).ceil() as u32;
        let cell = rng.random_range(first..SIDE / GRID as u32 - first);
        (cell as f32 + 0.5) * GRID + rng.random_range(-JITTER..JITTER)
    };
    Object {
        kind,
        x: place(),
        y: place(),
        radius,
        tilt: rng.random_range(-6.0..6.0),
    }
}

fn apart(a: &Object, b: &Object) -> bool {
    (a.x - b.x).hypot(a.y - b.y) > a.radius + b.radius + 4.0
}

/// A large main object and a small second one that is clearly beside, above or below it.
fn add_pair(rng: &mut ChaCha8Rng, scene: &mut Scene, kind: Kind) {
    let second = loop {
        let other = Kind {
            shape: pick(rng, &Shape::ALL),
            color: pick(rng, &Color::ALL),
        };
        if other != kind {
            break other;
        }
    };
    scene.background = visible_background(rng, kind.color, Some(second.color));
    loop {
        let radius = rng.random_range(22.0..25.0);
        let main = anywhere(rng, kind, radius);
        let radius = rng.random_range(11.0..13.0);
        let other = anywhere(rng, second, radius);
        let (dx, dy) = (main.x - other.x, main.y - other.y);
        let relation = match (dx.abs() > dy.abs(), dx < 0.0, dy < 0.0) {
            (true, true, _) => Relation::LeftOf,
            (true, false, _) => Relation::RightOf,
            (false, _, true) => Relation::Above,
            (false, _, false) => Relation::Below,
        };
        let clear = dx.abs().min(dy.abs()) < 0.45 * dx.abs().max(dy.abs());
        if clear && apart(&main, &other) {
            scene.main.push(main);
            scene.second = Some((other, relation));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::hex;
    use sha2::{Digest, Sha256};

    fn scenes(count: u64) -> impl Iterator<Item = Scene> {
        (0..count).map(|index| scene(SAMPLE_SEED, index))
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let mut hash = Sha256::new();
        for scene in scenes(20) {
            hash.update(draw(&scene).as_raw());
            scene
                .captions
                .iter()
                .for_each(|caption| hash.update(caption));
        }
        assert_eq!(&hex(&hash.finalize())[..16], PINNED);
        assert_ne!(scene(1, 0), scene(2, 0));
        assert_ne!(scene(1, 0), scene(1, 1));
    }

    /// Of the first 20 scenes. Raise `GENERATOR_VERSION` when it has to change.
    const PINNED: &str = "d90d69c2224229af";

    #[test]
    fn objects_are_inside_the_image_and_do_not_touch() {
        for scene in scenes(500) {
            let mut objects = scene.main.clone();
            objects.extend(scene.second.map(|(object, _)| object));
            for (i, a) in objects.iter().enumerate() {
                for value in [a.x, a.y] {
                    assert!(
                        value - a.radius >= 0.0 && value + a.radius <= SIDE as f32,
                        "{a:?}"
                    );
                }
                assert!(objects[..i].iter().all(|b| apart(a, b)));
            }
        }
    }

    #[test]
    fn relations_are_true_in_the_image() {
        let mut seen = 0;
        for scene in scenes(500) {
            let Some((second, relation)) = scene.second else {
                continue;
            };
            seen += 1;
            let main = scene.main[0];
            let holds = match relation {
                Relation::LeftOf => main.x + main.radius * 0.5 < second.x,
                Relation::RightOf => second.x < main.x - main.radius * 0.5,
                Relation::Above => main.y + main.radius * 0.5 < second.y,
                Relation::Below => second.y < main.y - main.radius * 0.5,
            };
            assert!(holds, "{scene:?}");
        }
        assert!((190..290).contains(&seen), "{seen}");
    }

    #[test]
    fn every_shape_and_color_is_about_as_frequent() {
        for shape in Shape::ALL {
            let count = scenes(1000)
                .filter(|scene| scene.kind().shape == shape)
                .count();
            assert!((85..170).contains(&count), "{shape:?} {count}");
        }
        for color in Color::ALL {
            let count = scenes(1000)
                .filter(|scene| scene.kind().color == color)
                .count();
            assert!((85..170).contains(&count), "{color:?} {count}");
        }
    }

    #[test]
    fn a_written_set_is_kept_and_another_size_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let annotations = ensure(folder.path(), 3, 4).unwrap();
        let written = std::fs::metadata(&annotations).unwrap().modified().unwrap();
        ensure(folder.path(), 3, 4).unwrap();
        assert_eq!(
            std::fs::metadata(&annotations).unwrap().modified().unwrap(),
            written
        );
        let first = image::open(folder.path().join("images/000000.png")).unwrap();
        assert_eq!(first.to_rgb8(), draw(&scene(3, 0)));
        ensure(folder.path(), 3, 5).unwrap();
        assert!(folder.path().join("images/000004.png").is_file());
    }
}
