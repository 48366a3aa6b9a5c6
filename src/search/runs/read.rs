//! A run's folder as a [`Run`]. A third of the file is its tests, which write folders of every kind, damaged ones too.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;

use super::super::ablate::Ablation;
use super::super::tune::TuneConfig;
use super::{Run, State};
use crate::files::{self, Lock, Tried};
use crate::sample_model;
use crate::train::config::{TrainConfig, TrainData};
use crate::train::settings::{Changed, nearest_preset};
use crate::train::status::RunStatus;
use crate::train::summary::RunSummary;
use crate::trainer::checkpoints::BestBy;

/// Files whose time of change is the run's.
const DATED: [&str; 7] = [
    "summary.json",
    "metrics.jsonl",
    "table.md",
    "table.json",
    "ablation.json",
    "tune.json",
    "config.json",
];

/// What runs of the learner write into their folders: one with any of it is a run's, with settings or without.
const TRACES: [&str; 4] = ["status.json", "inputs.json", "metrics.jsonl", "checkpoint"];
/// What `train` alone writes.
const TRAININGS: [&str; 2] = ["status.json", "inputs.json"];

/// Reads a folder; `None` where no command wrote it. What cannot be read of it is said in [`Run::problems`].
pub(super) fn run(folder: &Path) -> Option<Run> {
    let mut run = Run {
        name: folder.file_name()?.to_string_lossy().into_owned(),
        folder: folder.to_path_buf(),
        kind: String::new(),
        state: None,
        progress: None,
        preset: None,
        differs: Vec::new(),
        epochs: 0,
        best_epoch: None,
        validation_loss: None,
        validation_cider: None,
        test: serde_json::Map::new(),
        seconds: None,
        date: date(folder),
        problems: Vec::new(),
        config: None,
    };
    if folder.join("tune.json").is_file() {
        tuning(&mut run);
    } else if folder.join("ablation.json").is_file() {
        ablation(&mut run);
    } else if folder.join("table.json").is_file() {
        run.kind = "probe --table".into();
        run.state = Some(State::Finished);
    } else {
        training(&mut run)?;
    }
    if let Some((done, all)) = run.progress {
        run.state = Some(match done >= all {
            true => State::Finished,
            false if is_locked_below(folder) => State::Running,
            false => State::Interrupted,
        });
    }
    Some(run)
}

/// A file of the run's; `None` where it is not there or cannot be read, which is noted.
fn read<T: DeserializeOwned>(run: &mut Run, name: &str) -> Option<T> {
    let read = files::read_json_if_there(&run.folder.join(name));
    noted(run, read)
}

fn noted<T>(run: &mut Run, read: Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|error| {
        run.problems.push(format!("{error:#}"));
        None
    })
}

fn tuning(run: &mut Run) {
    run.kind = "tune".into();
    let Some(config) = read::<TuneConfig>(run, "tune.json") else {
        run.state = Some(State::Damaged);
        return;
    };
    set_settings(run, &config.base);
    let all = config.settings().map_or(0, |settings| settings.len()) * config.folds;
    run.progress = Some((results(&run.folder.join("trials"), 2), all));
    let scores = read::<Value>(run, "results.json");
    run.validation_loss = scores.and_then(|scores| scores[0]["mean"].as_f64());
}

/// Of captioners, which begin with a file of what is to be done, or of encoders, which end with one of what was found.
fn ablation(run: &mut Run) {
    run.kind = "ablate".into();
    match read::<Value>(run, "ablation.json") {
        Some(Value::Array(_)) => {
            run.kind = "probe --ablate".into();
            run.state = Some(State::Finished);
        }
        Some(_) => match read::<Ablation>(run, "ablation.json") {
            Some(ablation) => {
                set_settings(run, &ablation.base);
                let (depth, all) = match ablation.seeds {
                    1 => (1, ablation.variants.len()),
                    seeds => (2, ablation.variants.len() * seeds),
                };
                run.progress = Some((results(&run.folder, depth), all));
            }
            None => run.state = Some(State::Damaged),
        },
        None => run.state = Some(State::Damaged),
    }
}

