//! CLIP and GPT-2 pretrained on captioned images in files.

use std::fs;
use std::process::Output;

use clipcap::data::source;
use clipcap::data::split::{SplitShares, ids};
use serde_json::Value;

use crate::common::place::{Place, fails_with, stderr};

/// Captioned images in `data`, one of which is replaced by a file that is no image; its name.
fn write_data(place: &Place) -> String {
    place.write_data();
    let data = place.path("data/captions.json");
    let images = source::load_and_report(&data, &[place.path("data/images")], &|_| ())
        .unwrap()
        .images;
    let test = SplitShares::default().split(&ids(&images), 1).test;
    let name = images[test[0]].file_name.clone();
    fs::write(place.path("data/images").join(&name), "not an image").unwrap();
    name
}

fn pretrain(place: &Place, args: &str) -> Output {
    let args = format!(
        "pretrain {args} --data data/captions.json --images data/images --batch-size 4 --device cpu --ui plain"
    );
    place.line(&args).output().unwrap()
}

fn succeeds(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn both_networks_learn_from_the_training_part_alone_and_are_trained_on() {
    let place = Place::new();
    let unread = write_data(&place);
    let said = succeeds(&pretrain(
        &place,
        "clip --output model/mine --width 32 --layers 1 --image-size 16 --embedding 24 --vocab-size 600 --epochs 1 --run clip",
    ));
    assert!(
        said.contains("9 images to train on, 1 for validation (80/10/10 by seed 1); 1 for testing are not looked at"),
        "{said}"
    );
    assert!(
        said.contains(&format!("skipped data/images/{unread}")),
        "{said}"
    );
    succeeds(&pretrain(
        &place,
        "gpt2 --output model/mine --width 32 --layers 1 --positions 96 --vocab-size 600 --epochs 1 --run gpt2",
    ));
    let config = fs::read_to_string(place.path("model/mine/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["gpt2"]["n_embd"], 32, "{config}");
    assert_eq!(config["gpt2"]["n_positions"], 96, "{config}");
    assert_eq!(config["clip"]["sizes"]["projection_dim"], 24, "{config}");

    let kept = fs::read_to_string(place.path("artifacts/clip/config.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["data"]["files"]["split"], "auto", "{kept}");
    assert_eq!(kept["augmentation"]["flip"], 0.5, "{kept}");

    // A model of one seed's parts is trained on the same parts.
    let args = "train --model model/mine --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --batch-size 4 --epochs 1 --device cpu --ui plain --allow-truncated --run mine";
    let said = stderr(&place.line(args).output().unwrap());
    assert!(
        said.contains("9 to train on, 1 for validation, 1 to test on (80/10/10 by seed 1)"),
        "{said}"
    );
}

#[test]
fn a_given_vocabulary_is_taken_as_it_is() {
    let place = Place::new();
    write_data(&place);
    let tokenizer = place.path("model/tiny/gpt2-tokenizer.json");
    fs::create_dir_all(place.path("vocabulary")).unwrap();
    fs::copy(&tokenizer, place.path("vocabulary/tokenizer.json")).unwrap();
    succeeds(&pretrain(
        &place,
        "gpt2 --output model/mine --vocabulary vocabulary --width 16 --layers 1 --epochs 1",
    ));
    let size = |model: &str| {
        let config = fs::read_to_string(place.path(model).join("config.json")).unwrap();
        serde_json::from_str::<Value>(&config).unwrap()["gpt2"]["vocab_size"].clone()
    };
    assert_eq!(size("model/mine"), size("model/tiny"));

    let missing = pretrain(
        &place,
        "gpt2 --output model/other --vocabulary nowhere --epochs 1",
    );
    fails_with(&missing, &["nowhere", "tokenizer.json"]);
}

#[test]
fn sizes_that_make_no_network_are_refused_before_anything_is_written() {
    let place = Place::new();
    write_data(&place);
    for (args, fault) in [
        ("clip --output model/mine --patch-size 7", "patches of 7"),
        ("clip --output model/mine --width 30", "a width of 30"),
        (
            "clip --output model/mine --layers 0",
            "number of layers is 0",
        ),
        (
            "clip --output model/mine --caption-weight -1",
            "weight of the captions' loss is -1",
        ),
        ("gpt2 --output model/mine --width 0", "width is 0"),
        ("gpt2 --output model/mine --shares 0/50/50", "--shares"),
    ] {
        let output = pretrain(&place, args);
        let said = stderr(&output);
        assert!(!output.status.success(), "{args}");
        assert!(said.contains(fault), "{args}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!place.path("model/mine").exists(), "{args}");
    }
    let both = place.line("pretrain clip --output model/mine --from model/tiny --width 64");
    let said = stderr(&{ both }.output().unwrap());
    assert!(said.contains("cannot be used with"), "{said}");
}
