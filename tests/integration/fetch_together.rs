//! Two processes that fetch the same at once: one downloads, and the other uses what came.

use std::fs;
use std::process::Command;

use crate::common::fixture;
use crate::common::place::{Place, stderr};
use crate::common::process::together;
use crate::hub_server::HubServer;

const CLIP: &str = "openai/clip-vit-base-patch32";
const GPT2: &str = "openai-community/gpt2";

fn command(place: &Place, server: &HubServer, args: &[&str]) -> Command {
    let mut command = place.command(args);
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

#[test]
fn what_two_fetch_at_once_is_downloaded_once() {
    for _ in 0..3 {
        let (place, server) = (Place::new(), HubServer::start());
        server.add_folder(CLIP, &fixture("convert/clip_hf"));
        server.add_folder(GPT2, &fixture("convert/gpt2"));
        let fetch = |output: &str| {
            let args = ["fetch", CLIP, "gpt2", "--output", output];
            command(&place, &server, &args)
        };
        for output in together(vec![fetch("model/a"), fetch("model/b")]) {
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
        for file in ["clip.bpk", "gpt2.bpk", "config.json"] {
            let read = |name: &str| fs::read(place.path(&format!("model/{name}/{file}"))).unwrap();
            assert!(read("a") == read("b"), "{file} differs");
        }
        let asked = server.take_log();
        let whole = |(path, range): &&(String, String)| {
            path.ends_with("patch32/resolve/main/model.safetensors") && range == "bytes=0-"
        };
        assert_eq!(asked.iter().filter(whole).count(), 1, "{asked:?}");
    }
}

#[test]
fn of_two_that_make_the_same_folder_one_is_told_that_it_is_there() {
    let (place, server) = (Place::new(), HubServer::start());
    server.add_folder(CLIP, &fixture("convert/clip_hf"));
    let fetch = || command(&place, &server, &["fetch", CLIP, "--output", "model/same"]);
    let outputs = together(vec![fetch(), fetch()]);
    let codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let text = stderr(output);
        assert!(text.contains("model/same is there already"), "{text}");
    }
    assert!(place.path("model/same/clip.bpk").is_file());
}
