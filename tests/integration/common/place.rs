//! The program run in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use clipcap::datasets::scenes;
use serde_json::Value;

use super::fixture;
use super::model::write_model;

/// `infer` with [`Place`]'s model.
pub const INFER: [&str; 5] = ["infer", "--model", "model/tiny", "--device", "cpu"];

/// An empty folder with a tiny random model in `model/tiny`.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model/tiny"));
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clipcap"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("CLIPCAP_HOME", self.folder.path().join("home"))
            .stdin(Stdio::null());
        command
    }

    /// A command line without quotes.
    pub fn line(&self, line: &str) -> Command {
        self.command(&line.split(' ').collect::<Vec<_>>())
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Twelve scenes to train on, as a user's own annotations.
    pub fn write_data(&self) {
        scenes::ensure(&self.path("data"), 5, 12).unwrap();
    }

    /// A small training run on [`Self::write_data`]'s scenes.
    pub fn train_command(&self, run: &str, more: &[&str]) -> Command {
        // Other mappers have no layers to be named.
        let sizes = match more.contains(&"clipcap-mlp") {
            true => "--prefix-length 4 --batch-size 4",
            false => "--prefix-length 4 --clip-length 3 --layers 1 --batch-size 4",
        };
        let args = format!(
            "train --model model/tiny --data data/captions.json --images data/images {sizes} --learning-rate 1e-3 --device cpu --ui plain --run {run}"
        );
        let mut command = self.line(&args);
        command.args(more);
        command
    }

    pub fn train(&self, run: &str, more: &[&str]) -> Output {
        self.train_command(run, more).output().unwrap()
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code was 1 and standard error is one line with all of these in it.
pub fn fails_with(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{text}");
    for part in parts {
        assert!(last.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// The command line was wrong: the exit code was 2, the error has all of these in it, and no other command's usage follows.
pub fn refused_with(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: "), "{text}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(
        text.contains("try '--help'") && !text.contains("Usage: clipcap <COMMAND>"),
        "{text}"
    );
    assert_eq!(stdout(output), "");
}

pub fn image() -> String {
    fixture("preprocess/wide.png").display().to_string()
}

/// Standard output as JSON Lines.
pub fn json_lines(output: &Output) -> Vec<Value> {
    let text = stdout(output);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}
