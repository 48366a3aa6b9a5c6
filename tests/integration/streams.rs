//! Standard output, standard error and signals: who reads no longer ends no run, and what cannot be written is no success.

#![cfg(unix)]

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use crate::common::place::{INFER, Place, fails_with, image, stderr, stdout};
use crate::common::process::{self, until};

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A device that takes nothing.
fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn training_goes_on_when_nobody_reads_how_it_goes() {
    let place = Place::new();
    place.write_data();
    let mut ways: Vec<(&str, Stdio)> = vec![("closed", closed())];
    if cfg!(target_os = "linux") {
        ways.push(("full", full()));
    }
    for (name, way) in ways {
        let mut command = place.train_command(name, &["--epochs", "2"]);
        let output = command.stderr(way).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(
            stdout(&output).contains("done after"),
            "{}",
            stdout(&output)
        );
        let best = place.path(&format!("artifacts/{name}/best/config.json"));
        assert!(best.is_file(), "{name}");
    }
    // Its captions are in its folder, so that nobody reads them here is no failure either.
    let mut command = place.train_command("unread", &["--epochs", "1"]);
    let output = command.stdout(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
#[cfg(target_os = "linux")]
fn captions_come_though_standard_error_is_closed_or_full() {
    let place = Place::new();
    fs::write(place.path("bad.png"), "no image").unwrap();
    let good = image();
    for way in [closed(), full()] {
        let mut command = place.command(&[&INFER[..], &[&good, "bad.png"]].concat());
        let output = command.stderr(way).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "one of the two is bad");
        assert_eq!(stdout(&output).lines().count(), 1);
    }
}

/// Commands with results on standard output.
fn telling(place: &Place) -> Vec<Command> {
    place.write_data();
    fs::write(
        place.path("results.json"),
        r#"[{"image_id": 0, "caption": "a red circle"}]"#,
    )
    .unwrap();
    fs::write(
        place.path("references.json"),
        r#"{"images": [{"id": 0, "file_name": "a.png"}], "annotations": [{"image_id": 0, "caption": "a red circle"}]}"#,
    )
    .unwrap();
    let data = "--data data/captions.json --images data/images";
    let fixtures = crate::common::fixture("convert");
    let clip = format!("convert --clip {}/clip_resnet --output", fixtures.display());
    let scores = "evaluate --candidates results.json --references references.json";
    let lines = [
        "infer --model model/tiny --device cpu --batch-size 1 data/images".to_string(),
        "infer --model model/tiny --device cpu --format csv data/images".to_string(),
        "embed --model model/tiny --device cpu data/images".to_string(),
        format!("gap --model model/tiny --device cpu {data}"),
        format!("gap --model model/tiny --device cpu --format json {data}"),
        scores.to_string(),
        format!("{scores} --format json"),
        format!("{scores} --format markdown"),
        format!("{clip} {}", place.path("converted").display()),
        "--help".to_string(),
        "train --help".to_string(),
        "--version".to_string(),
    ];
    lines.iter().map(|line| place.line(line)).collect()
}

#[test]
fn a_reader_that_has_enough_ends_the_program_quietly() {
    let place = Place::new();
    for mut command in telling(&place) {
        let output = command.stdout(closed()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {text}");
        for word in ["error", "panicked", "Broken pipe"] {
            assert!(!text.contains(word), "{command:?}: {text}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    for mut command in telling(&place) {
        let output = command.stdout(full()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
        fails_with(&output, &["writing to standard output"]);
    }
}

/// Sends a signal to a training once it has made a step, and gives what came of it.
fn signalled(place: &Place, name: &str, signal: &str, mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let metrics = place.path(&format!("artifacts/{name}/metrics.jsonl"));
    until("a step", || {
        fs::metadata(&metrics).is_ok_and(|file| file.len() > 0)
    });
    process::signal(&child, signal);
    child.wait_with_output().unwrap()
}

#[test]
fn each_signal_to_stop_ends_a_run_after_its_step_with_a_model() {
    let place = Place::new();
    place.write_data();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let name = &signal[1..];
        let command = place.train_command(name, &["--epochs", "100000"]);
        let output = signalled(&place, name, signal, command);
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("stopped after"),
            "{}",
            stdout(&output)
        );
        let best = place.path(&format!("artifacts/{name}/best/config.json"));
        assert!(best.is_file(), "{signal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let place = Place::new();
    place.write_data();
    let mut shell = Command::new("sh");
    let train = place.train_command("ignored", &["--epochs", "30"]);
    // As `nohup` starts a program.
    shell
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(train.get_program())
        .args(train.get_args())
        .current_dir(place.path("."))
        .stdin(Stdio::null());
    let output = signalled(&place, "ignored", "-HUP", shell);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("done after"),
        "{}",
        stdout(&output)
    );
}

/// Runs a command line in a terminal of its own, if there is the program for that; gives what the terminal showed.
fn in_terminal(place: &Place, line: &str, variables: &[(&str, &str)]) -> Option<String> {
    let mut script = Command::new("script");
    script
        .args(["-qec", line, "/dev/null"])
        .current_dir(place.path("."))
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm");
    for (name, value) in variables {
        script.env(name, value);
    }
    let output = script.output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
#[cfg(target_os = "linux")]
fn terminals_that_are_dumb_or_without_colors_get_plain_lines() {
    let place = Place::new();
    place.write_data();
    let line = |name: &str| {
        let command = place.train_command(name, &["--epochs", "1", "--ui", "auto"]);
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words.filter(|word| word != "plain").collect();
        let line = words.join(" ").replace("--ui --run", "--run");
        format!("{} {line}", env!("CARGO_BIN_EXE_clipcap"))
    };
    for (name, variable) in [("dumb", ("TERM", "dumb")), ("gray", ("NO_COLOR", "1"))] {
        let Some(shown) = in_terminal(&place, &line(name), &[variable]) else {
            return;
        };
        assert!(shown.contains("epoch 1/1"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{name}: {shown:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn training_in_the_background_outlives_its_terminal() {
    let place = Place::new();
    place.write_data();
    let command = place.train_command("orphan", &["--epochs", "40"]);
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    let metrics = place.path("artifacts/orphan/metrics.jsonl");
    // The terminal is closed once the first step is made.
    let line = format!(
        "trap '' HUP; {} {} & while ! [ -s {} ]; do sleep 0.05; done",
        env!("CARGO_BIN_EXE_clipcap"),
        words.join(" "),
        metrics.display()
    );
    if in_terminal(&place, &line, &[]).is_none() {
        return;
    }
    let best = place.path("artifacts/orphan/metrics-test.json");
    until("the end of the training", || best.is_file());
    assert!(place.path("artifacts/orphan/best/config.json").is_file());
}
