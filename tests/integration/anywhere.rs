//! The program by itself: in an empty folder, with an empty home, models found by name, and what shells ask of it.

#![cfg(unix)] // homes are elsewhere on Windows

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::fixture;
use crate::common::place::{Place, fails_with, image, stderr, stdout};
use crate::hub_server::HubServer;
use clipcap::train::status::RunStatus;
use serde_json::Value;

/// An empty folder with an empty home beside it, and nothing else in the environment.
struct Bare(tempfile::TempDir);

impl Bare {
    fn new() -> Self {
        let bare = Self(tempfile::tempdir().unwrap());
        for folder in ["home", "here"] {
            fs::create_dir(bare.0.path().join(folder)).unwrap();
        }
        bare
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clipcap"));
        command.args(args).current_dir(self.0.path().join("here"));
        command.env_clear().env("HOME", self.0.path().join("home"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Names in the current folder.
    fn here(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("here")).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(|entry| name(entry.unwrap())).collect()
    }
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

#[test]
fn an_image_is_captioned_in_an_empty_folder_with_an_empty_home() {
    let bare = Bare::new();
    for _ in 0..2 {
        let output = bare.run(&["infer", "--device", "cpu", &image()]);
        succeeds(&output);
        let caption = stdout(&output);
        assert!(
            caption.trim().ends_with('.') && caption.contains("wide.png: "),
            "{caption}"
        );
        assert!(
            stderr(&output).contains("(the sample model, which knows images of shapes alone"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(bare.here(), [""; 0], "captions leave nothing here");
    let models = bare.0.path().join("home/.local/share/clipcap/model");
    assert_eq!(fs::read_dir(&models).unwrap().count(), 1);

    let embedded = bare.run(&["embed", "--device", "cpu", &image()]);
    succeeds(&embedded);
    succeeds(&bare.run(&["export", "sample", "--output", "sample.safetensors"]));
    assert_eq!(bare.here(), ["sample.safetensors"]);
}

#[test]
fn without_a_home_that_can_be_written_the_sample_is_unpacked_here() {
    let bare = Bare::new();
    let file = bare.0.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = bare.command(&["infer", "--device", "cpu", &image()]);
    let output = command.env("CLIPCAP_HOME", &file).output().unwrap();
    succeeds(&output);
    let told = stderr(&output);
    assert!(
        told.contains("file is not a folder: give one") && told.contains("CLIPCAP_HOME"),
        "{told}"
    );
    assert_eq!(bare.here(), ["model"]);
    let list = stdout(&bare.run(&["models"]));
    assert!(
        list.contains("In this folder (model/)\n  sample "),
        "{list}"
    );
}

#[test]
fn a_home_that_cannot_be_used_is_told_by_whoever_looks_for_it() {
    let with = |home: &str| {
        let bare = Bare::new();
        fs::write(bare.0.path().join("here/file"), "").unwrap();
        let run = |args: &[&str]| {
            bare.command(args)
                .env("CLIPCAP_HOME", home)
                .output()
                .unwrap()
        };
        let (infer, doctor) = (
            run(&["infer", "--device", "cpu", &image()]),
            run(&["doctor"]),
        );
        succeeds(&infer);
        assert_eq!(doctor.status.code(), Some(1), "{}", stdout(&doctor));
        (stderr(&infer), stdout(&doctor))
    };
    // Nothing can be made there, by root neither.
    for (home, part) in [
        ("mine", "another folder from every folder"),
        ("/dev/null", "/dev/null is not a folder"),
        ("/proc/clipcap", "CLIPCAP_HOME"),
    ] {
        let (infer, doctor) = with(home);
        assert!(infer.contains(home) && infer.contains(part), "{infer}");
        let line = doctor.lines().find(|line| line.starts_with("WRONG"));
        let line = line.unwrap_or_else(|| panic!("{doctor}"));
        assert!(line.contains("yours") && line.contains(home), "{line}");
    }
}

#[test]
fn a_model_that_is_not_here_comes_with_the_command_that_gets_it() {
    let place = Place::new();
    let infer = |model: &str| place.run(&["infer", "--model", model, "--device", "cpu", &image()]);
    fails_with(
        &infer("clipcap-coco"),
        &[
            "clipcap-coco is not here yet",
            "`clipcap fetch clipcap-coco`",
            "add --fetch",
        ],
    );
    fails_with(
        &infer("gpt2"),
        &["do not caption alone", "clipcap train --model"],
    );
    fails_with(
        &infer("tinny"),
        &["did you mean `tiny`?", "`clipcap models` lists"],
    );
    fails_with(&infer("model/no"), &["model/no is not a model folder"]);
    fails_with(
        &place.run(&["train", "--model", "gpt2", "--device", "cpu"]),
        &["gpt2 is not here yet", "`clipcap fetch gpt2`"],
    );
    assert!(!place.path("artifacts").exists(), "no run was begun");
    let output = infer("tiny");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn fetch_gets_a_model_into_the_users_folder_and_it_is_found_from_anywhere() {
    let (place, server) = (Place::new(), HubServer::start());
    let checkpoint = fs::read(fixture("convert/captioner_mlp.pt")).unwrap();
    let repository = "akhaliq/CLIP-prefix-captioning-COCO-weights";
    server.add(repository, &[("coco_weights.pt", &checkpoint)]);
    server.add_folder("openai/clip-vit-base-patch32", &fixture("convert/clip_hf"));
    server.add_folder("openai-community/gpt2", &fixture("convert/gpt2"));
    let with_hub = |command: &mut Command| {
        for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        command
            .env("HF_ENDPOINT", &server.endpoint)
            .env("HF_HOME", place.path("hub"));
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
    };
    let infer = |more: &[&str], folder: &Path| {
        let args = ["infer", "--model", "clipcap-coco", "--device", "cpu"];
        let mut command = place.command(&[&args[..], more, &[&image()]].concat());
        with_hub(&mut command);
        command.current_dir(folder).output().unwrap()
    };
    succeeds(&infer(&["--fetch"], &place.path(".")));
    assert!(place.path("home/model/clipcap-coco/mapper.bpk").is_file());
    server.take_log();
    succeeds(&infer(&[], &place.path("model")));
    assert_eq!(server.take_log(), [], "the Hub was not asked again");
    let list = place.run(&["models", "--format", "jsonl"]);
    let fetched = (stdout(&list).lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|model| model["room"] == "home")
        .unwrap();
    assert_eq!(fetched["name"], "clipcap-coco");
    assert!(fetched.get("problem").is_none(), "{fetched}");

    let mut fetch = place.command(&["fetch", "openai/clip-vit-base-patch32", "--user"]);
    with_hub(&mut fetch);
    succeeds(&fetch.output().unwrap());
    assert!(!place.path("model/clip-vit-base-patch32").exists());
    let embed = |model: &str| place.run(&["embed", "--model", model, "--device", "cpu", &image()]);
    succeeds(&embed("openai/clip-vit-base-patch32"));
    succeeds(&embed("clip-vit-base-patch32"));
    fails_with(
        &embed("laion/clip-vit-base-patch32"),
        &["laion/clip-vit-base-patch32 is not here yet"],
    );
}

#[test]
fn a_run_that_did_not_finish_captions_only_when_it_is_named() {
    let place = Place::new();
    place.write_data();
    succeeds(&place.train("good", &["--epochs", "1"]));
    let status =
        |run: &str| fs::read_to_string(place.path(&format!("artifacts/{run}/status.json")));
    assert!(status("good").unwrap().contains("\"finished\""));
    succeeds(&place.train("endless", &["--epochs", "1"]));
    RunStatus::Diverged
        .write(&place.path("artifacts/endless"))
        .unwrap();

    let infer = |more: &[&str]| {
        let output = place.run(&[&["infer", "--device", "cpu"], more, &[&image()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    let notes = infer(&[]);
    assert!(
        notes.contains("artifacts/good/best (the last run that finished)"),
        "{notes}"
    );
    assert!(notes.contains("endless diverged: --model"), "{notes}");
    infer(&["--model", "good"]);
    infer(&["--model", "artifacts/good"]);

    // Settings from elsewhere name a sample model that is in another folder there.
    let config = place.path("artifacts/good/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let elsewhere = text.replace(
        "\"model/tiny\"",
        "\"/elsewhere/model/sample-0123456789abcdef\"",
    );
    assert_ne!(text, elsewhere);
    fs::write(place.path("elsewhere.json"), elsewhere).unwrap();
    let more = [
        "train",
        "--config",
        "elsewhere.json",
        "--epochs",
        "1",
        "--prefix-length",
        "40",
    ];
    let more = [
        &more[..],
        &["--device", "cpu", "--ui", "quiet", "--run", "again"],
    ]
    .concat();
    succeeds(&place.run(&more));
    infer(&["--model", "again"]);
}

#[test]
fn the_version_says_what_this_build_is() {
    let place = Place::new();
    let short = stdout(&place.run(&["-V"]));
    assert_eq!(short, format!("clipcap {}\n", env!("CARGO_PKG_VERSION")));
    let long = stdout(&place.run(&["--version"]));
    for part in ["commit: ", "backends: cpu", "CPU kernels: "] {
        assert!(long.contains(part), "{long}");
    }
}

#[test]
fn the_doctor_finds_nothing_wrong_here_and_says_what_is_when_something_is() {
    let place = Place::new();
    let doctor = place.run(&["doctor"]);
    let found = stdout(&doctor);
    assert_eq!(doctor.status.code(), Some(0), "{found}{}", stderr(&doctor));
    for part in [
        "commit: ",
        "memory",
        "model/tiny: CLIP, mapper, GPT-2",
        "nothing is wrong",
    ] {
        assert!(found.contains(part), "no {part} in:\n{found}");
    }
    assert!(
        found.contains("captions   the sample model was loaded"),
        "{found}"
    );
    fs::remove_file(place.path("model/tiny/gpt2.bpk")).unwrap();
    let mut command = place.command(&["doctor", "--online"]);
    // A port that nobody listens on.
    command
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("CLIPCAP_SIMD", "sse");
    let doctor = command.output().unwrap();
    let found = stdout(&doctor);
    assert_eq!(doctor.status.code(), Some(1), "{found}");
    for part in ["gpt2.bpk is missing", "unset CLIPCAP_SIMD", "127.0.0.1:9"] {
        assert!(found.contains(part), "no {part} in:\n{found}");
    }
    let wrong = found
        .lines()
        .filter(|line| line.starts_with("WRONG"))
        .count();
    assert!(found.ends_with(&format!("\n{wrong} wrong\n")), "{found}");
}

#[test]
fn shells_complete_commands_flags_and_names_of_models() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&place.run(&["completions", shell]));
        assert!(script.contains("CLIPCAP_COMPLETE"), "{shell}: {script}");
    }
    let complete = |words: &[&str]| {
        let index = words.len() - 1;
        let mut command = place.command(&[&["--"], words].concat());
        command
            .env("CLIPCAP_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index.to_string());
        command.env("_CLAP_IFS", "\n");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(complete(&["clipcap", "inf"]).trim(), "infer");
    assert!(complete(&["clipcap", "infer", "--dec"]).contains("--decode"));
    fs::create_dir_all(place.path("artifacts/stopped")).unwrap();
    fs::write(place.path("artifacts/stopped/status.json"), "{}").unwrap();
    for words in [
        &["clipcap", "runs", "compare", "st"][..],
        &["clipcap", "runs", "compare", "a", ""],
        &["clipcap", "train", "--resume", "st"],
        &["clipcap", "pretrain", "simclr", "--resume", ""],
        &["clipcap", "tune", "--run", "st"],
    ] {
        let runs = complete(words);
        assert!(
            runs.lines().any(|line| line == "stopped"),
            "{words:?}: {runs}"
        );
    }
    let models = complete(&["clipcap", "infer", "--model", ""]);
    for name in ["tiny", "sample", "clipcap-coco", "model"] {
        assert!(
            models
                .lines()
                .any(|line| line.trim_end_matches('/') == name),
            "{models}"
        );
    }
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let place = Place::new();
    let output = place.run(&["man", "man1"]);
    succeeds(&output);
    for page in [
        "clipcap",
        "clipcap-infer",
        "clipcap-pretrain-simclr",
        "clipcap-doctor",
    ] {
        let page = fs::read_to_string(place.path(&format!("man1/{page}.1"))).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH OPTIONS"),
            "{page}"
        );
    }
}
