//! `clipcap evaluate` as it is used.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::common::metric_fixture;
use crate::common::model::write_model;
use clipcap::datasets::scenes;
use serde_json::{Value, json};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// The golden captions as COCO files: `results.json`, and `shuffled.json` with everyone else's captions.
    fn write_golden(&self) -> Value {
        let text = fs::read_to_string(metric_fixture("real.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let images = golden["images"].as_array().unwrap();
        let result = |image: &Value, other: &Value| json!({"image_id": image["id"], "caption": other["candidate"]});
        let annotations: Vec<Value> = (images.iter())
            .flat_map(|image| {
                let references = image["references"].as_array().unwrap().iter();
                references.map(|caption| json!({"image_id": image["id"], "caption": caption}))
            })
            .collect();
        let listed: Vec<Value> = images
            .iter()
            .map(|image| json!({"id": image["id"], "file_name": "missing.jpg"}))
            .collect();
        self.write(
            "references.json",
            &json!({"images": listed, "annotations": annotations}),
        );
        let own: Vec<Value> = images.iter().map(|image| result(image, image)).collect();
        self.write("results.json", &own.into());
        let others = images.iter().skip(1).chain(images.first());
        let shuffled: Vec<Value> = images
            .iter()
            .zip(others)
            .map(|(a, b)| result(a, b))
            .collect();
        self.write("shuffled.json", &shuffled.into());
        golden
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_clipcap"))
            .arg("evaluate")
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fail(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            output.stdout.is_empty() && !errors.contains("panicked"),
            "{errors}"
        );
        let last = errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{errors}");
        last.to_string()
    }
}

const FILES: [&str; 4] = [
    "--candidates",
    "results.json",
    "--references",
    "references.json",
];

#[test]
fn json_has_pycocoevalcaps_names_and_numbers() {
    let place = Place::new();
    let golden = place.write_golden();
    let more = [
        "--format",
        "json",
        "--meteor-data",
        &metric_fixture("meteor").display().to_string(),
    ];
    let text = place.succeed(&[&FILES[..], &more].concat());
    let found: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&String> = found["overall"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"
        ]
    );
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-4;
    for name in names {
        assert!(
            close(&found["overall"][name], &golden["overall"][name]),
            "{name}"
        );
        let interval = found["intervals"][name].as_array().unwrap();
        let value = found["overall"][name].as_f64().unwrap();
        assert!(interval[0].as_f64().unwrap() < value && value < interval[1].as_f64().unwrap());
        for image in golden["images"].as_array().unwrap() {
            let id = image["id"].to_string();
            assert!(
                close(&found["per_image"][&id][name], &image["scores"][name]),
                "{name} {id}"
            );
        }
    }
}

#[test]
fn without_data_meteor_has_an_honest_name_and_tables_are_printed() {
    let place = Place::new();
    place.write_golden();
    let text = place.succeed(&FILES);
    assert!(
        text.contains("METEOR_exact_stem") && text.contains("95% interval"),
        "{text}"
    );
    assert!(text.contains("vocabulary") && text.lines().all(|line| line.len() < 100));
    let markdown =
        place.succeed(&[&FILES[..], &["--format", "markdown", "--resamples", "0"]].concat());
    assert!(
        markdown.starts_with("| score") && markdown.contains("| CIDEr"),
        "{markdown}"
    );
}

#[test]
fn frequencies_from_another_corpus_change_cider_alone() {
    let place = Place::new();
    place.write_golden();
    let plain = ["--format", "json", "--resamples", "0"];
    let own: Value = serde_json::from_str(&place.succeed(&[&FILES[..], &plain].concat())).unwrap();
    let same = place.succeed(&[&FILES[..], &plain, &["--cider-df", "references.json"]].concat());
    assert_eq!(own, serde_json::from_str::<Value>(&same).unwrap());
    place.write(
        "df.json",
        &json!({"images": 5000, "document_frequency": {"a": 4800, "dog": 200, "a dog": 150}}),
    );
    let other = place.succeed(&[&FILES[..], &plain, &["--cider-df", "df.json"]].concat());
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_ne!(own["overall"]["CIDEr"], other["overall"]["CIDEr"]);
    assert_eq!(own["overall"]["Bleu_4"], other["overall"]["Bleu_4"]);
}

