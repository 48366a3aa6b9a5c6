//! Files come from the Hub whole, checked and resumed after an interruption; what cannot be had is told in a line.
//! The Hub is a server on this machine (`hub_server`).

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hub_server::{COMMIT, HubServer, Trouble, sha256};
use clipcap::hub::{self, Hub, HubConfig, HubError, Watch};

const ID: &str = "someone/some-model";

/// Remembers what it is told.
#[derive(Default)]
struct Notes {
    lines: RefCell<Vec<String>>,
    bytes: RefCell<u64>,
}

impl Watch for Notes {
    fn begin(&self, _: &str, _: u64) {
        *self.bytes.borrow_mut() = 0;
    }

    fn advance(&self, bytes: u64) {
        *self.bytes.borrow_mut() += bytes;
    }

    fn end(&self) {}

    fn note(&self, line: &str) {
        self.lines.borrow_mut().push(line.to_string());
    }
}

/// A server, an empty cache and who asks.
struct Setting {
    server: HubServer,
    home: tempfile::TempDir,
    watch: Notes,
}

impl Setting {
    fn new() -> Self {
        let server = HubServer::start();
        server.add(
            ID,
            &[("large.bin", &large()), ("small.json", b"{\"a\": 1}")],
        );
        Self {
            server,
            home: tempfile::tempdir().unwrap(),
            watch: Notes::default(),
        }
    }

    fn hub(&self, offline: bool, token: Option<&str>) -> Hub {
        Hub::new(&HubConfig {
            endpoint: self.server.endpoint.clone(),
            cache: self.home.path().join("hub"),
            token: token.map(String::from),
            offline,
            patience: Duration::from_millis(1),
        })
        .unwrap()
    }

    fn get(&self, file: &str) -> Result<PathBuf, HubError> {
        self.hub(false, None).repo(ID)?.get(file, &self.watch)
    }

    /// Files in the cache by the part of their name that tells what they are.
    fn blobs(&self) -> Vec<String> {
        let folder = self
            .home
            .path()
            .join("hub/models--someone--some-model/blobs");
        let mut names: Vec<String> = fs::read_dir(folder)
            .map(|entries| {
                let names = entries.flatten().map(|entry| entry.file_name());
                names.map(|name| name.into_string().unwrap()).collect()
            })
            .unwrap_or_default();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }
}

fn large() -> Vec<u8> {
    (0..200_000_u32)
        .flat_map(|i| (i * 7919).to_le_bytes())
        .collect()
}

