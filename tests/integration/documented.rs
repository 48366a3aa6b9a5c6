//! The README and the book as a reader uses them: each page's commands, one after the other, in a folder with the files
//! they name. What takes a network is answered by a server here; what takes minutes, or never ends, is listed below, and
//! is at least parsed (`src/cli/documented_tests.rs`).

#![cfg(unix)] // the lines go to `sh`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::documented::{Shown, commands, name, pages};
use crate::common::fixture;
use crate::common::model::write_model;
use crate::common::place::{stderr, stdout};
use crate::hub_server::HubServer;
use clipcap::datasets::scenes;
use clipcap::files;
use clipcap::train::config::TrainConfig;
use clipcap::train::status::RunStatus;
use serde_json::{Value, json};

/// Beginnings of lines that are not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo install", "builds for 20 minutes"),
    ("cargo test", "is what runs this"),
    (
        "clipcap train\n",
        "trains on 7,000 scenes for minutes; `.ci/run` does it",
    ),
    (
        "clipcap train --encoder model/simclr",
        "takes the encoder that minutes of pretraining make",
    ),
    (
        "clipcap train --model model/new",
        "takes the networks that an hour of pretraining makes",
    ),
    (
        "clipcap train --data captions.json --images photos/ --model model/photos",
        "takes the networks that an hour of pretraining makes",
    ),
    ("clipcap tune", "trains on 7,000 scenes many times"),
    ("clipcap ablate", "trains on 7,000 scenes several times"),
    ("clipcap pretrain", "trains for minutes to an hour"),
    (
        "clipcap probe",
        "embeds 7,000 scenes, or takes what minutes of pretraining make",
    ),
    (
        "clipcap serve",
        "goes on until it is stopped; the tests of `serve` start it",
    ),
    (
        "clipcap demo",
        "trains; its steps are commands that are tested",
    ),
    ("curl", "asks the service above"),
    (
        "python benches/speed.py",
        "makes environments with PyTorch and others, and measures for an hour",
    ),
    ("benches/gpu.sh", "takes a card"),
    (
        "benches/flickr8k.sh",
        "takes photographs that do not come with the program, and hours",
    ),
    (
        "clipcap train --model base --data dataset_coco.json",
        "takes COCO's photos and published weights",
    ),
    (
        "clipcap evaluate --model coco",
        "takes COCO's photos and published weights",
    ),
];

