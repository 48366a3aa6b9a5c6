//! Training as it is used: what a run writes, how it goes on, how it fails.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::model::write_model_seeded;
use crate::common::place::{Place, fails_with, image, refused_with, stderr, stdout};
use crate::common::process::signal;
use crate::common::run::{losses, weights};
use clipcap::files;
use clipcap::train::config::TrainConfig;
use serde_json::Value;

#[test]
fn training_writes_a_run_that_infer_takes_up() {
    let place = Place::new();
    place.write_data();
    let output = place.train("mine", &["--epochs", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("artifacts/mine/best"),
        "{}",
        stdout(&output)
    );
    assert!(stderr(&output).contains("epoch 2/2"), "{}", stderr(&output));
    for file in [
        "config.json",
        "metrics.jsonl",
        "predictions-test.json",
        "metrics-test.json",
        "best/config.json",
    ] {
        assert!(place.path("artifacts/mine").join(file).is_file(), "{file}");
    }
    let output = place.run(&["infer", "--device", "cpu", &image()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("model: artifacts/mine/best (the last run that finished)"),
        "{}",
        stderr(&output)
    );
    fails_with(
        &place.train("mine", &[]),
        &["artifacts/mine exists already", "--run"],
    );
}

/// Waits until a run has begun an epoch.
fn wait_for_epoch(run: &Path, epoch: usize, child: &mut Child) {
    let started = Instant::now();
    let begun = || {
        fs::read_to_string(run.join("metrics.jsonl"))
            .is_ok_and(|text| text.contains(&format!("\"epoch\":{epoch},")))
    };
    while !begun() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "epoch {epoch} did not begin within two minutes"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended by itself"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let place = Place::new();
    place.write_data();
    for (run, seed) in [("a", "3"), ("b", "3"), ("c", "4")] {
        let output = place.train(
            run,
            &[
                "--epochs",
                "3",
                "--seed",
                seed,
                "--trainable",
                "mapper-and-gpt2",
            ],
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let [a, b, c] = ["a", "b", "c"].map(|run| losses(&place.path("artifacts").join(run)));
    assert!(a.len() > 20);
    assert_eq!(a, b);
    assert_ne!(a, c);
    assert!(a[a.len() - 1] < a[0], "it learns: {a:?}");
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let place = Place::new();
    place.write_data();
    let text = fs::read_to_string(place.path("data/captions.json")).unwrap();
    fs::write(place.path("data/captions.json"), &text[..text.len() / 2]).unwrap();
    fails_with(&place.train("cut", &[]), &["data/captions.json", "line"]);
    fs::write(place.path("data/captions.json"), &text).unwrap();
    for index in 0..3 {
        fs::remove_file(place.path(&format!("data/images/00000{index}.png"))).unwrap();
    }
    fails_with(
        &place.train("holes", &[]),
        &["3 of 12 images", "000000.png", "--images"],
    );
    refused_with(&place.train("none", &["--epochs", "0"]), &["epochs is 0"]);
    refused_with(
        &place.train("noisy", &["--noise-rate", "-7"]),
        &["noise with rate -7", "Usage: clipcap train"],
    );
    refused_with(
        &place.train("rank", &["--lora-rank", "4"]),
        &["--lora-rank needs --trainable mapper-and-lora"],
    );
    // What a settings' file says is that file's fault.
    let mut config = TrainConfig::sample("model/tiny".into());
    config.epochs = 0;
    files::write_json(&place.path("none.json"), &config).unwrap();
    fails_with(
        &place.run(&["train", "--config", "none.json", "--device", "cpu"]),
        &["none.json", "epochs is 0"],
    );
    assert!(
        !place.path("artifacts").exists(),
        "runs that learned nothing leave no folder"
    );
    fs::write(place.path("taken"), "").unwrap();
    fs::write(place.path("artifacts"), "a file where the folder should be").unwrap();
    fails_with(&place.train("blocked", &[]), &["artifacts"]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_a_model_that_loads() {
    let place = Place::new();
    place.write_data();
    let mut child = place
        .train_command("long", &["--epochs", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_epoch(&place.path("artifacts/long"), 3, &mut child);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        stdout(&output).contains("stopped after"),
        "{}",
        stdout(&output)
    );
    let status = fs::read_to_string(place.path("artifacts/long/status.json")).unwrap();
    assert!(status.contains("\"interrupted\""), "{status}");
    let infer = place.run(&[
        "infer",
        "--model",
        "artifacts/long/best",
        "--device",
        "cpu",
        &image(),
    ]);
    assert_eq!(infer.status.code(), Some(0), "{}", stderr(&infer));
}

#[test]
#[cfg(unix)]
fn a_killed_run_that_is_resumed_ends_as_one_that_was_not() {
    let place = Place::new();
    place.write_data();
    let more = [
        "--epochs",
        "8",
        "--trainable",
        "mapper-and-gpt2",
        "--seed",
        "5",
    ];
    assert!(place.train("whole", &more).status.success());
    let runs = place.path("artifacts");
    for (run, epoch) in [("killed-2", 2), ("killed-5", 5)] {
        let mut child = place
            .train_command(run, &more)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_epoch(&runs.join(run), epoch, &mut child);
        // Somewhere in the epoch, or while its checkpoint is written.
        std::thread::sleep(Duration::from_millis(u64::from(child.id() % 40)));
        signal(&child, "-KILL");
        child.wait().unwrap();
        let output = place.run(&[
            "train",
            "--resume",
            &format!("artifacts/{run}"),
            "--device",
            "cpu",
            "--ui",
            "plain",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("going on after epoch"),
            "{}",
            stderr(&output)
        );
        assert_eq!(
            losses(&runs.join(run)),
            losses(&runs.join("whole")),
            "{run}"
        );
        assert!(
            weights(&runs.join(run)) == weights(&runs.join("whole")),
            "{run}: other weights"
        );
    }
    assert!(weights(&runs.join("whole")).len() > 1000);
}

#[test]
fn a_finished_run_can_be_resumed_and_another_models_cannot() {
    let place = Place::new();
    place.write_data();
    assert!(place.train("done", &["--epochs", "1"]).status.success());
    let resume = || {
        place.run(&[
            "train",
            "--resume",
            "artifacts/done",
            "--device",
            "cpu",
            "--ui",
            "plain",
        ])
    };
    let before = weights(&place.path("artifacts/done"));
    assert!(resume().status.success());
    assert_eq!(weights(&place.path("artifacts/done")), before);
    write_model_seeded(&place.path("model/tiny"), 2);
    fails_with(
        &resume(),
        &["artifacts/done was begun with another", "model/tiny"],
    );
    refused_with(
        &place.run(&["train", "--resume", "done", "--learning-rate", "1"]),
        &["--resume", "cannot be used with", "--learning-rate"],
    );
    fails_with(
        &place.run(&["train", "--resume", "data"]),
        &["data is not a run", "config.json"],
    );
}

#[test]
fn settings_come_from_a_file_and_unknown_ones_are_refused() {
    let place = Place::new();
    place.write_data();
    assert!(place.train("first", &["--epochs", "1"]).status.success());
    let config = place.path("artifacts/first/config.json");
    let again = |run: &str| {
        place.run(&[
            "train",
            "--config",
            "artifacts/first/config.json",
            "--epochs",
            "2",
            "--run",
            run,
            "--device",
            "cpu",
            "--ui",
            "json",
        ])
    };
    let output = again("second");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let json = stderr(&output)
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap();
    assert_eq!(
        (json["epoch"].as_u64(), json["epochs"].as_u64()),
        (Some(2), Some(2))
    );
    assert!(json["metrics"]["Loss"].is_number(), "{json}");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"epochs\"", "\"epoch\"")).unwrap();
    fails_with(&again("third"), &["config.json", "`epoch`"]);
}

#[test]
fn captions_alone_are_enough_to_learn_from() {
    let place = Place::new();
    place.write_data();
    let captions: String = (0..12)
        .map(|index| clipcap::datasets::scenes::scene(5, index).captions[0].clone() + "\n")
        .collect();
    fs::write(place.path("captions.txt"), captions).unwrap();
    let command = |run, data, more: &[&str]| {
        let args = [
            "train",
            "--preset",
            "capdec",
            "--model",
            "model/tiny",
            "--data",
            data,
            "--prefix-length",
            "4",
            "--layers",
            "1",
            "--epochs",
            "1",
            "--batch-size",
            "4",
            "--device",
            "cpu",
            "--ui",
            "plain",
            "--run",
            run,
        ];
        place.run(&[&args[..], more].concat())
    };
    let output = command("texts", "captions.txt", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let infer = place.run(&["infer", "--device", "cpu", &image()]);
    assert_eq!(infer.status.code(), Some(0), "{}", stderr(&infer));
    fails_with(
        &command("offset", "captions.txt", &["--modality-offset"]),
        &["needs images"],
    );
    let output = command(
        "pairs",
        "data/captions.json",
        &["--images", "data/images", "--modality-offset"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        place
            .path("artifacts/pairs/predictions-test.json")
            .is_file(),
        "it is tested on images"
    );
    fails_with(
        &command("images", "captions.txt", &["--learn-from", "images"]),
        &["captions.txt", "--learn-from captions"],
    );

    let gap = place.run(&[
        "gap",
        "--model",
        "model/tiny",
        "--data",
        "data/captions.json",
        "--images",
        "data/images",
        "--device",
        "cpu",
        "--format",
        "json",
    ]);
    let gap: Value = serde_json::from_str(&stdout(&gap)).unwrap();
    assert_eq!(
        (gap["images"].as_u64(), gap["captions"].as_u64()),
        (Some(12), Some(60))
    );
    assert!(gap["noise_variance"].as_f64().unwrap() > 0.0, "{gap}");
}

#[test]
fn cross_validation_writes_a_table_and_a_configuration_to_train_with() {
    let place = Place::new();
    place.write_data();
    let tune = |more: &[&str]| {
        let args = "tune learning_rate=1e-6,1e-2 prefix_length=2 --folds 2 --model model/tiny --data data/captions.json --images data/images --clip-length 2 --layers 1 --epochs 2 --batch-size 4 --device cpu --run search";
        let args: Vec<&str> = args.split(' ').collect();
        place.run(&[&args[..], more].concat())
    };
    let output = tune(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let search = place.path("artifacts/search");
    let chosen: Value =
        serde_json::from_str(&fs::read_to_string(search.join("chosen.json")).unwrap()).unwrap();
    assert_eq!(chosen["schedule"]["learning_rate"], 0.01);
    assert_eq!(chosen["prefix_length"], 2);
    let table = fs::read_to_string(search.join("table.md")).unwrap();
    assert!(
        stdout(&output).starts_with(&table) && table.lines().count() == 4,
        "{table}"
    );

    // What is finished is not run again; what is not is.
    fs::remove_file(search.join("trials/001/fold-2/result.json")).unwrap();
    let untouched = search.join("trials/002/fold-1/metrics.jsonl");
    let before = fs::metadata(&untouched).unwrap().modified().unwrap();
    let again = tune(&[]);
    assert_eq!(stdout(&again), stdout(&output), "{}", stderr(&again));
    assert_eq!(
        fs::metadata(&untouched).unwrap().modified().unwrap(),
        before
    );
    fails_with(
        &tune(&["--seed", "9"]),
        &["artifacts/search/tune.json", "other settings", "--run"],
    );
    let train = place.run(&[
        "train",
        "--config",
        "artifacts/search/chosen.json",
        "--device",
        "cpu",
        "--ui",
        "plain",
    ]);
    assert_eq!(train.status.code(), Some(0), "{}", stderr(&train));
}

#[test]
fn named_settings_are_compared_in_a_table_and_finished_ones_are_not_run_again() {
    let place = Place::new();
    place.write_data();
    let variants = r#"[
        {"name": "as it is", "set": {}},
        {"name": "Linear mapper", "set": {"mapper": {"name": "linear"}}},
        {"name": "captions alone", "set": {"learn_from": "captions", "noise.mode": "gaussian"}}
    ]"#;
    fs::write(place.path("variants.json"), variants).unwrap();
    let ablate = |more: &[&str]| {
        let args = "ablate variants.json --model model/tiny --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --epochs 1 --batch-size 4 --device cpu --run compared";
        let args: Vec<&str> = args.split(' ').collect();
        place.run(&[&args[..], more].concat())
    };
    let output = ablate(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = place.path("artifacts/compared");
    let table = fs::read_to_string(run.join("table.md")).unwrap();
    assert_eq!(stdout(&output), table);
    let names = ["as it is", "Linear mapper", "captions alone"];
    for (row, name) in table.lines().skip(2).zip(names) {
        assert!(row.starts_with(&format!("| {name} | ")), "{table}");
        assert_eq!(row.matches('|').count(), 8, "{table}");
    }
    let config = fs::read_to_string(run.join("02-linear-mapper/config.json")).unwrap();
    assert!(config.contains("\"linear\""), "{config}");

    // What is finished keeps its numbers, seconds too; what is not is run.
    fs::remove_file(run.join("03-captions-alone/result.json")).unwrap();
    let again = ablate(&[]);
    let rows = |output: &std::process::Output| -> Vec<String> {
        stdout(output).lines().take(4).map(String::from).collect()
    };
    assert_eq!(rows(&again), rows(&output), "{}", stderr(&again));
    fails_with(
        &ablate(&["--seed", "9"]),
        &["ablation.json", "other settings"],
    );
    fs::write(
        place.path("variants.json"),
        "[{\"name\": \"x\", \"set\": {\"depth\": 1}}]",
    )
    .unwrap();
    fs::remove_dir_all(&run).unwrap();
    fails_with(&ablate(&[]), &["`x`", "`depth`"]);
}
