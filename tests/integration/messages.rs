//! What the program says of itself and of what it took one thing for.

use std::fs;

use crate::common::place::{INFER, Place, fails_with, image, refused_with, stderr, stdout};

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
        refused_with(&output, &[meant, "did you mean `"]);
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
fn a_value_out_of_its_range_is_wrong_usage_wherever_it_is_found() {
    let place = Place::new();
    let image = image();
    let infer = |args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        place.run(&[&INFER[..], &args, &[&image]].concat())
    };
    for (args, part) in [
        (
            "--decode sample --min-p -1",
            "min-p is -1: give a number from 0",
        ),
        ("--decode sample --temperature -0.5", "temperature is -0.5"),
        ("--decode sample --top-k 0", "top-k is 0"),
        ("--decode beam --beam-size 0", "--beam-size"),
        ("--decode beam --beam-size -1", "give a whole number"),
        ("--length-penalty 1e30", "give a number from -10 to 10"),
        ("--length-penalty -11", "length penalty is -11"),
        ("--repetition-penalty -1", "repetition penalty is -1"),
        ("--max-length 0", "longest caption is 0"),
        ("--min-length 100", "shortest caption is 100"),
        ("--batch-size 0", "give at least 1"),
        ("--seed 1.5 --decode sample", "give a whole number"),
    ] {
        refused_with(&infer(args), &[part]);
    }
    let fine = infer("--length-penalty -1");
    assert_eq!(fine.status.code(), Some(0), "{}", stderr(&fine));
    for (line, parts) in [
        (
            "evaluate --model model/tiny --beam-size 3",
            ["--beam-size needs --decode beam", "evaluate"],
        ),
        (
            "evaluate --model model/tiny --decode beam --beam-size 0",
            ["beam size is 0", "evaluate"],
        ),
        ("serve --temperature -1", ["temperature is -1", "serve"]),
        ("serve --beam-size 0", ["beam size is 0", "serve"]),
        (
            "serve --max-request 1",
            ["--max-request 1 is less", "serve"],
        ),
        ("tune epochs=1,2 --folds 1", ["1 folds are too few", "tune"]),
        ("tune epochs=0,2 --folds 2", ["epochs is 0", "tune"]),
        ("ablate a.json --epochs 0", ["epochs is 0", "ablate"]),
        (
            "pretrain clip --output x --epochs 0",
            ["epochs is 0", "pretrain clip"],
        ),
        (
            "pretrain gpt2 --output x --learning-rate -1",
            ["learning rate is -1", "pretrain gpt2"],
        ),
        (
            "pretrain simclr --output x --batch-size 1",
            ["a batch of one image", "pretrain simclr"],
        ),
        (
            "pretrain simclr --output x --resume a --epochs 1",
            ["with '--epochs <N>'", "pretrain simclr"],
        ),
        (
            "probe --ablate losses --values 1",
            ["--values is for", "probe"],
        ),
        (
            "probe --ablate batch-size --values -2",
            ["a batch of -2", "probe"],
        ),
        ("probe --neighbors 0", ["--neighbors is 0", "probe"]),
    ] {
        let output = place.line(line).output().unwrap();
        let usage = format!("Usage: clipcap {}", parts[1]);
        refused_with(&output, &[parts[0], &usage]);
    }
    assert!(!place.path("artifacts").exists(), "nothing was begun");
    // More beams than this model has tokens are wrong for this model alone.
    fails_with(&infer("--decode beam --beam-size 100000"), &["100000"]);
}

#[test]
fn flags_of_another_search_are_refused_by_name() {
    let place = Place::new();
    let image = image();
    for (decode, flag, value, needed) in [
        ("greedy", "--beam-size", "3", "beam"),
        ("sample", "--beam-size", "3", "beam"),
        ("greedy", "--beam-rule", "hf", "beam"),
        ("sample", "--early-stopping", "true", "beam"),
        ("greedy", "--beam-groups", "2", "beam"),
        ("beam", "--temperature", "0.5", "sample"),
        ("greedy", "--top-k", "3", "sample"),
        ("beam", "--top-p", "0.5", "sample"),
        ("greedy", "--min-p", "0.5", "sample"),
        ("beam", "--typical-p", "0.5", "sample"),
        ("greedy", "--epsilon-cutoff", "0.5", "sample"),
        ("beam", "--eta-cutoff", "0.5", "sample"),
        ("greedy", "--seed", "3", "sample"),
        ("beam", "--best-of", "3", "sample"),
    ] {
        let args = ["--decode", decode, flag, value, &image];
        let output = place.run(&[&INFER[..], &args].concat());
        refused_with(&output, &[&format!("{flag} needs --decode {needed}")]);
    }
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