#[test]
fn a_comparison_finds_the_better_file_and_the_images_that_moved() {
    let place = Place::new();
    place.write_golden();
    let args = [
        "--compare",
        "shuffled.json",
        "results.json",
        "--references",
        "references.json",
    ];
    let text = place.succeed(&[&args[..], &["--format", "json"]].concat());
    let found: Value = serde_json::from_str(&text).unwrap();
    let cider = &found["differences"][6];
    assert_eq!(cider["name"], "CIDEr");
    assert!(
        cider["interval"]["low"].as_f64().unwrap() > 0.3 && cider["p"].as_f64().unwrap() < 0.01
    );
    let moved = found["moved"].as_array().unwrap();
    assert_eq!(moved.len(), 10);
    assert!(moved[0]["b"].as_f64().unwrap() > moved[0]["a"].as_f64().unwrap() + 1.0);
    assert!(place.succeed(&args).contains("B - A"));

    let partial: Value =
        serde_json::from_str(&fs::read_to_string(place.path("results.json")).unwrap()).unwrap();
    place.write(
        "partial.json",
        &partial.as_array().unwrap()[1..].to_vec().into(),
    );
    let error = place.fail(&[
        "--compare",
        "partial.json",
        "results.json",
        "--references",
        "references.json",
    ]);
    assert!(error.contains("is not in the first file"), "{error}");
}

#[test]
fn wrong_input_is_one_line_that_names_the_entry() {
    let place = Place::new();
    place.write_golden();
    let cases = [
        (
            r#"[{"image_id": 1, "caption": "a"}]"#,
            "image 1 is not in references.json",
        ),
        ("[{\"image_id\": 1,", "bad.json: is not JSON"),
        ("", "bad.json: is empty"),
        (
            r#"[{"image_id": 1, "caption": "a"}, {"image_id": "1.0", "caption": "b"}]"#,
            "entry 2 is the second caption of image 1",
        ),
        (
            r#"[{"image_id": 1}]"#,
            "entry 1 (image 1): has no `caption`",
        ),
    ];
    for (text, expected) in cases {
        fs::write(place.path("bad.json"), text).unwrap();
        let error = place.fail(&[
            "--candidates",
            "bad.json",
            "--references",
            "references.json",
        ]);
        assert!(error.contains(expected), "{error}");
    }
    let error = place.fail(&[
        "--candidates",
        "none.json",
        "--references",
        "references.json",
    ]);
    assert!(error.contains("none.json: cannot be opened"), "{error}");
    let error = place.fail(&[&FILES[..], &["--meteor-data", "nowhere"]].concat());
    assert!(
        error.contains("nowhere") && error.contains("meteor-1.5.jar"),
        "{error}"
    );
    assert_eq!(place.run(&[]).status.code(), Some(2));
    assert_eq!(
        place.run(&["--candidates", "results.json"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_model_captions_a_part_first_and_clip_scores_what_it_says() {
    let place = Place::new();
    write_model(&place.path("model"));
    scenes::ensure(&place.path("data"), 5, 12).unwrap();
    let args = [
        "--model",
        "model",
        "--data",
        "data/captions.json",
        "--images",
        "data/images",
        "--device",
        "cpu",
        "--shares",
        "50/25/25",
        "--clip-score",
        "model",
        "--format",
        "json",
        "--report",
        "report.html",
    ];
    let found: Value = serde_json::from_str(&place.succeed(&args)).unwrap();
    assert_eq!(found["images"], 3);
    let clip = found["overall"]["CLIPScore"].as_f64().unwrap();
    let with_references = found["overall"]["RefCLIPScore"].as_f64().unwrap();
    assert!((0.0..=2.5).contains(&clip) && (0.0..=2.5).contains(&with_references));
    let predictions: Value =
        serde_json::from_str(&fs::read_to_string(place.path("predictions-test.json")).unwrap())
            .unwrap();
    assert_eq!(predictions.as_array().unwrap().len(), 3);
    // What is on generated images is known.
    let metrics: Value =
        serde_json::from_str(&fs::read_to_string(place.path("metrics-test.json")).unwrap())
            .unwrap();
    for share in ["true_captions", "right_main_objects"] {
        assert!((0.0..=1.0).contains(&metrics["scenes"][share].as_f64().unwrap()));
    }
    assert_eq!(metrics, found);
    let report = fs::read_to_string(place.path("report.html")).unwrap();
    assert_eq!(
        report.matches("<img src=\"data:image/jpeg;base64,").count(),
        9,
        "each kind shows all three"
    );

    // The file that was written scores the same again.
    let again = place.succeed(&[
        "--candidates",
        "predictions-test.json",
        "--references",
        "data/captions.json",
        "--allow-missing",
        "--format",
        "json",
    ]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["overall"]["CIDEr"], found["overall"]["CIDEr"]);
    let error = place.fail(&[
        "--model",
        "model",
        "--data",
        "data/captions.json",
        "--images",
        "nowhere",
        "--device",
        "cpu",
    ]);
    assert!(
        error.contains("cannot be read") && error.contains("nowhere"),
        "{error}"
    );
}