fn set_settings(run: &mut Run, config: &TrainConfig) {
    let (preset, mut differs) = nearest_preset(config);
    run.preset = Some(preset);
    let mut name = |name: &str, value: String| {
        let changed = Changed {
            name: name.into(),
            a: None,
            b: Some(value.into()),
        };
        differs.insert(0, changed);
    };
    if !sample_model::is_name(&config.model) {
        name("model", config.model.display().to_string());
    }
    if let TrainData::Files { captions, .. } = &config.data {
        name("data", captions.display().to_string());
    }
    run.differs = differs;
}

/// A run of the learner: `train`, or one of `pretrain`.
fn training(run: &mut Run) -> Option<()> {
    let folder = run.folder.clone();
    let has = |name: &str| folder.join(name).exists();
    let Some(settings) = read::<Value>(run, "config.json") else {
        if run.problems.is_empty() {
            TRACES.iter().find(|name| has(name))?;
            let missing = format!("{} has no config.json", folder.display());
            run.problems.push(missing);
        }
        return damaged(run, "unknown");
    };
    let is_training = settings.get("trainable").is_some() || TRAININGS.iter().any(|name| has(name));
    let config = match is_training {
        true => read::<TrainConfig>(run, "config.json"),
        false => None,
    };
    if is_training && config.is_none() {
        return damaged(run, "train");
    }
    let summary = noted(run, RunSummary::read(&folder));
    run.seconds = summary.map(|summary| summary.seconds);
    let by = config
        .as_ref()
        .map_or(BestBy::Loss, |config| config.best_by);
    let validated = validated(&folder);
    run.epochs = validated.len();
    let sign = if by == BestBy::Loss { 1.0 } else { -1.0 };
    let best = (validated.iter())
        .filter_map(|(epoch, means)| Some((epoch, means, means[by.metric()].as_f64()?)))
        .filter(|(_, _, value)| value.is_finite())
        .min_by(|a, b| (sign * a.2).total_cmp(&(sign * b.2)));
    if let Some((epoch, means, _)) = best {
        run.best_epoch = Some(*epoch);
        run.validation_loss = means["Loss"].as_f64();
        run.validation_cider = means["CIDEr"].as_f64();
    }
    let tested = read::<Value>(run, "metrics-test.json");
    if let Some(Value::Object(scores)) = tested.as_ref().and_then(|tested| tested.get("overall")) {
        run.test = scores.clone();
    }
    let is_whole = settings["epochs"].as_u64() == Some(run.epochs as u64);
    run.state = Some(match RunStatus::read(&folder) {
        Ok(status) => state(&folder, status, is_whole),
        Err(error) => {
            run.problems.push(format!("{error:#}"));
            State::Damaged
        }
    });
    match config {
        Some(config) => {
            run.kind = "train".into();
            set_settings(run, &config);
            run.config = Some(config);
        }
        None => run.kind = pretrained(&settings, &run.name)?,
    }
    Some(())
}

/// A run whose settings cannot be read.
fn damaged(run: &mut Run, kind: &str) -> Option<()> {
    run.kind = kind.into();
    run.state = Some(State::Damaged);
    Some(())
}

/// Which of `pretrain`'s targets settings are for; `None` of settings that are no run's.
fn pretrained(settings: &Value, name: &str) -> Option<String> {
    let method = match &settings["method"] {
        Value::Object(method) => method.keys().next().cloned(),
        Value::String(method) => Some(method.clone()),
        // CLIP's and GPT-2's have the same fields.
        _ => ["clip", "gpt2"]
            .into_iter()
            .find(|target| name.contains(target))
            .map(String::from),
    };
    settings.get("epochs")?;
    Some(match method {
        Some(method) => format!("pretrain {method}"),
        None => "pretrain".into(),
    })
}

/// As the run noted it; where it noted nothing, as its epochs tell.
fn state(folder: &Path, status: Option<RunStatus>, is_whole: bool) -> State {
    let ended = match status {
        Some(RunStatus::Finished) => return State::Finished,
        Some(RunStatus::Interrupted) => State::Interrupted,
        Some(RunStatus::Diverged) => State::Diverged,
        Some(RunStatus::Begun) => State::Interrupted,
        None if is_whole => State::Finished,
        None => State::Interrupted,
    };
    match is_locked(folder) {
        true => State::Running,
        false => ended,
    }
}

