//! What the program says of itself and of what it took one thing for.

use std::fs;

use crate::common::place::{Place, fails_with, stderr, stdout};

const COMMANDS: [&str; 13] = [
    "train", "infer", "serve", "embed", "gap", "tune", "ablate", "evaluate", "pretrain", "probe",
    "convert", "export", "fetch",
];

#[test]
fn help_is_wrapped() {
    let place = Place::new();
    for command in COMMANDS {
        let output = place.run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        for line in stdout(&output).lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
}

#[test]
fn an_unknown_field_comes_with_the_one_that_was_meant() {
    let place = Place::new();
    place.write_data();
    let data = [
        "--model",
        "model/tiny",
        "--data",
        "data/captions.json",
        "--device",
        "cpu",
    ];
    for (given, meant) in [
        ("learning_rat=1e-3,2e-3", "`learning_rat`"),
        ("noise.rates=0.1,0.2", "`noise.rates`"),
    ] {
        let output = place.run(&[&["tune", given, "--folds", "2"], &data[..]].concat());
        fails_with(&output, &[meant, "did you mean `"]);
    }
    fs::write(
        place.path("variants.json"),
        r#"[{"name": "slow", "set": {"learnin_rate": 0.1}}]"#,
    )
    .unwrap();
    let output = place.run(&[&["ablate", "variants.json"], &data[..]].concat());
    fails_with(&output, &["`slow`", "did you mean `learning_rate`?"]);

    let trained = place.train("first", &["--epochs", "1"]);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let config = fs::read_to_string(place.path("artifacts/first/config.json")).unwrap();
    let config = config.replacen("\"epochs\"", "\"epoch\"", 1);
    fs::write(place.path("mine.json"), config).unwrap();
    let output = place.run(&["train", "--config", "mine.json", "--device", "cpu"]);
    fails_with(&output, &["mine.json", "`epoch`: did you mean `epochs`?"]);
}

#[test]
fn a_run_says_which_settings_data_and_parts_it_took() {
    let place = Place::new();
    place.write_data();
    let told = |more: &[&str]| {
        let name = format!("run-{}", more.len());
        let output = place.train(&name, &[&["--epochs", "1"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    let text = told(&[]);
    for part in [
        "settings: the preset paper",
        "data/captions.json: read as COCO caption annotations",
        "(80/10/10 by seed 1)",
    ] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    let text = told(&["--preset", "clipcap-mlp", "--split", "60/20/20"]);
    for part in ["settings: the preset clipcap-mlp", "(60/20/20 by seed 1)"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}
