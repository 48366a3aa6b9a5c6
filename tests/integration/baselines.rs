//! `clipcap evaluate --baselines` as it is used.

use std::fs;

use crate::common::place::{Place, fails_with, stderr, stdout};
use serde_json::Value;

const BASELINES: &str = "evaluate --baselines --data data/captions.json --images data/images --shares 50/25/25 --device cpu";

fn json(place: &Place, more: &str) -> Value {
    let output = place
        .line(&format!("{BASELINES} --format json{more}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn baselines_are_scored_beside_a_model_on_the_same_images() {
    let place = Place::new();
    place.write_data();
    let found = json(
        &place,
        " --model model/tiny --output out --markdown kept.md",
    );
    assert_eq!(
        (&found["train_images"], &found["part"]),
        (&6.into(), &"test".into())
    );
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "most frequent training caption",
            "random training caption",
            "caption of the nearest image",
            "model/tiny"
        ]
    );
    for row in rows {
        let scores = &row["scores"];
        assert_eq!(scores["images"], 3);
        let cider = scores["overall"]["CIDEr"].as_f64().unwrap();
        let interval = scores["intervals"]["CIDEr"].as_array().unwrap();
        assert!(interval[0].as_f64().unwrap() <= cider && cider <= interval[1].as_f64().unwrap());
    }
    let ids = |scores: &Value| -> Vec<String> {
        scores["per_image"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(ids(&rows[0]["scores"]), ids(&rows[3]["scores"]));

    // What the baselines said is a training caption, and stands in a file that scores the same.
    let text = fs::read_to_string(place.path("out/predictions-test-nearest-image.json")).unwrap();
    let said: Vec<Value> = serde_json::from_str(&text).unwrap();
    let data = fs::read_to_string(place.path("data/captions.json")).unwrap();
    for one in &said {
        assert!(data.contains(one["caption"].as_str().unwrap()), "{one}");
    }
    let output = place
        .line("evaluate --candidates out/predictions-test-nearest-image.json --references data/captions.json --allow-missing --format json")
        .output()
        .unwrap();
    let again: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(again["overall"], rows[2]["scores"]["overall"]);
    let kept = fs::read_to_string(place.path("kept.md")).unwrap();
    assert!(
        kept.starts_with("<!-- clipcap evaluate --baselines --data data/captions.json"),
        "{kept}"
    );
    assert_eq!(
        kept.lines().filter(|line| line.starts_with("| ")).count(),
        6,
        "{kept}"
    );
}

#[test]
fn baselines_need_no_model_and_repeat_with_the_seed() {
    let place = Place::new();
    place.write_data();
    let found = json(&place, "");
    assert_eq!(found["rows"].as_array().unwrap().len(), 3);
    assert_eq!(found, json(&place, ""));
    assert_ne!(found["rows"][1], json(&place, " --seed 5")["rows"][1]);
    let output = place.line(BASELINES).output().unwrap();
    let text = stdout(&output);
    assert!(
        text.starts_with("captions") && text.contains(" to "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(stderr(&output).contains("the first caption of the nearest of 6 images"));
    let train = place
        .line(&format!("{BASELINES} --split train"))
        .output()
        .unwrap();
    fails_with(&train, &["the train part tells nothing", "test or val"]);
    let alone = place.line("evaluate --split val").output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
}