fn is_locked(folder: &Path) -> bool {
    matches!(Lock::try_take(folder), Ok(Tried::Taken(_)))
}

/// Whether a process works in a folder or one of those in it, two deep: the trainings of an ablation and of a search.
fn is_locked_below(folder: &Path) -> bool {
    let below = |folder: &Path| -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.is_dir()).collect()
    };
    let within = |folder: &Path| {
        let lock = folder.join("lock");
        is_locked(folder) || lock.is_file() && is_locked(&lock)
    };
    below(folder).iter().any(|first| {
        within(first)
            || below(first)
                .iter()
                .any(|second| within(second) || below(second).iter().any(|third| within(third)))
    })
}

/// Files `result.json` so many folders below.
fn results(folder: &Path, depth: usize) -> usize {
    if depth == 0 {
        return usize::from(folder.join("result.json").is_file());
    }
    let entries = fs::read_dir(folder).into_iter().flatten();
    let below = entries.filter_map(|entry| Some(entry.ok()?.path()));
    below.map(|path| results(&path, depth - 1)).sum()
}

/// The validation means of each epoch, in the file's order.
fn validated(folder: &Path) -> Vec<(usize, Value)> {
    let Ok(file) = File::open(folder.join("metrics.jsonl")) else {
        return Vec::new();
    };
    // Most lines are of training steps, and need not be read.
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines
        .filter(|line| line.contains("\"valid\"") && line.contains("\"mean\""))
        .filter_map(|line| {
            let mut entry: Value = serde_json::from_str(&line).ok()?;
            Some((entry["epoch"].as_u64()? as usize, entry["mean"].take()))
        })
        .collect()
}

