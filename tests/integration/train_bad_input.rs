//! Bad input to a training run, and a disk or a loss that fails on the way: said in a line, and nothing already learned is
//! lost.

use std::fs;
use std::process::Output;

use crate::common::place::{Place, fails_with, stderr, stdout};
use crate::common::run::weights;
use clipcap::files;
use clipcap::train::config::TrainConfig;
use serde_json::{Value, json};

/// Twelve scenes whose annotations are changed first.
fn place_with(change: impl FnOnce(&mut Value)) -> Place {
    let place = Place::new();
    place.write_data();
    let path = place.path("data/captions.json");
    let mut data: Value = files::read_json(&path).unwrap();
    change(&mut data);
    files::write_json(&path, &data).unwrap();
    place
}

fn resume(place: &Place, run: &str) -> Output {
    let run = format!("artifacts/{run}");
    place.run(&[
        "train", "--resume", &run, "--device", "cpu", "--ui", "plain",
    ])
}

/// Changes the settings of a run that is to be resumed.
fn reconfigure(place: &Place, run: &str, change: impl FnOnce(&mut TrainConfig)) {
    let path = place.path("artifacts").join(run).join("config.json");
    let mut config: TrainConfig = files::read_json(&path).unwrap();
    change(&mut config);
    files::write_json(&path, &config).unwrap();
}

#[test]
fn captions_without_an_image_and_images_without_a_caption_are_named_and_left_out() {
    let place = place_with(|data| {
        data["annotations"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 900, "image_id": 777, "caption": "Nobody knows what of."}));
        data["images"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 888, "file_name": "silent.png"}));
    });
    let output = place.train("holes", &["--epochs", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stderr(&output);
    for part in [
        "left out: data/captions.json: annotation 61: is of image 777, which the file does not list",
        "left out: data/captions.json: image silent.png has no caption",
        "12 images with 60 captions",
        "2 entries left out",
    ] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

#[test]
fn annotations_without_any_image_or_any_caption_are_refused() {
    for (field, part) in [("images", "caption"), ("annotations", "caption")] {
        let place = place_with(|data| data[field] = json!([]));
        fails_with(&place.train("empty", &[]), &["data/captions.json", part]);
    }
}

#[test]
fn a_caption_longer_than_the_context_is_cut_and_counted() {
    let place = place_with(|data| {
        let caption = &mut data["annotations"][0]["caption"];
        *caption = "A red circle on a white star. ".repeat(60).into();
    });
    let output = place.train("long", &["--epochs", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(", 1 cut to fit GPT-2"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_loss_that_is_no_number_any_more_ends_the_run_and_keeps_what_was_best() {
    let place = place_with(|_| {});
    assert!(place.train("good", &["--epochs", "1"]).status.success());
    let before = weights(&place.path("artifacts/good"));
    let diverging = |config: &mut TrainConfig| {
        config.epochs = 4;
        config.schedule.learning_rate = 1e30;
    };
    reconfigure(&place, "good", diverging);
    let output = resume(&place, "good");
    fails_with(&output, &["became NaN in epoch 2", "--learning-rate"]);
    assert!(
        stdout(&output).contains("epoch 1 was best"),
        "{}",
        stdout(&output)
    );
    assert!(weights(&place.path("artifacts/good")) == before);
    // The same without an epoch before.
    fs::remove_dir_all(place.path("artifacts/good/checkpoint")).unwrap();
    fails_with(
        &resume(&place, "good"),
        &["never a number", "lower the learning rate"],
    );
}

/// Under a limit on the size of files, which fails as a full disk does.
#[test]
#[cfg(unix)]
fn a_disk_that_is_full_at_a_checkpoint_loses_no_epoch_before() {
    let place = place_with(|_| {});
    let more = [
        "--trainable",
        "mapper-and-gpt2",
        "--seed",
        "4",
        "--epochs",
        "1",
    ];
    for run in ["twin", "full"] {
        assert!(place.train(run, &more).status.success());
        reconfigure(&place, run, |config| config.epochs = 3);
    }
    assert!(resume(&place, "twin").status.success());
    let program = env!("CARGO_BIN_EXE_clipcap");
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 24; exec \"$0\" \"$@\"",
            program,
        ])
        .args([
            "train",
            "--resume",
            "artifacts/full",
            "--device",
            "cpu",
            "--ui",
            "plain",
        ])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    fails_with(&output, &["artifacts/full failed", "--resume"]);
    let output = resume(&place, "full");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("going on after epoch 1"),
        "{}",
        stderr(&output)
    );
    let [twin, full] = ["twin", "full"].map(|run| weights(&place.path("artifacts").join(run)));
    assert!(twin == full, "it ends with other weights");
}
