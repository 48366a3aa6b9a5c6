//! What a run leaves to be looked at, and `clipcap runs`.

use std::fs;
use std::path::Path;

use crate::common::place::{Place, fails_with, image, stderr, stdout};
use serde_json::Value;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(place: &Place, line: &str) -> Value {
    let output = place.line(line).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The events of a TensorBoard file, as their bytes.
fn events(run: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.display().to_string().contains("/events.out.tfevents."))
        .collect();
    files.sort();
    let mut events = Vec::new();
    for file in files {
        let bytes = fs::read(file).unwrap();
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            events.push(after[4..4 + length].to_vec());
            rest = &after[4 + length + 4..];
        }
    }
    events
}

fn has(event: &[u8], text: &str) -> bool {
    event
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn a_run_keeps_samples_a_report_and_event_files() {
    let place = Place::new();
    place.write_data();
    let output = place.train(
        "a",
        &["--epochs", "3", "--tensorboard", "--shares", "50/25/25"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = place.path("artifacts/a");
    let samples: Vec<Value> = (read(&run.join("samples.jsonl")).lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |epoch: u64| -> Vec<&Value> {
        let of = samples.iter().filter(|sample| sample["epoch"] == epoch);
        of.map(|sample| &sample["file_name"]).collect()
    };
    assert_eq!(of(1).len(), 3);
    assert_eq!((of(1), samples.len()), (of(3), 9));
    assert_eq!(samples[0]["references"].as_array().unwrap().len(), 5);

    let page = read(&run.join("report.html"));
    for outside in [
        "http://", "https://", "<link", "src=\"/", "@import", "url(", "{{",
    ] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "{outside}");
    }
    let section = page.split("id=\"samples\">").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    assert_eq!(section.matches("<article").count(), 3);
    assert_eq!(
        section
            .matches("<img src=\"data:image/jpeg;base64,")
            .count(),
        3
    );
    assert!(
        page.contains("finished on ") && page.contains("epoch 3 was best"),
        "state and best"
    );
    assert!(page.contains("CIDEr of validation captions") && page.contains("Test scores"));
    assert!(page.contains("<td>epochs</td><td>3</td><td>20</td>"));

    // Three batches for each of 6 images with 5 captions, in batches of 4: 8 steps an epoch.
    let events = events(&run);
    assert!(has(&events[0], "brain.Event:2"));
    let count = |tag: &str| events.iter().filter(|event| has(event, tag)).count();
    assert_eq!(count("Loss/train"), 24);
    assert_eq!(
        (count("Loss/validation"), count("CIDEr/validation")),
        (3, 3)
    );
    let summary: Value = serde_json::from_str(&read(&run.join("summary.json"))).unwrap();
    assert!(summary["seconds"].as_f64().unwrap() > 0.0 && summary["best_epoch"] == 3);
    let status: Value = serde_json::from_str(&read(&run.join("status.json"))).unwrap();
    assert_eq!(status["status"], "finished");
}

#[test]
fn damaged_runs_are_listed_and_told() {
    let place = Place::new();
    place.write_data();
    let output = place.train("whole", &["--epochs", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let copy = |name: &str, file: &str, text: &str| {
        let (from, to) = (
            place.path("artifacts/whole"),
            place.path("artifacts").join(name),
        );
        fs::create_dir_all(to.join("best")).unwrap();
        for folder in ["", "best"] {
            for entry in fs::read_dir(from.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let target = to.join(folder).join(path.file_name().unwrap());
                    fs::copy(&path, target).unwrap();
                }
            }
        }
        fs::write(to.join(file), text).unwrap();
    };
    copy("settings", "config.json", "{\"model\":");
    copy("status", "status.json", "finished");
    let output = place.run(&["runs"]);
    let (table, told) = (stdout(&output), stderr(&output));
    for (name, file) in [("settings", "config.json"), ("status", "status.json")] {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap();
        assert!(row.contains("damaged"), "{table}");
        let line = told.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(file), "{told}");
    }
    let listed = json(&place, "runs --format json");
    assert_eq!(listed.as_array().unwrap().len(), 3);
    fails_with(
        &place.run(&["runs", "compare", "whole", "settings"]),
        &["artifacts/settings is damaged", "config.json"],
    );
    fails_with(
        &place.run(&["evaluate", "--model", "settings", "--device", "cpu"]),
        &["artifacts/settings/config.json"],
    );
    let doctor = stdout(&place.run(&["doctor"]));
    let wrong = |part: &str| {
        let lines = doctor.lines().filter(|line| line.starts_with("WRONG"));
        lines.filter(|line| line.contains(part)).count()
    };
    assert_eq!(
        (wrong("config.json"), wrong("status.json")),
        (1, 1),
        "{doctor}"
    );
    // What is passed over is named.
    let infer = place.run(&["infer", "--device", "cpu", &image()]);
    let told = stderr(&infer);
    assert!(!told.contains("status/best"), "{told}");
}

#[test]
fn runs_are_listed_and_two_of_them_compared() {
    let place = Place::new();
    place.write_data();
    let none = place.run(&["runs"]);
    assert_eq!(
        (stdout(&none), none.status.code()),
        (String::new(), Some(0))
    );
    assert!(stderr(&none).contains("artifacts has no run"));
    let train = |run: &str, more: &[&str]| {
        let output = place.train(run, &[&["--shares", "50/25/25", "--epochs"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    train("short", &["1"]);
    train("long", &["6", "--noise", "none"]);
    train("other", &["1", "--seed", "9"]);
    fs::write(
        place.path("artifacts/other/status.json"),
        "{\"status\": \"begun\"}",
    )
    .unwrap();
    fs::create_dir(place.path("artifacts/no-run")).unwrap();

    let text = stdout(&place.run(&["runs"]));
    assert!(
        text.starts_with("run ") && text.lines().count() == 4,
        "{text}"
    );
    let runs = json(&place, "runs --format json");
    let find = |name: &str| {
        let runs = runs.as_array().unwrap().iter();
        runs.clone()
            .find(|run| run["name"] == name)
            .unwrap()
            .clone()
    };
    let long = find("long");
    assert_eq!(
        (&long["kind"], &long["state"]),
        (&"train".into(), &"finished".into())
    );
    assert_eq!(
        (&long["epochs"], &long["best_epoch"]),
        (&6.into(), &6.into())
    );
    assert!(long["validation_loss"].as_f64() < find("short")["validation_loss"].as_f64());
    assert!(long["test"]["CIDEr"].is_number() && long["seconds"].is_number());
    let differs = long["differs"].as_array().unwrap();
    assert!(
        differs
            .iter()
            .any(|one| one["name"] == "noise.mode" && one["b"] == "none"),
        "{differs:?}"
    );
    assert_eq!(find("other")["state"], "interrupted");

    let found = json(&place, "runs compare short long --format json");
    let settings: Vec<&str> = (found["settings"].as_array().unwrap().iter())
        .map(|changed| changed["name"].as_str().unwrap())
        .collect();
    assert_eq!(settings, ["noise.mode", "epochs"]);
    assert_eq!(found["test"]["images"], 3);
    let cider = &found["test"]["differences"][6];
    assert_eq!(cider["name"], "CIDEr");
    assert_eq!(cider["a"], find("short")["test"]["CIDEr"]);
    assert!(cider["p"].as_f64().unwrap() <= 1.0);
    let text = stdout(&place.run(&["runs", "compare", "short", "artifacts/long"]));
    for part in [
        "A: short  B: long",
        "noise.mode",
        "validation loss",
        "B - A",
        "interval",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Another seed has other test images: the numbers stand there without a test.
    let found = json(&place, "runs compare short other --format json");
    assert!(found["test"].is_null());
    let why = found["untested"].as_str().unwrap();
    assert!(
        why.contains("short and other were tested on other images"),
        "{why}"
    );
    let names = found["numbers"].as_array().unwrap().iter();
    assert!(names.clone().any(|number| number["name"] == "test CIDEr"));
    fails_with(
        &place.run(&["runs", "compare", "shrt", "long"]),
        &["artifacts has no run `shrt`", "did you mean `short`?"],
    );
}

#[test]
fn an_ablation_of_several_seeds_tells_mean_and_spread_and_is_resumed() {
    let place = Place::new();
    place.write_data();
    let variants = r#"[{"name": "as it is", "set": {}}, {"name": "linear", "set": {"mapper": {"name": "linear"}}}]"#;
    fs::write(place.path("variants.json"), variants).unwrap();
    let ablate = || {
        let line = "ablate variants.json --seeds 2 --markdown table.md --model model/tiny --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --epochs 1 --batch-size 4 --device cpu --run seeds";
        place.line(line).output().unwrap()
    };
    let output = ablate();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("2 settings x 2 seeds"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("4/4  linear, seed 2: validation loss "));
    let run = place.path("artifacts/seeds");
    let table = read(&run.join("table.md"));
    assert_eq!(stdout(&output), table);
    assert_eq!(table.matches('±').count(), 2 * 6 + 1, "{table}");
    let kept = read(&place.path("table.md"));
    let (comment, rest) = kept.split_once("\n\n").unwrap();
    assert!(
        comment.starts_with("<!-- clipcap ablate variants.json --seeds 2"),
        "{comment}"
    );
    assert_eq!(rest, table);
    let config = |place: &str| -> Value {
        serde_json::from_str(&read(&run.join(place).join("config.json"))).unwrap()
    };
    let second = config("02-linear/seed-2");
    assert_eq!(
        (&second["seed"], &second["split_seed"]),
        (&2.into(), &1.into())
    );
    let said = |place: &str| {
        let said: Vec<Value> =
            serde_json::from_str(&read(&run.join(place).join("predictions-test.json"))).unwrap();
        said.into_iter()
            .map(|said| said["image_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        said("02-linear/seed-1"),
        said("02-linear/seed-2"),
        "the same test images"
    );

    fs::remove_file(run.join("01-as-it-is/seed-2/result.json")).unwrap();
    let listed = json(&place, "runs --format json");
    assert_eq!(
        (&listed[0]["kind"], &listed[0]["state"]),
        (&"ablate".into(), &"interrupted".into())
    );
    assert_eq!(listed[0]["progress"], serde_json::json!([3, 4]));
    let again = ablate();
    let last = |output| stdout(output).lines().nth(3).map(String::from);
    assert_eq!(last(&again), last(&output), "{}", stderr(&again));
    let state = &json(&place, "runs --format json")[0]["state"];
    assert_eq!(state, "finished");
}

#[test]
fn a_run_is_evaluated_on_what_it_was_not_trained_on_and_keeps_its_own_scores() {
    let place = Place::new();
    place.write_data();
    let output = place.train(
        "nine",
        &["--shares", "50/25/25", "--epochs", "1", "--seed", "9"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let predictions = place.path("artifacts/nine/predictions-test.json");
    let ids = |path: &Path| -> Vec<Value> {
        let results: Value = serde_json::from_str(&read(path)).unwrap();
        let results = results.as_array().unwrap();
        let mut ids: Vec<Value> = results.iter().map(|one| one["image_id"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    let own = ids(&predictions);
    let evaluate = |more: &str| {
        let line = format!(
            "evaluate --model nine --data data/captions.json --images data/images --device cpu {more}"
        );
        let output = place.line(&line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    evaluate("--resamples 10");
    assert_eq!(ids(&predictions), own, "its own seed and shares");
    let kept = read(&predictions);
    evaluate("--split-seed 2");
    assert_eq!(
        read(&predictions),
        kept,
        "another part leaves the run's scores"
    );
    assert_ne!(ids(&place.path("predictions-test.json")), own);

    fs::write(place.path("artifacts/nine/metrics-test.json"), "[1]").unwrap();
    let runs = place.run(&["runs"]);
    assert_eq!(runs.status.code(), Some(0), "{}", stderr(&runs));
    assert!(stdout(&runs).contains("nine"));
}
