//! Scenes as sentences.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Background, Color, Kind, Relation, Scene, Shape, Size};

/// Five different captions of a scene. Each names the main object's color and shape, and names them first.
pub fn captions(scene: &Scene, rng: &mut ChaCha8Rng) -> [String; 5] {
    let mut sentences = match (&scene.second, scene.main.len()) {
        (Some((second, relation)), _) => of_two_kinds(scene, second.kind, *relation),
        (None, 1) => of_one(scene),
        (None, count) => of_several(scene, count),
    };
    sentences.shuffle(rng);
    let mut sentences = sentences.into_iter();
    std::array::from_fn(|_| {
        sentences
            .next()
            .expect("there are more sentences than captions")
    })
}

fn of_one(scene: &Scene) -> Vec<String> {
    let plain = noun(scene.kind());
    let sized = format!("{} {plain}", size_word(scene.size));
    let ground = background_word(scene.background);
    vec![
        format!("{} on a {ground} background.", capital(&a(&sized))),
        format!("There is {} in the picture.", a(&plain)),
        format!("{} stands alone on {ground}.", capital(&a(&sized))),
        format!("The picture shows {}.", a(&sized)),
        format!("One {sized} and nothing else."),
        format!("A single {plain} against a {ground} background."),
        format!("This is {} on {ground}.", a(&plain)),
    ]
}

fn of_several(scene: &Scene, count: usize) -> Vec<String> {
    let number = if count == 2 { "two" } else { "three" };
    let plain = format!("{number} {}", plural(&noun(scene.kind())));
    let sized = format!("{number} small {}", plural(&noun(scene.kind())));
    let ground = background_word(scene.background);
    vec![
        format!("{} on a {ground} background.", capital(&sized)),
        format!("There are {plain} in the picture."),
        format!("The picture shows {sized}."),
        format!("{} and nothing else.", capital(&plain)),
        format!("A group of {plain} against a {ground} background."),
        format!("These are {plain} on {ground}."),
    ]
}

fn of_two_kinds(scene: &Scene, second: Kind, relation: Relation) -> Vec<String> {
    let main = noun(scene.kind());
    let large = format!("large {main}");
    let other = noun(second);
    let small = format!("small {other}");
    let ground = background_word(scene.background);
    let (place, opposite) = match relation {
        Relation::LeftOf => ("to the left of", "on its right"),
        Relation::RightOf => ("to the right of", "on its left"),
        Relation::Above => ("above", "below it"),
        Relation::Below => ("below", "above it"),
    };
    vec![
        format!("{} {place} {}.", capital(&a(&large)), a(&small)),
        format!("There is {} {place} {}.", a(&main), a(&other)),
        format!(
            "{} and {} on a {ground} background.",
            capital(&a(&main)),
            a(&other)
        ),
        format!("The {large} is {place} the {other}."),
        format!("{} with {} {opposite}.", capital(&a(&large)), a(&small)),
        format!("The picture shows {} and {}.", a(&large), a(&small)),
    ]
}

fn noun(kind: Kind) -> String {
    format!("{} {}", color_word(kind.color), shape_word(kind.shape))
}

fn a(phrase: &str) -> String {
    let article = if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {phrase}")
}

fn capital(phrase: &str) -> String {
    let (first, rest) = phrase.split_at(1);
    first.to_uppercase() + rest
}

fn shape_word(shape: Shape) -> &'static str {
    match shape {
        Shape::Circle => "circle",
        Shape::Square => "square",
        Shape::Triangle => "triangle",
        Shape::Star => "star",
        Shape::Heart => "heart",
        Shape::Cross => "cross",
        Shape::Ring => "ring",
        Shape::Diamond => "diamond",
    }
}

fn color_word(color: Color) -> &'static str {
    match color {
        Color::Red => "red",
        Color::Green => "green",
        Color::Blue => "blue",
        Color::Yellow => "yellow",
        Color::Orange => "orange",
        Color::Purple => "purple",
        Color::Pink => "pink",
        Color::Brown => "brown",
    }
}

fn background_word(background: Background) -> &'static str {
    match background {
        Background::White => "white",
        Background::Black => "black",
        Background::Gray => "gray",
        Background::Beige => "beige",
        Background::Teal => "teal",
    }
}

fn size_word(size: Size) -> &'static str {
    match size {
        Size::Small => "small",
        Size::Large => "large",
    }
}

/// Whether the first object that a caption names has this color and shape.
pub fn mentions(caption: &str, kind: Kind) -> bool {
    let words: Vec<String> = caption
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let color = words
        .iter()
        .position(|word| Color::ALL.iter().any(|&color| color_word(color) == word));
    let Some(color) = color else {
        return false;
    };
    let shape = words[color..].iter().find_map(|word| {
        Shape::ALL.into_iter().find(|&shape| {
            let singular = shape_word(shape);
            word == singular || *word == plural(singular)
        })
    });
    words[color] == color_word(kind.color) && shape == Some(kind.shape)
}

fn plural(singular: &str) -> String {
    let ending = if singular.ends_with('s') { "es" } else { "s" };
    format!("{singular}{ending}")
}

#[cfg(test)]
mod tests {
    use super::super::{SAMPLE_SEED, scene};
    use super::*;

    #[test]
    fn every_caption_names_its_main_object_and_no_other_kind() {
        for index in 0..300 {
            let scene = scene(SAMPLE_SEED, index);
            let kind = scene.kind();
            let next =
                |all: &[Color]| all[(all.iter().position(|&c| c == kind.color).unwrap() + 1) % 8];
            for caption in &scene.captions {
                assert!(mentions(caption, kind), "{caption}");
                let wrong = Kind {
                    color: next(&Color::ALL),
                    ..kind
                };
                assert!(!mentions(caption, wrong), "{caption}");
                let shape =
                    Shape::ALL[(Shape::ALL.iter().position(|&s| s == kind.shape).unwrap() + 3) % 8];
                assert!(!mentions(caption, Kind { shape, ..kind }), "{caption}");
            }
        }
    }

    #[test]
    fn captions_are_sentences_and_differ() {
        for index in 0..300 {
            let captions = scene(SAMPLE_SEED, index).captions;
            for (i, caption) in captions.iter().enumerate() {
                assert!(
                    caption.ends_with('.') && caption.matches('.').count() == 1,
                    "{caption}"
                );
                assert!(caption.starts_with(char::is_uppercase), "{caption}");
                assert!(
                    !caption.contains("a orange") && !caption.contains("crosss"),
                    "{caption}"
                );
                assert!(!captions[..i].contains(caption), "{caption} twice");
            }
        }
    }

    #[test]
    fn what_a_caption_does_not_say_is_not_found_in_it() {
        let kind = Kind {
            shape: Shape::Cross,
            color: Color::Red,
        };
        assert!(mentions("Two small red crosses on white.", kind));
        assert!(
            !mentions("A blue star above a red cross.", kind),
            "the main object comes first"
        );
        assert!(!mentions("Something red.", kind));
        assert!(!mentions("", kind));
    }
}