/// A folder with the files that the pages name.
struct Desk {
    folder: tempfile::TempDir,
    server: HubServer,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
            server: HubServer::start(),
        };
        desk.write_images();
        desk.write_captions();
        desk.write_checkpoints();
        desk.write_shards();
        for model in [
            "home/model/clipcap-coco",
            "home/model/capdec",
            "home/model/base",
            "artifacts/train-1/best",
        ] {
            write_model(&desk.path(model));
        }
        let run = desk.path("artifacts/train-1");
        let config = TrainConfig::sample("sample".into());
        files::write_json(&run.join("config.json"), &config).unwrap();
        RunStatus::Finished.write(&run).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Twelve scenes and a photograph, under several names.
    fn write_images(&self) {
        scenes::ensure(&self.path("data"), 5, 12).unwrap();
        fs::rename(self.path("data/images"), self.path("photos")).unwrap();
        let photo = image::open(fixture("preprocess/wide.png"))
            .unwrap()
            .to_rgb8();
        for folder in ["holiday", "scans/1"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        for name in [
            "photo.jpg",
            "a.jpg",
            "b.jpg",
            "photos/x.jpg",
            "holiday/h.jpg",
            "scans/1/s.png",
        ] {
            photo.save(self.path(name)).unwrap();
        }
    }

    /// Two shards of six scenes each.
    fn write_shards(&self) {
        fs::create_dir(self.path("shards")).unwrap();
        let mut scenes: Vec<PathBuf> = fs::read_dir(self.path("photos"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "png"))
            .collect();
        scenes.sort();
        for (number, scenes) in scenes.chunks(6).enumerate() {
            let file = fs::File::create(self.path(&format!("shards/{number:05}.tar"))).unwrap();
            let mut tar = tar::Builder::new(file);
            for scene in scenes {
                tar.append_path_with_name(scene, scene.file_name().unwrap())
                    .unwrap();
            }
            tar.finish().unwrap();
        }
    }

    /// Captions of the scenes, and results to score.
    fn write_captions(&self) {
        let captions = self.path("data/captions.json");
        let text = fs::read_to_string(&captions).unwrap();
        for name in [
            "captions.json",
            "captions_val2017.json",
            "train_caption.json",
        ] {
            fs::write(self.path(name), &text).unwrap();
        }
        let read: Value = serde_json::from_str(&text).unwrap();
        let annotations = read["annotations"].as_array().unwrap();
        let lines: Vec<&str> = annotations
            .iter()
            .map(|one| one["caption"].as_str().unwrap())
            .collect();
        fs::write(self.path("captions.txt"), lines.join("\n")).unwrap();
        let images = read["images"].as_array().unwrap();
        for name in ["results.json", "old.json", "new.json"] {
            let result =
                |image: &Value| json!({"image_id": image["id"], "caption": "A red circle."});
            let results: Vec<Value> = images.iter().map(result).collect();
            fs::write(self.path(name), serde_json::to_string(&results).unwrap()).unwrap();
        }
    }

    /// Tiny checkpoints under the names of the real ones, here and on the server.
    fn write_checkpoints(&self) {
        for (from, to) in [("clip_hf", "clip-vit-base-patch32"), ("gpt2", "gpt2")] {
            fs::create_dir(self.path(to)).unwrap();
            for entry in fs::read_dir(fixture("convert").join(from)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), self.path(to).join(entry.file_name())).unwrap();
            }
        }
        let checkpoint = fixture("convert/captioner_mlp.pt");
        fs::copy(&checkpoint, self.path("coco_weights.pt")).unwrap();
        fs::copy(
            fixture("convert/training.pkl"),
            self.path("oscar_split_ViT-B_32_train.pkl"),
        )
        .unwrap();
        let repository = "akhaliq/CLIP-prefix-captioning-COCO-weights";
        let bytes = fs::read(checkpoint).unwrap();
        self.server.add(repository, &[("coco_weights.pt", &bytes)]);
        self.server
            .add_folder("openai/clip-vit-base-patch32", &fixture("convert/clip_hf"));
        self.server
            .add_folder("openai-community/gpt2", &fixture("convert/gpt2"));
    }

    /// A line in a shell that finds the program.
    fn run(&self, line: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_clipcap")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", program.display()));
        command
            .env("HOME", self.path("home"))
            .env("CLIPCAP_HOME", self.path("home"));
        command
            .env("HF_ENDPOINT", &self.server.endpoint)
            .env("HF_HOME", self.path("hub"));
        for variable in ["HF_TOKEN", "HF_HUB_OFFLINE", "XDG_DATA_HOME"] {
            command.env_remove(variable);
        }
        for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        command.output().unwrap()
    }
}

fn reason(line: &str) -> Option<&'static str> {
    let line = format!("{}\n", line.trim());
    let not_run = NOT_RUN.iter().find(|(begin, _)| line.starts_with(begin));
    not_run.map(|(_, reason)| *reason)
}

/// Runs a page's commands; how many were run.
fn run_page(page: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let shown = commands(&path);
    let to_run: Vec<&Shown> = shown
        .iter()
        .filter(|shown| reason(&shown.line).is_none())
        .collect();
    assert!(
        !to_run.is_empty(),
        "{page} has no command to run: take its test away"
    );
    let desk = Desk::new();
    for folder in [
        "home/.zfunc",
        "home/.config/fish/completions",
        "home/.local/share/bash-completion/completions",
    ] {
        fs::create_dir_all(desk.path(folder)).unwrap();
    }
    for Shown {
        place,
        line,
        output: expected,
    } in &to_run
    {
        let output = desk.run(line);
        let said = stdout(&output) + &stderr(&output);
        match expected {
            None => assert!(output.status.success(), "{place}: {line}\n{said}"),
            Some(expected) => assert!(is_like(&said, expected), "{place}: {line} says\n{said}"),
        }
    }
    to_run.len()
}

/// Whether an output is the one shown, whose lines `...` stand for any lines, and `...` in a line for any text.
fn is_like(said: &str, shown: &str) -> bool {
    let mut said = said.trim().lines();
    let mut any = false;
    for wanted in shown.trim().lines() {
        if wanted.trim() == "..." {
            any = true;
            continue;
        }
        let like = |line: &str| match wanted.split_once("...") {
            Some((begin, end)) => {
                line.starts_with(begin) && line.trim_end().ends_with(end.trim_end())
            }
            None => line.trim_end() == wanted.trim_end(),
        };
        let found = match any {
            true => said.any(like),
            false => said.next().is_some_and(like),
        };
        if !found {
            return false;
        }
        any = false;
    }
    any || said.next().is_none()
}

