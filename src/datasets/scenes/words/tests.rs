use super::*;
use crate::datasets::scenes::{SAMPLE_SEED, scene};

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
fn a_caption_is_read_back_as_what_it_says() {
    let red_cross = Kind {
        shape: Shape::Cross,
        color: Color::Red,
    };
    let orange_ring = Kind {
        shape: Shape::Ring,
        color: Color::Orange,
    };
    let plain = Facts {
        main: red_cross,
        number: 1,
        size: None,
        other: None,
        relation: None,
        background: None,
        alone: false,
    };
    let facts = |caption| parse(caption).unwrap();
    assert_eq!(facts("There is a red cross in the image."), plain);
    let two = Facts { number: 2, ..plain };
    let alone = Facts { alone: true, ..two };
    assert_eq!(facts("Two red crosses and nothing else."), alone);
    let on_teal = Facts {
        size: Some(Size::Small),
        background: Some(Background::Teal),
        ..two
    };
    assert_eq!(
        facts("Two small red crosses on a teal background."),
        on_teal
    );
    let pair = Facts {
        main: orange_ring,
        size: Some(Size::Large),
        other: Some((red_cross, Some(Size::Small))),
        relation: Some(Relation::RightOf),
        ..plain
    };
    assert_eq!(
        facts("A large orange ring with a small red cross on its left."),
        pair
    );
    let unsized_pair = Facts {
        size: None,
        other: Some((red_cross, None)),
        ..pair
    };
    assert_eq!(
        facts("There is an orange ring to the right of a red cross."),
        unsized_pair
    );
}

#[test]
fn other_sentences_say_nothing() {
    for caption in [
        "",
        ".",
        "There is a red cross in the image",
        "There is a red cross in the image. There is a red cross in the image.",
        "There is a red cross in the photo.",
        "There is a red crosses in the image.",
        "There are two red cross in the image.",
        "There are four red crosses in the image.",
        "A photo of a cat.",
    ] {
        assert_eq!(parse(caption), None, "{caption}");
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
