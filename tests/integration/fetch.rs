//! `fetch` as it is used: a word in, a model folder that captions out. The Hub is a server on this machine that has the
//! fixtures' tiny checkpoints under the real names.

use std::fs;
use std::process::{Command, Output};

use crate::common::fixture;
use crate::common::place::{Place, fails_with, image, json_lines, refused_with, stderr, stdout};
use crate::hub_server::{COMMIT, HubServer, Trouble};
use serde_json::Value;

const CHECKPOINT: &str = "akhaliq/CLIP-prefix-captioning-COCO-weights";
const CLIP: &str = "openai/clip-vit-base-patch32";

/// A server with what `clipcap-coco` consists of.
fn server() -> HubServer {
    let server = HubServer::start();
    let checkpoint = fs::read(fixture("convert/captioner_mlp.pt")).unwrap();
    server.add(CHECKPOINT, &[("coco_weights.pt", &checkpoint)]);
    server.add_folder(CLIP, &fixture("convert/clip_hf"));
    server.add_folder("openai-community/gpt2", &fixture("convert/gpt2"));
    server.license(CLIP, "mit");
    server
}

fn command(place: &Place, server: &HubServer, args: &[&str]) -> Command {
    let mut command = place.command(&[&["fetch"], args].concat());
    command
        .env("HF_ENDPOINT", &server.endpoint)
        .env("HF_HOME", place.path("home"))
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE");
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command
}

fn fetch(place: &Place, server: &HubServer, args: &[&str]) -> Output {
    command(place, server, args).output().unwrap()
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

#[test]
fn one_word_gives_a_model_that_captions() {
    let (place, server) = (Place::new(), server());
    let output = fetch(&place, &server, &["clipcap-coco"]);
    succeeds(&output);
    assert_eq!(stdout(&output).trim(), "model/clipcap-coco");
    let notes = stderr(&output);
    assert!(notes.contains("license: MIT (ClipCap"), "{notes}");
    assert!(
        notes.contains("openai/clip-vit-base-patch32: license mit"),
        "{notes}"
    );

    let source = fs::read_to_string(place.path("model/clipcap-coco/source.json")).unwrap();
    let source: Value = serde_json::from_str(&source).unwrap();
    assert_eq!(source["hub"][0]["repository"], CHECKPOINT);
    assert_eq!(source["hub"][0]["commit"], COMMIT);
    assert!(source["mapper"].is_object(), "{source}");

    let args = ["infer", "--model", "model/clipcap-coco", "--device", "cpu"];
    let output = place.run(&[&args[..], &["--format", "jsonl", &image()]].concat());
    succeeds(&output);
    assert!(json_lines(&output)[0]["caption"].is_string());

    fails_with(
        &fetch(&place, &server, &["clipcap-coco"]),
        &["model/clipcap-coco", "already"],
    );
    server.take_log();
    let output = fetch(
        &place,
        &server,
        &["clipcap-coco", "--offline", "--output", "again"],
    );
    succeeds(&output);
    let mut offline = command(&place, &server, &["gpt2"]);
    let output = offline.env("HF_HUB_OFFLINE", "1").output().unwrap();
    fails_with(&output, &["openai-community/gpt2", "not fetched before"]);
    assert_eq!(server.take_log(), []);
}

#[test]
fn several_names_make_one_model_or_one_each() {
    let (place, server) = (Place::new(), server());
    let output = fetch(&place, &server, &[CLIP, "gpt2", "--output", "model/base"]);
    succeeds(&output);
    for file in ["clip.bpk", "gpt2.bpk", "config.json"] {
        assert!(place.path("model/base").join(file).is_file(), "{file}");
    }
    let output = fetch(&place, &server, &[CLIP, "gpt2"]);
    succeeds(&output);
    assert_eq!(stdout(&output), "model/clip-vit-base-patch32\nmodel/gpt2\n");
    let twice = fetch(&place, &server, &[CLIP, "clipcap-coco", "--output", "x"]);
    succeeds(&twice);
    server.add_folder("other/clip", &fixture("convert/clip_hf"));
    let both = fetch(&place, &server, &[CLIP, "other/clip", "--output", "y"]);
    fails_with(&both, &["both CLIP"]);
}

#[test]
fn a_checkpoint_at_hand_takes_the_place_of_one_that_is_not_on_the_hub() {
    let (place, server) = (Place::new(), server());
    server.add_folder("timm/resnet50x4_clip.openai", &fixture("convert/clip_hf"));
    fails_with(
        &fetch(&place, &server, &["clipcap-transformer"]),
        &["drive.google.com", "--captioner transformer_weights.pt"],
    );
    let mine = fixture("convert/captioner_transformer.pt")
        .display()
        .to_string();
    let args = ["clipcap-transformer", "--captioner", &mine];
    succeeds(&fetch(&place, &server, &args));
    assert!(place.path("model/clipcap-transformer/mapper.bpk").is_file());
}

#[test]
fn what_fails_leaves_no_model_and_says_what_to_do() {
    let (place, server) = (Place::new(), server());
    let fails = |names: &[&str], parts: &[&str]| {
        fails_with(&fetch(&place, &server, names), parts);
        assert!(!place.path("model/clipcap-coco").exists());
    };
    refused_with(
        &fetch(&place, &server, &["clipcap-cocoa"]),
        &[
            "`clipcap-cocoa` is unknown: did you mean `clipcap-coco`?",
            "clipcap-conceptual",
        ],
    );
    fails(&["no/such"], &["no/such is refused (401)", "HF_TOKEN"]);
    server.trouble("coco_weights.pt", Trouble::Corrupt);
    fails(&["clipcap-coco"], &["coco_weights.pt", "checksum"]);
    server.no_trouble();
    server.gate(CHECKPOINT, 403, "hf_mine");
    fails(
        &["clipcap-coco"],
        &["is refused (403)", "terms", "HF_TOKEN"],
    );
    let mut known = command(&place, &server, &["clipcap-coco"]);
    succeeds(&known.env("HF_TOKEN", "hf_mine").output().unwrap());
}

#[test]
fn a_lost_connection_is_noted_and_taken_up() {
    let (place, server) = (Place::new(), server());
    let cut = Trouble::Cut {
        after: 2000,
        times: 1,
    };
    server.trouble("coco_weights.pt", cut);
    let output = fetch(&place, &server, &["clipcap-coco"]);
    succeeds(&output);
    assert!(
        stderr(&output).contains("trying again (1 of 4)"),
        "{}",
        stderr(&output)
    );
}
