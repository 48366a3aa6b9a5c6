//! The program as it is used: what it prints, what it writes, how it fails.

use std::fs;

use crate::common::place::{INFER, Place, fails_with, image, json_lines, stderr, stdout};
use serde_json::Value;

#[test]
fn a_caption_has_tokens_log_prob_and_score() {
    let place = Place::new();
    let output = place.run(&[&INFER[..], &["--format", "jsonl", &image()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let line = json_lines(&output).remove(0);
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["image", "rank", "caption", "tokens", "log_prob", "score"]
    );
    let tokens = line["tokens"].as_array().unwrap().len() as f64;
    let (sum, mean) = (
        line["log_prob"].as_f64().unwrap(),
        line["score"].as_f64().unwrap(),
    );
    assert!(sum < 0.0 && (sum / tokens - mean).abs() < 1e-4);
}

#[test]
fn beams_are_ranked_and_one_beam_is_greedy() {
    let place = Place::new();
    let infer = |more: &[&str]| {
        let args = [&INFER[..], &["--format", "jsonl"], more, &[&image()]];
        let output = place.run(&args.concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        json_lines(&output)
    };
    let beams = infer(&["--decode", "beam", "--num-captions", "5"]);
    assert_eq!(beams.len(), 5);
    let scores: Vec<f64> = beams
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(
        infer(&["--decode", "beam", "--beam-size", "1"])[0]["tokens"],
        infer(&[])[0]["tokens"]
    );
    let sample = |seed| infer(&["--decode", "sample", "--num-captions", "3", "--seed", seed]);
    assert_eq!(sample("4"), sample("4"));
    assert_ne!(sample("4"), sample("5"));
}

#[test]
fn a_bad_image_is_reported_and_the_others_are_captioned() {
    let place = Place::new();
    fs::write(place.path("notes.jpg"), "not an image").unwrap();
    let good = image();
    let images = ["notes.jpg", &good, "missing.png"];
    let output = place.run(&[&INFER[..], &["--format", "jsonl"], &images].concat());
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert!(
        lines[0]["error"]
            .as_str()
            .unwrap()
            .contains("notes.jpg: is not an image")
    );
    assert!(lines[1]["caption"].is_string());
    assert!(
        lines[2]["error"]
            .as_str()
            .unwrap()
            .contains("missing.png: no such file")
    );

    let output = place.run(&[&INFER[..], &images].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output).lines().count(),
        1,
        "only the caption is on standard output"
    );
    assert_eq!(
        stderr(&output).matches("error: ").count(),
        2,
        "{}",
        stderr(&output)
    );

    let output = place.run(&[&INFER[..], &["--format", "csv"], &images].concat());
    assert!(stdout(&output).starts_with("image,rank,caption,log_prob,score,error\n"));
    assert_eq!(stdout(&output).lines().count(), 4);
}

#[test]
fn a_folder_of_images_is_captioned_by_name() {
    let place = Place::new();
    place.write_data();
    let output = place.run(&[&INFER[..], &["data/images"]].concat());
    let names: Vec<String> = stdout(&output)
        .lines()
        .map(|line| line.split(':').next().unwrap().to_string())
        .collect();
    assert_eq!(names.len(), 12);
    assert!(
        names.is_sorted() && names[0].ends_with("000000.png"),
        "{names:?}"
    );
}

#[test]
fn embeddings_are_the_same_alone_and_in_a_batch() {
    let place = Place::new();
    place.write_data();
    let embed = |path: &str| {
        let output = place.run(&["embed", "--model", "model/tiny", "--device", "cpu", path]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        json_lines(&output)
    };
    let all = embed("data/images");
    assert_eq!(all[3]["embedding"].as_array().unwrap().len(), 8);
    let alone = embed("data/images/000003.png");
    for (a, b) in all[3]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .zip(alone[0]["embedding"].as_array().unwrap())
    {
        assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5);
    }
}

#[test]
fn embed_and_evaluate_take_the_precision_that_infer_takes() {
    let place = Place::new();
    place.write_data();
    let on_model = |command: &str, more: &str| {
        let line = format!("{command} --model model/tiny --device cpu {more}");
        place.line(&line).output().unwrap()
    };
    let embed = |precision: &str| -> Vec<f64> {
        let output = on_model("embed", &format!("data/images{precision}"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let values = |line: &Value| line["embedding"].as_array().unwrap().clone();
        let values = json_lines(&output).iter().flat_map(values).collect();
        let values: Vec<Value> = values;
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let exact = embed("");
    assert_eq!(embed(" --precision f32"), exact);
    let largest = exact
        .iter()
        .fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (precision, tolerance) in [("f16", 0.01), ("int8", 0.1)] {
        let found = embed(&format!(" --precision {precision}"));
        assert_ne!(found, exact, "{precision}");
        let differences = exact.iter().zip(&found).map(|(a, b)| (a - b).abs());
        let most = differences.fold(0.0, f64::max);
        assert!(
            most < tolerance * largest,
            "{precision}: {most} of {largest}"
        );
    }
    let data = "--data data/captions.json --images data/images --split all --resamples 0";
    for precision in ["", " --precision f32", " --precision int8"] {
        let output = on_model("evaluate", &format!("{data}{precision}"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains("CIDEr"), "{}", stdout(&output));
    }
    let sets = fs::read_dir(place.path("dataset/embeddings")).unwrap();
    assert_eq!(sets.count(), 2, "embeddings in float32, and in int8");
    let alone = "evaluate --candidates a.json --references b.json --precision f32";
    assert_eq!(place.line(alone).output().unwrap().status.code(), Some(2));
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::new();
    let cases: [&[&str]; 5] = [
        &["infer", "--device", "gpu"],
        &["infer", "--num-captions", "3"],
        &[
            "infer",
            "--decode",
            "beam",
            "--beam-size",
            "2",
            "--num-captions",
            "3",
        ],
        &["train", "--split", "80/30/10"],
        &["nonsense"],
    ];
    for args in cases {
        let output = place.run(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
    assert!(stderr(&place.run(cases[0])).contains("auto, cpu, wgpu"));
}

#[test]
fn model_folders_that_are_not_whole_are_refused_by_file_and_key() {
    let place = Place::new();
    let infer = || place.run(&[&INFER[..], &[&image()]].concat());
    let config = place.path("model/tiny/config.json");
    let text = fs::read_to_string(&config).unwrap();

    fs::write(&config, text.replacen("\"n_layer\"", "\"n_layers\"", 1)).unwrap();
    fails_with(&infer(), &["config.json", "n_layers"]);
    fs::write(&config, text.replacen("\"n_embd\": 16,", "", 1)).unwrap();
    fails_with(&infer(), &["config.json", "n_embd"]);
    fs::write(
        &config,
        text.replacen("\"patch_size\": 8", "\"patch_size\": 7", 1),
    )
    .unwrap();
    fails_with(&infer(), &["config.json", "patch_size is 7"]);
    fs::write(
        &config,
        text.replacen("\"n_positions\": 64", "\"n_positions\": 65", 1),
    )
    .unwrap();
    fails_with(&infer(), &["gpt2.bpk", "config.json"]);
    fs::write(&config, &text).unwrap();

    let weights = place.path("model/tiny/mapper.bpk");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fails_with(&infer(), &["mapper.bpk"]);
    fs::remove_file(&weights).unwrap();
    fails_with(&infer(), &["mapper.bpk is missing"]);
    fails_with(
        &place.run(&["infer", "--model", "nowhere", &image()]),
        &["nowhere is not a model folder"],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let place = Place::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&INFER);
    let output = command.arg(image()).stdout(full).output().unwrap();
    fails_with(&output, &["writing to standard output"]);
}
