//! Two processes at once over the same files: both end well, or one says who is in its way.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::common::place::{INFER, Place, fails_with, image, stderr, stdout};
use crate::common::process::{all_succeed, signal, together, until};
use clipcap::datasets::scenes;

/// Times that two processes are started together.
const ROUNDS: usize = 3;

#[test]
fn embeddings_are_made_once_and_used_by_all() {
    let place = Place::new();
    scenes::ensure(&place.path("data"), 5, 600).unwrap();
    let gap = || {
        place.line(
            "gap --model model/tiny --device cpu --data data/captions.json --images data/images",
        )
    };
    for _ in 0..ROUNDS {
        let outputs = together(vec![gap(), gap(), gap()]);
        all_succeed(&outputs);
        assert_eq!(stdout(&outputs[0]), stdout(&outputs[1]));
        assert_eq!(stdout(&outputs[0]), stdout(&outputs[2]));
        let names = fs::read_dir(place.path("dataset/embeddings")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "images and captions: {names:?}");
        fs::remove_dir_all(place.path("dataset")).unwrap();
    }
}

#[test]
fn the_sample_is_made_once_and_used_by_all() {
    let place = Place::new();
    let infer = || place.command(&INFER);
    let outputs = together(vec![infer(), infer()]);
    all_succeed(&outputs);
    assert_eq!(stdout(&outputs[0]).lines().count(), 5);
    assert_eq!(stdout(&outputs[0]), stdout(&outputs[1]));
    let folder = place.path("dataset/sample/images");
    let left = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let partial = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(partial.count(), 0, "nothing half-written is left");
}

#[test]
fn runs_without_a_name_get_a_folder_each() {
    let place = Place::new();
    place.write_data();
    let train = || {
        let sizes = "--prefix-length 4 --clip-length 3 --layers 1 --batch-size 4";
        let args = format!(
            "train --model model/tiny --data data/captions.json --images data/images {sizes} --epochs 1 --device cpu --ui quiet"
        );
        place.line(&args)
    };
    all_succeed(&together(vec![train(), train(), train()]));
    for number in 1..=3 {
        let model = place.path(&format!("artifacts/train-{number}/best/config.json"));
        assert!(model.is_file(), "{number}");
    }
}

#[test]
fn searches_of_one_name_share_the_work() {
    let place = Place::new();
    place.write_data();
    let tune = || {
        let sizes = "--prefix-length 4 --clip-length 3 --layers 1 --batch-size 4";
        let args = format!(
            "tune learning_rate=1e-3,2e-3 --folds 2 --epochs 1 --model model/tiny --data data/captions.json --images data/images {sizes} --device cpu --run t"
        );
        place.line(&args)
    };
    let outputs = together(vec![tune(), tune()]);
    all_succeed(&outputs);
    let told: String = outputs.iter().map(stdout).collect();
    assert!(told.contains("the best of 2"), "{told}");
    assert!(place.path("artifacts/t/chosen.json").is_file());
}

#[test]
fn an_output_is_written_by_one_and_the_other_says_by_whom() {
    let place = Place::new();
    let args = ["--format", "jsonl", "--output", "out.jsonl"];
    let with = |more: &str| place.command(&[&INFER[..], &args, &[more]].concat());
    // It waits for names, with the file open.
    let mut first = with("-").stdin(Stdio::piped()).spawn().unwrap();
    until("the output is there", || place.path("out.jsonl").exists());
    let id = first.id().to_string();
    for more in [&[][..], &["--overwrite"]] {
        let mut second = with(&image());
        let second = second.args(more).output().unwrap();
        fails_with(&second, &["out.jsonl: another run", "is writing to it"]);
        if cfg!(target_os = "linux") {
            fails_with(&second, &[&id]);
        }
    }
    // A process that is killed leaves no lock behind.
    first.kill().unwrap();
    first.wait().unwrap();
    all_succeed(&[with(&image()).output().unwrap()]);
    let lines = fs::read_to_string(place.path("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1);
}

#[test]
#[cfg(unix)]
fn a_run_that_goes_on_is_not_resumed_beside_itself() {
    let place = Place::new();
    place.write_data();
    let mut first = place
        .train_command("long", &["--epochs", "100000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the first step", || {
        fs::metadata(place.path("artifacts/long/metrics.jsonl")).is_ok_and(|file| file.len() > 0)
    });
    let resume = ["train", "--resume", "artifacts/long", "--device", "cpu"];
    let second = place.run(&resume);
    fails_with(
        &second,
        &["artifacts/long: another run", "is writing this run"],
    );
    signal(&first, "-TERM");
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert!(place.path("artifacts/long/best/config.json").is_file());
    let mut text = String::new();
    let mut told = first.stderr.take().unwrap();
    told.read_to_string(&mut text).unwrap();
    assert!(text.contains("--resume artifacts/long"), "{text}");
}

#[test]
fn names_that_lead_out_of_artifacts_are_refused() {
    let place = Place::new();
    place.write_data();
    for command in [
        &["train"][..],
        &["tune", "epochs=1,2"],
        &["probe", "--table"],
        &["pretrain", "gpt2", "--output", "model/new"],
        &["pretrain", "pca", "--output", "model/new"],
    ] {
        for name in ["a/b", "..", "/tmp/elsewhere", "", "a\nb", "../up"] {
            let output = place.run(&[command, &["--run", name]].concat());
            let text = stderr(&output);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command:?} {name:?}: {text}"
            );
            assert!(text.contains("give a plain name"), "{text}");
        }
    }
    assert!(!place.path("artifacts").exists());
}

#[test]
fn parts_of_one_model_folder_are_made_side_by_side() {
    let place = Place::new();
    let part = |kind: &str| {
        let args = format!(
            "pretrain {kind} --output model/new --scenes 400 --epochs 1 --device cpu --ui quiet"
        );
        place.line(&args)
    };
    all_succeed(&together(vec![part("clip"), part("gpt2")]));
    let config = fs::read_to_string(place.path("model/new/config.json")).unwrap();
    assert!(
        config.contains("\"clip\"") && config.contains("\"gpt2\""),
        "{config}"
    );
    let source = fs::read_to_string(place.path("model/new/source.json")).unwrap();
    assert!(
        source.contains("pretrain clip") && source.contains("pretrain gpt2"),
        "{source}"
    );
}