fn one_line(error: &HubError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn files_large_and_small_come_whole_and_a_second_time_from_the_cache() {
    let setting = Setting::new();
    assert_eq!(
        fs::read(setting.get("large.bin").unwrap()).unwrap(),
        large()
    );
    assert_eq!(*setting.watch.bytes.borrow(), large().len() as u64);
    let small = setting.get("small.json").unwrap();
    assert_eq!(fs::read(&small).unwrap(), b"{\"a\": 1}");
    assert!(small.ends_with(format!("snapshots/{COMMIT}/small.json")));
    setting.server.take_log();
    setting.get("large.bin").unwrap();
    let asked = setting.server.take_log();
    assert_eq!(asked.len(), 1, "only what the repository holds: {asked:?}");
}

#[test]
fn an_old_id_is_followed_to_its_new_one() {
    let setting = Setting::new();
    setting.server.rename("old/name", ID);
    let hub = setting.hub(false, None);
    let path = hub
        .repo("old/name")
        .unwrap()
        .get("large.bin", &setting.watch);
    assert_eq!(fs::read(path.unwrap()).unwrap(), large());
}

#[test]
fn a_lost_connection_is_taken_up_where_it_ended() {
    let setting = Setting::new();
    let after = 300_000;
    setting
        .server
        .trouble("large.bin", Trouble::Cut { after, times: 2 });
    assert_eq!(
        fs::read(setting.get("large.bin").unwrap()).unwrap(),
        large()
    );
    assert_eq!(setting.watch.lines.borrow().len(), 2);
    let ranges: Vec<String> = setting
        .server
        .take_log()
        .into_iter()
        .map(|(_, range)| range)
        .collect();
    for begin in [after, 2 * after] {
        let range = format!("bytes={begin}-");
        assert!(ranges.contains(&range), "{ranges:?}");
    }
}

#[test]
fn a_connection_that_is_lost_again_and_again_is_an_error_and_the_next_run_goes_on() {
    let setting = Setting::new();
    let cut = Trouble::Cut {
        after: 50_000,
        times: 5,
    };
    setting.server.trouble("large.bin", cut);
    let text = one_line(&setting.get("large.bin").unwrap_err());
    assert!(
        text.contains("large.bin: the connection was lost"),
        "{text}"
    );
    assert_eq!(setting.blobs(), [format!("{}.part", sha256(&large()))]);
    setting.server.take_log();
    assert_eq!(
        fs::read(setting.get("large.bin").unwrap()).unwrap(),
        large()
    );
    let asked = setting.server.take_log();
    assert!(
        asked.iter().any(|(_, range)| range == "bytes=250000-"),
        "{asked:?}"
    );
}

#[test]
fn a_server_without_byte_ranges_costs_time_but_nothing_else() {
    let setting = Setting::new();
    let cut = Trouble::Cut {
        after: 50_000,
        times: 5,
    };
    setting.server.trouble("large.bin", cut);
    setting.get("large.bin").unwrap_err();
    setting.server.trouble("large.bin", Trouble::NoRanges);
    assert_eq!(
        fs::read(setting.get("large.bin").unwrap()).unwrap(),
        large()
    );
}

#[test]
fn what_is_not_what_was_published_is_refused_and_does_not_stay() {
    let setting = Setting::new();
    for file in ["large.bin", "small.json"] {
        setting.server.trouble(file, Trouble::Corrupt);
        let text = one_line(&setting.get(file).unwrap_err());
        assert!(text.contains(file) && text.contains("checksum"), "{text}");
        assert_eq!(setting.blobs(), [""; 0]);
    }
    setting.server.no_trouble();
    assert!(setting.get("large.bin").is_ok());
}

#[test]
fn a_file_that_was_damaged_in_the_cache_is_noticed() {
    let setting = Setting::new();
    let blob = fs::canonicalize(setting.get("large.bin").unwrap()).unwrap();
    let mut bytes = large();
    bytes[5] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let text = one_line(&setting.get("large.bin").unwrap_err());
    assert!(text.contains("checksum"), "{text}");
    assert_eq!(
        fs::read(setting.get("large.bin").unwrap()).unwrap(),
        large()
    );
}

#[test]
fn a_part_that_is_whole_or_too_long_is_begun_anew() {
    for extra in [0, 10] {
        let setting = Setting::new();
        let folder = setting
            .home
            .path()
            .join("hub/models--someone--some-model/blobs");
        fs::create_dir_all(&folder).unwrap();
        let part = [large(), vec![0; extra]].concat();
        fs::write(folder.join(format!("{}.part", sha256(&large()))), part).unwrap();
        assert_eq!(
            fs::read(setting.get("large.bin").unwrap()).unwrap(),
            large()
        );
    }
}

#[test]
fn a_closed_repository_opens_to_the_right_token() {
    let setting = Setting::new();
    for status in [401, 403] {
        setting.server.gate(ID, status, "hf_secret");
        let text = one_line(&setting.get("large.bin").unwrap_err());
        let page = format!("{}/{ID} is refused ({status})", setting.server.endpoint);
        assert!(text.contains(&page) && text.contains("HF_TOKEN"), "{text}");
    }
    let hub = setting.hub(false, Some("hf_secret\n"));
    assert!(
        hub.repo(ID)
            .unwrap()
            .get("large.bin", &setting.watch)
            .is_ok()
    );
}

#[test]
fn what_does_not_exist_is_named() {
    let setting = Setting::new();
    let text = one_line(&setting.get("nothing.bin").unwrap_err());
    assert!(
        text.contains("some-model/nothing.bin does not exist (404)"),
        "{text}"
    );
    let hub = setting.hub(false, None);
    let text = one_line(&hub.repo("no/body").unwrap_err());
    assert!(text.contains("no/body is refused (401)"), "{text}");
    let text = one_line(&hub::parse("clipcap-cocoa").unwrap_err());
    assert!(
        text.contains("clipcap-coco") && text.contains("gpt2"),
        "{text}"
    );
}

#[test]
fn offline_has_what_was_fetched_and_asks_nobody() {
    let setting = Setting::new();
    let offline = setting.hub(true, None);
    let text = one_line(&offline.repo(ID).unwrap_err());
    assert!(
        text.contains("someone/some-model was not fetched before"),
        "{text}"
    );
    setting.get("large.bin").unwrap();
    setting.server.take_log();
    let repo = offline.repo(ID).unwrap();
    assert!(repo.has("large.bin") && !repo.has("small.json"));
    assert!(repo.get("large.bin", &setting.watch).is_ok());
    let text = one_line(&repo.get("small.json", &setting.watch).unwrap_err());
    assert!(text.contains("small.json was not fetched before"), "{text}");
    assert_eq!(setting.server.take_log(), []);
}

#[test]
fn a_hub_that_is_out_of_reach_is_named() {
    let setting = Setting::new();
    let hub = Hub::new(&HubConfig {
        endpoint: "http://127.0.0.1:9".into(),
        cache: setting.home.path().join("hub"),
        token: None,
        offline: false,
        patience: Duration::ZERO,
    })
    .unwrap();
    let text = one_line(&hub.repo(ID).unwrap_err());
    assert!(
        text.contains("http://127.0.0.1:9 is out of reach"),
        "{text}"
    );
    let wrong = HubConfig {
        endpoint: "huggingface.co".into(),
        cache: PathBuf::new(),
        token: None,
        offline: false,
        patience: Duration::ZERO,
    };
    assert!(one_line(&Hub::new(&wrong).unwrap_err()).contains("HF_ENDPOINT"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written_is_named() {
    let setting = Setting::new();
    fs::write(
        setting.home.path().join("hub"),
        "a file where the folder should be",
    )
    .unwrap();
    let text = one_line(&setting.get("large.bin").unwrap_err());
    assert!(
        text.contains("hub/.locks") && text.matches("permissions").count() == 1,
        "{text}"
    );
}

fn add_clip(server: &HubServer, id: &str, weights: &[&str]) {
    server.add(id, &[("config.json", br#"{"model_type": "clip"}"#)]);
    for file in [
        "preprocessor_config.json",
        "vocab.json",
        "merges.txt",
        "README.md",
    ] {
        server.add(id, &[(file, file.as_bytes())]);
    }
    for file in weights {
        server.add(id, &[(file, &large())]);
    }
}

fn file_names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_set_brings_its_checkpoint_clip_and_gpt2_and_nothing_beside() {
    let setting = Setting::new();
    let server = &setting.server;
    let checkpoint = "akhaliq/CLIP-prefix-captioning-COCO-weights";
    server.add(
        checkpoint,
        &[("coco_weights.pt", &large()), ("README.md", b"")],
    );
    server.license(checkpoint, "mit");
    let clip = "openai/clip-vit-base-patch32";
    add_clip(
        server,
        clip,
        &["model.safetensors", "pytorch_model.bin", "tf_model.h5"],
    );
    let gpt2 = "openai-community/gpt2";
    server.add(gpt2, &[("config.json", br#"{"model_type": "gpt2"}"#)]);
    server.add(
        gpt2,
        &[("tokenizer.json", b"{}"), ("model.safetensors", &large())],
    );

    let hub = setting.hub(false, None);
    let named = [hub::parse("clipcap-coco").unwrap()];
    let fetched = hub::fetch(&hub, &named, None, &setting.watch).unwrap();
    assert!(fetched.captioner.unwrap().ends_with("coco_weights.pt"));
    let expected = [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "vocab.json",
    ];
    assert_eq!(file_names(&fetched.clip.unwrap()), expected);
    let expected = ["config.json", "tokenizer.json"];
    assert_eq!(
        file_names(&fetched.gpt2.unwrap()),
        expected,
        "the checkpoint brings the weights"
    );
    assert_eq!(fetched.provenance[0]["repository"], checkpoint);
    assert_eq!(fetched.provenance[0]["commit"], COMMIT);
    assert_eq!(fetched.provenance[0]["license"], "mit");
    let lines = setting.watch.lines.take();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("license: MIT (ClipCap")),
        "{lines:?}"
    );
    assert!(
        lines.contains(&format!("{checkpoint}: license mit")),
        "{lines:?}"
    );

    let again = hub::fetch(&setting.hub(true, None), &named, None, &setting.watch);
    assert!(again.is_ok(), "offline, from the cache: {again:?}");
}

#[test]
fn shards_are_fetched_with_their_index() {
    let setting = Setting::new();
    let id = "big/gpt2";
    let shards = [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ];
    let index = format!(
        r#"{{"weight_map": {{"a": "{0}", "b": "{1}", "c": "{0}"}}}}"#,
        shards[0], shards[1]
    );
    setting
        .server
        .add(id, &[("config.json", br#"{"model_type": "gpt2"}"#)]);
    setting
        .server
        .add(id, &[("pytorch_model.bin.index.json", index.as_bytes())]);
    for shard in shards {
        setting.server.add(id, &[(shard, &large())]);
    }
    let named = [hub::parse(id).unwrap()];
    let hub = setting.hub(false, None);
    let fetched = hub::fetch(&hub, &named, None, &setting.watch).unwrap();
    let mut expected = vec!["config.json", "pytorch_model.bin.index.json"];
    expected.extend(shards);
    expected.sort();
    assert_eq!(file_names(&fetched.gpt2.unwrap()), expected);

    let escaping = br#"{"weight_map": {"a": "../../../escape.bin"}}"#;
    setting.server.add(
        "evil/gpt2",
        &[("config.json", br#"{"model_type": "gpt2"}"#)],
    );
    setting
        .server
        .add("evil/gpt2", &[("model.safetensors.index.json", escaping)]);
    let named = [hub::parse("evil/gpt2").unwrap()];
    let text = one_line(&hub::fetch(&hub, &named, None, &setting.watch).unwrap_err());
    assert!(text.contains("names ../../../escape.bin"), "{text}");
}

#[test]
fn weights_of_open_clip_are_told_from_others_beside_them() {
    let setting = Setting::new();
    let id = "timm/resnet50x4_clip.openai";
    // As timm has it: its own weights under the usual name, and those of open_clip beside.
    setting.server.add(
        id,
        &[("config.json", br#"{"architecture": "resnet50x4_clip"}"#)],
    );
    setting.server.add(
        id,
        &[
            ("open_clip_config.json", b"{}"),
            ("model.safetensors", b"other"),
        ],
    );
    setting
        .server
        .add(id, &[("open_clip_model.safetensors", &large())]);
    let hub = setting.hub(false, None);
    let named = [hub::parse(id).unwrap()];
    let fetched = hub::fetch(&hub, &named, None, &setting.watch).unwrap();
    let clip = fetched.clip.unwrap();
    assert!(clip.ends_with("open_clip_model.safetensors"));
    assert!(clip.with_file_name("open_clip_config.json").exists());
    assert!(!clip.with_file_name("model.safetensors").exists());
}

#[test]
fn a_checkpoint_of_ones_own_takes_the_place_of_the_sets() {
    let setting = Setting::new();
    add_clip(
        &setting.server,
        "openai/clip-vit-base-patch32",
        &["pytorch_model.bin"],
    );
    let gpt2 = "openai-community/gpt2";
    setting.server.add(
        gpt2,
        &[("config.json", b"{}"), ("model.safetensors", &large())],
    );
    let hub = setting.hub(false, None);
    let named = [hub::parse("clipcap-coco").unwrap()];
    let fetch = |captioner: &str| hub::fetch(&hub, &named, Some(captioner), &setting.watch);
    let fetched = fetch("someone/some-model/large.bin").unwrap();
    assert!(fetched.captioner.unwrap().ends_with("large.bin"));
    let gpt2 = file_names(&fetched.gpt2.unwrap());
    assert_eq!(
        gpt2,
        ["config.json", "model.safetensors"],
        "it may bring no weights"
    );
    let file = setting.home.path().join("mine.pt");
    fs::write(&file, "").unwrap();
    let fetched = fetch(file.to_str().unwrap()).unwrap();
    assert_eq!(fetched.captioner, Some(file));
    assert!(one_line(&fetch("missing.pt").unwrap_err()).contains("missing.pt does not exist"));
}

#[test]
fn what_cannot_become_a_model_is_told() {
    let setting = Setting::new();
    let server = &setting.server;
    server.add("a/bert", &[("config.json", br#"{"model_type": "bert"}"#)]);
    server.add("a/empty", &[("README.md", b"")]);
    server.add(
        "a/no-weights",
        &[("config.json", br#"{"model_type": "gpt2"}"#)],
    );
    server.add("a/broken", &[("config.json", b"{")]);
    for (id, reason) in [
        ("a/bert", "model_type `bert`"),
        ("a/empty", "neither a config.json"),
        ("a/no-weights", "neither model.safetensors"),
        ("a/broken", "config.json is not as expected"),
    ] {
        let named = [hub::parse(id).unwrap()];
        let hub = setting.hub(false, None);
        let text = one_line(&hub::fetch(&hub, &named, None, &setting.watch).unwrap_err());
        assert!(text.contains(id) && text.contains(reason), "{text}");
    }
    let named = [hub::parse("clipcap-transformer").unwrap()];
    let hub = setting.hub(false, None);
    let text = one_line(&hub::fetch(&hub, &named, None, &setting.watch).unwrap_err());
    assert!(
        text.contains("drive.google.com") && text.contains("--captioner"),
        "{text}"
    );
}
