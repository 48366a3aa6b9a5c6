//! Whether captions are true of scenes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::SetInfo;
use super::words::{Facts, mentions, parse};
use super::{Kind, Relation, Scene, Size, scene};
use crate::data::coco::ImageId;

/// Whether every fact that a caption names holds in the scene: number, color, shape, size and background of the objects,
/// where they stand, and that nothing else is there. A sentence that scenes are not put into is not true.
pub fn is_true(caption: &str, scene: &Scene) -> bool {
    parse(caption).is_some_and(|facts| facts.hold_in(scene))
}

/// Objects of one kind in a scene.
#[derive(Clone, Copy)]
struct Group {
    kind: Kind,
    number: usize,
    size: Size,
}

impl Facts {
    /// Whether all of them are facts of the scene.
    fn hold_in(&self, scene: &Scene) -> bool {
        let main = Group {
            kind: scene.kind(),
            number: scene.main.len(),
            size: scene.size,
        };
        let second = scene.second.map(|(object, _)| Group {
            kind: object.kind,
            number: 1,
            size: Size::Small,
        });
        let seen_from_second = scene.second.map(|(_, relation)| relation);
        let background = self.background.is_none_or(|b| b == scene.background);
        let alone = !self.alone || second.is_none();
        // What is named first may be the scene's second object.
        let as_main = self.name(main, second, seen_from_second);
        let as_second = second.is_some_and(|second| {
            self.name(second, Some(main), seen_from_second.map(Relation::inverse))
        });
        background && alone && (as_main || as_second)
    }

    /// Whether the first object named is `first` and the other, if one is named, `second`, in the right places.
    fn name(&self, first: Group, second: Option<Group>, relation: Option<Relation>) -> bool {
        let is = |group: Group, kind: Kind, number: usize, size: Option<Size>| {
            group.kind == kind
                && group.number == number
                && size.is_none_or(|size| size == group.size)
        };
        let other = self
            .other
            .is_none_or(|(kind, size)| second.is_some_and(|second| is(second, kind, 1, size)));
        let place = self.relation.is_none_or(|said| Some(said) == relation);
        is(first, self.main, self.number, self.size) && other && place
    }
}

impl Relation {
    /// The same, seen from the other object.
    fn inverse(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }
}

/// How captions of generated scenes hold against them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneScores {
    /// Share of the captions that are true, as [`is_true`] tells.
    pub true_captions: f64,
    /// Share of the captions that name the main object's color and shape first.
    pub right_main_objects: f64,
}

/// A set of generated scenes, in which images are looked up by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneSet {
    seed: u64,
    count: usize,
}

impl SceneSet {
    /// The set whose annotations the file is; `None` of any other file, and of a set that another version of the generator
    /// made.
    pub fn find(annotations: &Path) -> Option<Self> {
        let SetInfo { seed, count, .. } = SetInfo::find(annotations)?;
        Some(Self { seed, count })
    }

    /// The scene of an image of the set.
    pub fn scene(&self, image: &ImageId) -> Option<Scene> {
        match image {
            ImageId::Number(index) if *index < self.count as u64 => Some(scene(self.seed, *index)),
            _ => None,
        }
    }

    /// Checks captions of images; `None` when none of the images is of the set.
    pub fn check<'a>(
        &self,
        captions: impl IntoIterator<Item = (&'a ImageId, &'a str)>,
    ) -> Option<SceneScores> {
        let (mut count, mut truths, mut right) = (0, 0, 0);
        for (image, caption) in captions {
            let Some(scene) = self.scene(image) else {
                continue;
            };
            count += 1;
            truths += usize::from(is_true(caption, &scene));
            right += usize::from(mentions(caption, scene.kind()));
        }
        let share = |part: usize| part as f64 / count as f64;
        (count > 0).then(|| SceneScores {
            true_captions: share(truths),
            right_main_objects: share(right),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::siblings::all_changes;
    use super::super::{Background, Color, SAMPLE_SEED, Shape, ensure};
    use super::*;

    #[test]
    fn all_captions_of_every_scene_are_true_of_it() {
        for index in 0..2000 {
            let scene = scene(SAMPLE_SEED, index);
            for caption in &scene.captions {
                assert!(is_true(caption, &scene), "{caption} {scene:?}");
            }
        }
    }

    #[test]
    fn a_changed_fact_makes_those_captions_false_that_name_it_and_no_others() {
        let mut seen = [0; 2];
        for index in 0..200 {
            let first = scene(SAMPLE_SEED, index);
            for changed in all_changes(SAMPLE_SEED, index) {
                for (before, after) in first.captions.iter().zip(&changed.captions) {
                    let names_it = before != after;
                    assert_eq!(is_true(before, &changed), !names_it, "{before} {changed:?}");
                    seen[usize::from(names_it)] += 1;
                }
            }
        }
        assert!(seen.iter().all(|&count| count > 500), "{seen:?}");
    }

    #[test]
    fn objects_may_be_named_in_either_order_and_nothing_else_means_it() {
        let mut pairs = (0..).map(|index| scene(SAMPLE_SEED, index));
        let mut pair = pairs.find(|scene| scene.second.is_some()).unwrap();
        let kind = |shape, color| Kind { shape, color };
        pair.background = Background::Gray;
        pair.main[0].kind = kind(Shape::Ring, Color::Red);
        if let Some((object, relation)) = &mut pair.second {
            object.kind = kind(Shape::Star, Color::Blue);
            *relation = Relation::Above;
        }
        for (caption, truth) in [
            ("A large red ring above a small blue star.", true),
            ("A small blue star below a large red ring.", true),
            ("A small blue star above a large red ring.", false),
            ("A blue star and a red ring on a gray background.", true),
            ("A blue star and a red ring on a teal background.", false),
            ("A blue ring and a red star on a gray background.", false),
            ("There is a blue star in the image.", true),
            ("One small blue star and nothing else.", false),
            ("A large red ring stands alone on gray.", false),
            ("There are two red rings in the image.", false),
            ("A red ring.", false),
        ] {
            assert_eq!(is_true(caption, &pair), truth, "{caption}");
        }
    }

    #[test]
    fn a_generated_set_is_known_by_its_annotations_and_no_other_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let annotations = ensure(folder.path(), 3, 4).unwrap();
        let set = SceneSet::find(&annotations).unwrap();
        assert_eq!(set.scene(&ImageId::Number(2)), Some(scene(3, 2)));
        assert_eq!(set.scene(&ImageId::Number(4)), None);
        assert_eq!(set.scene(&ImageId::Text("a".into())), None);

        let image = ImageId::Number(1);
        let captions = scene(3, 1).captions;
        let said = [(&image, captions[0].as_str()), (&image, "A cat.")];
        let scores = set.check(said).unwrap();
        assert_eq!(scores.true_captions, 0.5);
        assert_eq!(scores.right_main_objects, 0.5);
        assert_eq!(set.check([(&ImageId::Number(9), "A cat.")]), None);

        let text = std::fs::read_to_string(&annotations).unwrap();
        let other = folder.path().join("other.json");
        for (from, to) in [
            ("\"generator_version\":", "\"generator_version\":10"),
            ("\"info\"", "\"about\""),
        ] {
            assert!(text.contains(from));
            std::fs::write(&other, text.replace(from, to)).unwrap();
            assert_eq!(SceneSet::find(&other), None);
        }
        assert_eq!(SceneSet::find(folder.path()), None);
    }
}