macro_rules! pages_with_commands {
    ($($test:ident: $page:literal,)*) => {
        $(#[test]
        fn $test() {
            run_page($page);
        })*

        /// Pages that have a test.
        const TESTED: &[&str] = &[$($page),*];
    };
}

pages_with_commands! {
    the_readme: "README.md",
    captioning: "docs/src/captioning.md",
    explaining: "docs/src/explaining.md",
    coming_from_other_tools: "docs/src/coming-from.md",
    installing: "docs/src/installing.md",
    models_and_formats: "docs/src/models.md",
    many_images: "docs/src/scale.md",
    reproduction: "docs/src/reproduction.md",
    retrieval: "docs/src/retrieval.md",
    scoring: "docs/src/scoring.md",
    text_only_training: "docs/src/text-only.md",
    the_sample: "docs/src/sample.md",
    training: "docs/src/training.md",
    troubleshooting: "docs/src/troubleshooting.md",
}

#[test]
fn every_command_is_run_or_says_why_not() {
    let mut unused: Vec<&str> = NOT_RUN.iter().map(|(begin, _)| *begin).collect();
    for page in pages() {
        let shown = commands(&page);
        let is_run = shown.iter().any(|shown| reason(&shown.line).is_none());
        let name = name(&page);
        assert_eq!(
            is_run,
            TESTED.contains(&&*name),
            "{name} needs a test of its own, or has one without commands"
        );
        for shown in shown {
            let line = format!("{}\n", shown.line.trim());
            unused.retain(|begin| !line.starts_with(begin));
        }
    }
    assert_eq!(unused, [""; 0], "no page shows these any more");
}

/// The array script is run as Slurm would, with its variables set by hand.
#[test]
fn the_array_script_does_its_share() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/scale.md");
    let text = fs::read_to_string(page).unwrap();
    let scripts = text.split("```bash\n").skip(1);
    let script = scripts
        .filter_map(|rest| rest.split("```").next())
        .find(|script| script.contains("#SBATCH"));
    let desk = Desk::new();
    fs::write(desk.path("captions.sbatch"), script.unwrap()).unwrap();
    for index in 0..2 {
        let line = format!(
            "MODEL=sample SLURM_CPUS_PER_TASK=1 SLURM_ARRAY_TASK_ID={index} SLURM_ARRAY_TASK_COUNT=2 bash captions.sbatch"
        );
        let output = desk.run(&line);
        assert!(output.status.success(), "{}", stderr(&output));
        for shard in 0..2 {
            let is_there = desk.path(&format!("captions/{shard:05}.jsonl")).exists();
            assert_eq!(is_there, shard <= index, "{}", stderr(&output));
        }
    }
}

#[test]
fn shown_outputs_are_compared_but_for_what_dots_stand_for() {
    assert!(is_like("a\nb 1 s\nc\n", "a\nb ... s\nc"));
    assert!(is_like("a\nb\nc\nd", "a\n...\nd"));
    assert!(is_like("a\nb", "a\n..."));
    assert!(!is_like("a\nb", "a"));
    assert!(!is_like("a\nx", "a\nb"));
}

#[test]
fn links_lead_to_files_and_headings_and_every_page_is_in_the_summary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut linking = pages();
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "fuzz/README.md"] {
        linking.push(root.join(name));
    }
    let mut count = 0;
    for page in &linking {
        let text = fs::read_to_string(page).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{}: no {target}", name(page));
            let headings = || fs::read_to_string(&file).unwrap_or_default();
            assert!(
                heading.is_empty() || headings().lines().any(|line| slug(line) == heading),
                "{}: no heading {target}",
                name(page)
            );
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
    let summary = fs::read_to_string(root.join("docs/src/SUMMARY.md")).unwrap();
    for page in pages().iter().filter(|page| page.parent() != Some(root)) {
        let file = page.file_name().unwrap().to_string_lossy();
        assert!(
            file == "SUMMARY.md" || summary.contains(&format!("({file})")),
            "{file}"
        );
    }
}

/// What a heading is linked to as; empty for other lines.
fn slug(line: &str) -> String {
    let title = line
        .strip_prefix('#')
        .map(|rest| rest.trim_start_matches('#').trim());
    let plain = title.unwrap_or_default().to_lowercase();
    let kept = plain
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
