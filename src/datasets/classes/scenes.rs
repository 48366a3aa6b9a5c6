//! The sample scenes with classes: what the main object is.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{ClassSet, Images, Labeled};
use crate::datasets::scenes::{Color, Kind, SAMPLE_COUNT, SAMPLE_SEED, Shape, scene};
use crate::inputs::FileKinds;

/// Images of the sample that are tested on; the others are trained on.
const TEST: usize = SAMPLE_COUNT / 5;

/// What of the main object makes a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SceneClass {
    /// Color and shape, 64 classes.
    Kind,
    /// 8 classes.
    Shape,
    /// 8 classes.
    Color,
}

impl SceneClass {
    fn label(self, kind: Kind) -> usize {
        let (shape, color) = (kind.shape as usize, kind.color as usize);
        match self {
            Self::Kind => color * Shape::ALL.len() + shape,
            Self::Shape => shape,
            Self::Color => color,
        }
    }

    fn names(self) -> Vec<String> {
        let shapes = Shape::ALL.map(|shape| format!("{shape:?}").to_lowercase());
        let colors = Color::ALL.map(|color| format!("{color:?}").to_lowercase());
        match self {
            Self::Kind => colors
                .iter()
                .flat_map(|color| shapes.iter().map(move |shape| format!("{color} {shape}")))
                .collect(),
            Self::Shape => shapes.to_vec(),
            Self::Color => colors.to_vec(),
        }
    }
}

pub fn load(class: SceneClass) -> Result<ClassSet> {
    let part = |first: usize, count: usize| {
        let images = Images::Scenes {
            seed: SAMPLE_SEED,
            first: first as u64,
            count,
        };
        let labels = (first..first + count)
            .map(|index| class.label(scene(SAMPLE_SEED, index as u64).kind()))
            .collect();
        Labeled::new(images, labels)
    };
    Ok(ClassSet {
        name: "sample scenes".to_string(),
        classes: class.names(),
        train: part(0, SAMPLE_COUNT - TEST)?,
        test: part(SAMPLE_COUNT - TEST, TEST)?,
        unlabeled: None,
        folds: Vec::new(),
        other_files: FileKinds::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_and_images_in_both_parts() {
        for class in [SceneClass::Kind, SceneClass::Shape, SceneClass::Color] {
            let set = load(class).unwrap();
            for part in [&set.train, &set.test] {
                let mut seen = vec![0; set.classes.len()];
                part.labels.iter().for_each(|&label| seen[label] += 1);
                assert!(seen.iter().all(|&count| count > 0), "{class:?}: {seen:?}");
            }
        }
        let set = load(SceneClass::Kind).unwrap();
        let kind = scene(SAMPLE_SEED, 0).kind();
        let name = format!("{:?} {:?}", kind.color, kind.shape).to_lowercase();
        assert_eq!(set.classes[set.train.labels[0]], name);
    }

    #[test]
    fn a_fifth_of_each_class_is_held_out_of_the_training_images() {
        let whole = load(SceneClass::Color).unwrap();
        let set = whole.clone().held_out().unwrap();
        let total = set.train.len() + set.test.len();
        assert_eq!(total, whole.train.len());
        let mut seen = vec![[0; 2]; set.classes.len()];
        let mut indices = Vec::new();
        for (part, labeled) in [&set.train, &set.test].into_iter().enumerate() {
            let Images::Chosen(_, which) = &labeled.images else {
                panic!("the held-out parts choose among the training images");
            };
            for (&index, &label) in which.iter().zip(&labeled.labels) {
                assert_eq!(label, whole.train.labels[index]);
                seen[label][part] += 1;
                indices.push(index);
            }
        }
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..total));
        for [kept, held] in seen {
            assert!((held * 5_i32 - (kept + held)).abs() <= 5, "{kept} {held}");
        }
    }
}
