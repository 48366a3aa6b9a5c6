//! A run's folder as a [`Run`].

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::SystemTime;

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

/// Reads a folder; `None` where no command wrote it.
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
        seconds: RunSummary::read(folder).map(|summary| summary.seconds),
        date: date(folder),
        config: None,
    };
    if let Some(config) = read::<TuneConfig>(folder, "tune.json") {
        search(&mut run, "tune", &config.base);
        let all = config.settings().map_or(0, |settings| settings.len()) * config.folds;
        run.progress = Some((results(&folder.join("trials"), 2), all));
        let scores = read::<Value>(folder, "results.json");
        run.validation_loss = scores.and_then(|scores| scores[0]["mean"].as_f64());
    } else if let Some(ablation) = read::<Ablation>(folder, "ablation.json") {
        search(&mut run, "ablate", &ablation.base);
        let (depth, all) = match ablation.seeds {
            1 => (1, ablation.variants.len()),
            seeds => (2, ablation.variants.len() * seeds),
        };
        run.progress = Some((results(folder, depth), all));
    } else if folder.join("ablation.json").is_file() {
        run.kind = "probe --ablate".into();
        run.state = Some(State::Finished);
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

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    files::read_json(&folder.join(name)).ok()
}

/// What `tune` and `ablate` have in common.
fn search(run: &mut Run, kind: &str, base: &TrainConfig) {
    run.kind = kind.into();
    set_settings(run, base);
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
    let settings: Value = read(&folder, "config.json")?;
    let config = serde_json::from_value::<TrainConfig>(settings.clone()).ok();
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
    let tested = read::<Value>(&folder, "metrics-test.json");
    if let Some(Value::Object(scores)) = tested.as_ref().and_then(|tested| tested.get("overall")) {
        run.test = scores.clone();
    }
    let is_whole = settings["epochs"].as_u64() == Some(run.epochs as u64);
    run.state = state(&folder, is_whole);
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
fn state(folder: &Path, is_whole: bool) -> Option<State> {
    let ended = match RunStatus::read(folder) {
        Some(RunStatus::Finished) => return Some(State::Finished),
        Some(RunStatus::Interrupted) => State::Interrupted,
        Some(RunStatus::Diverged) => State::Diverged,
        Some(RunStatus::Begun) => State::Interrupted,
        None if is_whole => State::Finished,
        None => State::Interrupted,
    };
    Some(if is_locked(folder) {
        State::Running
    } else {
        ended
    })
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