/// When one of a run's own files was last written, as `2026-11-27 14:05`.
fn date(folder: &Path) -> Option<String> {
    let changed = |name| fs::metadata(folder.join(name)).ok()?.modified().ok();
    let last: SystemTime = DATED.into_iter().filter_map(changed).max()?;
    let time = OffsetDateTime::from(last);
    Some(format!(
        "{} {:02}:{:02}",
        time.date(),
        time.hour(),
        time.minute()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Artifacts(tempfile::TempDir);

    impl Artifacts {
        fn train(&self, name: &str, config: &TrainConfig, metrics: &[&str]) -> std::path::PathBuf {
            let folder = self.0.path().join(name);
            fs::create_dir(&folder).unwrap();
            files::write_json(&folder.join("config.json"), config).unwrap();
            fs::write(folder.join("metrics.jsonl"), metrics.join("\n")).unwrap();
            folder
        }
    }

    const METRICS: [&str; 4] = [
        r#"{"epoch":1,"split":"train","step":1,"Loss":4.0}"#,
        r#"{"epoch":1,"split":"valid","mean":{"CIDEr":0.9,"Loss":2.5}}"#,
        r#"{"epoch":2,"split":"valid","mean":{"CIDEr":0.7,"Loss":1.5}}"#,
        r#"{"epoch":3,"spl"#,
    ];

    #[test]
    fn a_training_tells_its_best_epoch_state_and_scores() {
        let artifacts = Artifacts(tempfile::tempdir().unwrap());
        let mut config = TrainConfig::sample("model/sample".into());
        config.epochs = 2;
        let folder = artifacts.train("a", &config, &METRICS);
        let run = Run::read(&folder).unwrap();
        assert_eq!((run.kind.as_str(), run.preset), ("train", Some("sample")));
        assert_eq!((run.best_epoch, run.epochs), (Some(2), 2));
        assert_eq!(run.validation_loss, Some(1.5));
        assert_eq!(run.state, Some(State::Finished), "both epochs are there");
        assert_eq!(run.settings(), "sample epochs=2");
        RunStatus::Begun.write(&folder).unwrap();
        let tested = serde_json::json!({"images": 3, "overall": {"CIDEr": 0.25}});
        files::write_json(&folder.join("metrics-test.json"), &tested).unwrap();
        let run = Run::read(&folder).unwrap();
        assert_eq!(run.state, Some(State::Interrupted));
        assert_eq!(run.test_score("CIDEr"), Some(0.25));
        // The same process holds it here; the lock is the file's.
        let lock = Lock::try_take(&folder).unwrap();
        assert_eq!(Run::read(&folder).unwrap().state, Some(State::Running));
        drop(lock);

        config.best_by = BestBy::Cider;
        let folder = artifacts.train("b", &config, &METRICS);
        let run = Run::read(&folder).unwrap();
        assert_eq!(run.best_epoch, Some(1), "by CIDEr");
    }

    #[test]
    fn folders_of_other_things_are_no_runs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Run::read(folder.path()), None);
        fs::write(folder.path().join("config.json"), "{\"clip\": null}").unwrap();
        assert_eq!(Run::read(folder.path()), None, "a model folder");
        fs::write(
            folder.path().join("config.json"),
            "{\"method\": {\"simclr\": {}}, \"epochs\": 3}",
        )
        .unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!(run.kind, "pretrain simclr");
        assert_eq!(run.state, Some(State::Interrupted));
    }

    #[test]
    fn a_run_with_a_damaged_file_is_listed_with_its_reason() {
        let artifacts = Artifacts(tempfile::tempdir().unwrap());
        let mut config = TrainConfig::sample("model/sample".into());
        config.epochs = 2;
        let folder = artifacts.train("a", &config, &METRICS);
        RunStatus::Finished.write(&folder).unwrap();
        let whole = fs::read_to_string(folder.join("config.json")).unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.join(name);
            let before = fs::read(&path).ok();
            fs::write(&path, text).unwrap();
            let run = Run::read(&folder).unwrap();
            match before {
                Some(before) => fs::write(&path, before).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert_eq!(run.problems.len(), 1, "{name}: {:?}", run.problems);
            assert!(run.problems[0].contains(name), "{}", run.problems[0]);
            (run.kind, run.state)
        };
        let damaged = |kind: &str| (kind.to_string(), Some(State::Damaged));
        assert_eq!(read("config.json", "{\"epo"), damaged("unknown"));
        let unknown = whole.replacen("\"epochs\"", "\"epoch\"", 1);
        assert_eq!(read("config.json", &unknown), damaged("train"));
        assert_eq!(read("status.json", ""), damaged("train"));
        assert_eq!(read("tune.json", "{}"), damaged("tune"));
        assert_eq!(read("ablation.json", "{"), damaged("ablate"));
        assert_eq!(read("ablation.json", "{}"), damaged("ablate"));
        let finished = ("train".to_string(), Some(State::Finished));
        assert_eq!(read("summary.json", "?"), finished);
        assert_eq!(read("metrics-test.json", "?"), finished);
        fs::remove_file(folder.join("config.json")).unwrap();
        let run = Run::read(&folder).unwrap();
        assert_eq!((run.kind, run.state), damaged("unknown"));
        assert!(run.problems[0].contains("has no config.json"));
    }

    #[test]
    fn an_ablation_tells_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let variants = serde_json::json!([{"name": "a", "set": {}}, {"name": "b", "set": {}}]);
        let ablation = Ablation {
            base: TrainConfig::sample("model/mine".into()),
            variants: serde_json::from_value(variants).unwrap(),
            seeds: 2,
        };
        files::write_json(&folder.path().join("ablation.json"), &ablation).unwrap();
        let write = |place: &str| {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("result.json"), "").unwrap();
        };
        for place in ["01-a/seed-1", "01-a/seed-2", "02-b/seed-1"] {
            write(place);
        }
        let run = Run::read(folder.path()).unwrap();
        assert_eq!((run.kind.as_str(), run.progress), ("ablate", Some((3, 4))));
        assert_eq!(run.state, Some(State::Interrupted));
        assert_eq!(run.settings(), "sample model=model/mine");
        write("02-b/seed-2");
        assert_eq!(
            Run::read(folder.path()).unwrap().state,
            Some(State::Finished)
        );
    }
}
