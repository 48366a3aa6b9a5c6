//! With the sample model: captions are the library's, and settings stay within their limits.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::captioner::{Captioner, MemoryOptions, Rerank, Search};
use clipcap::datasets::scenes;
use clipcap::decode::{DecodeConfig, Sampling, Strategy};
use clipcap::retrieve::{Builder, Entry, Kind};
use clipcap::serve::{Limits, Model, Searches};
use image::RgbImage;
use serde_json::Value;

use super::help::*;

fn captioner() -> Captioner {
    let builder = Captioner::builder().device(&Device::flex());
    builder.load("model/sample").unwrap()
}

fn search(captioner: &Captioner, strategy: Strategy, num_captions: usize) -> Search {
    Search {
        decode: captioner.decoder.decode_config(strategy),
        num_captions,
        rerank: Rerank::Score,
    }
}

fn model(strategy: Strategy, num_captions: usize) -> Model {
    let captioner = captioner();
    let own = search(&captioner, strategy, num_captions);
    Model::new(captioner, own, Searches::default(), Limits::default())
}

/// A greedy one for the tests that need no other.
fn address() -> std::net::SocketAddr {
    static RUNNING: OnceLock<Running> = OnceLock::new();
    let running = RUNNING.get_or_init(|| start(model(Strategy::Greedy, 1), config()));
    running.address
}

fn scene(index: u64) -> RgbImage {
    scenes::draw(&scenes::scene(77, index))
}

/// What the library finds with other settings than the greedy ones.
fn expected(change: impl FnOnce(&Captioner, &mut DecodeConfig)) -> Value {
    let captioner = captioner();
    let mut search = search(&captioner, Strategy::Greedy, 3);
    change(&captioner, &mut search.decode);
    let crop = captioner.encoder.crop(&scene(1));
    let found = captioner.caption_crops(&[crop], &search).unwrap();
    serde_json::to_value(&found[0]).unwrap()
}

/// Equal but for the last digits of numbers.
fn assert_same(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["caption"], expected["caption"]);
        assert_eq!(found["tokens"], expected["tokens"]);
        for key in ["log_prob", "score"] {
            let [found, expected] = [found, expected].map(|value| value[key].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-6, "{key}: {found}");
        }
    }
}

/// A projection on captions has no image's parts to explain.
#[test]
fn a_service_that_projects_says_why_it_explains_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    let folder = ModelFolder::open(Path::new("model/sample")).unwrap();
    let texts: Vec<String> = ["A red circle.", "A blue star."].map(String::from).into();
    let rows = captioner().encoder.embed_texts(&texts).unwrap();
    let identity = folder.encoder_identity().unwrap();
    let mut builder =
        Builder::open(&store, Kind::Captions, identity, false, "two", &|_| ()).unwrap();
    let entries = texts.iter().map(|text| Entry {
        entry: text.clone(),
        image: None,
    });
    builder.add(entries.zip(rows)).unwrap();
    builder.finish(10, &|_| ()).unwrap();
    let options = MemoryOptions {
        index: Some(store),
        retrieve: None,
        project: Some(0.1),
    };
    let captioner = Captioner::builder().device(&Device::flex()).memory(options);
    let captioner = captioner.load("model/sample").unwrap();
    let own = search(&captioner, Strategy::Greedy, 1);
    let model = Model::new(captioner, own, Searches::default(), Limits::default());
    let running = start(model, config());
    assert_eq!(post(running.address, &encoded(&scene(1))).status, 200);
    let answer = ask(
        running.address,
        "POST",
        "/explain",
        &[],
        &encoded(&scene(1)),
    );
    answer.fails(501, &["explain without the projection"]);
    let page = get(running.address, "/").body;
    assert!(
        page.contains("\"explains\":false"),
        "the page offers no explanation"
    );
    assert!(get(address(), "/").body.contains("\"explains\":true"));
}

#[test]
fn captions_are_those_of_the_library_best_first() {
    let strategy = Strategy::Beam { beam_size: 3 };
    let running = start(model(strategy.clone(), 2), config());
    let mut captions = expected(|_, config| config.strategy = strategy);
    captions.as_array_mut().unwrap().truncate(2);
    let answer = post(running.address, &encoded(&scene(1)));
    assert_eq!(answer.status, 200);
    assert_same(&answer.json()["captions"], &captions);
    let greedy = ask(
        running.address,
        "POST",
        "/caption?decode=greedy",
        &[],
        &encoded(&scene(1)),
    );
    assert_same(&greedy.json()["captions"], &expected(|_, _| {}));
}

#[test]
fn many_at_once_get_a_caption_of_their_own_image_each() {
    let one = captioner();
    let address = address();
    std::thread::scope(|threads| {
        for index in 0..24 {
            let expected = one.caption(&scene(index)).unwrap().caption;
            threads.spawn(move || {
                assert_eq!(post(address, &encoded(&scene(index))).caption(), expected);
            });
        }
    });
}

#[test]
fn a_request_chooses_its_search_length_and_prompt() {
    let ask = |query: &str| {
        let target = format!("/caption?{query}");
        let answer = ask(address(), "POST", &target, &[], &encoded(&scene(1)));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.json()["captions"].clone()
    };
    let beams = ask("decode=beam&beam_size=4&num_captions=3");
    assert_same(
        &beams,
        &expected(|_, config| config.strategy = Strategy::Beam { beam_size: 4 }),
    );
    let samples = ask("decode=sample&num_captions=3&temperature=0.7&top_k=20&top_p=0.9&seed=5");
    let sampling = Strategy::Sample(Sampling {
        temperature: 0.7,
        top_k: Some(20),
        top_p: Some(0.9),
        seed: 5,
        num_captions: 3,
        ..Sampling::default()
    });
    assert_same(&samples, &expected(|_, config| config.strategy = sampling));
    let ruled = ask("min_length=12&repetition_penalty=1.2&bad_words=circle,A%20small");
    let with_rules = expected(|captioner, config| {
        config.min_length = 12;
        let end = captioner.decoder.tokenizer.end_of_text();
        config.stop_tokens.push(end);
        config.repetition_penalty = 1.2;
        let words = ["circle", "A small"].map(String::from);
        config.bad_words = captioner.decoder.spellings(&words).unwrap();
    });
    assert_same(&ruled, &with_rules);
    assert!(ruled[0]["tokens"].as_array().unwrap().len() > 12, "{ruled}");
    let short = ask("max_length=2");
    assert_same(&short, &expected(|_, config| config.max_length = 2));
    let prompted = ask("prompt=A%20small");
    let with_prompt = expected(|captioner, config| {
        let tokenizer = &captioner.decoder.tokenizer;
        config.prompt = tokenizer.encode("A small").unwrap();
        let room = captioner.decoder.longest_caption();
        config.max_length = config.max_length.min(room - config.prompt.len());
    });
    assert_same(&prompted, &with_prompt);
    assert!(
        prompted[0]["caption"]
            .as_str()
            .unwrap()
            .starts_with("A small"),
        "{prompted}"
    );
}

#[test]
fn settings_beyond_the_limits_or_against_each_other_are_refused_by_name() {
    let long = "word%20".repeat(40);
    let longer = "x".repeat(10_000);
    for (query, parts) in [
        (
            "decode=beam&num_captions=11",
            &["num_captions", "11", "at most 10"][..],
        ),
        (
            "decode=beam&beam_size=11",
            &["beam_size", "11", "at most 10"],
        ),
        ("min_length=60&max_length=50", &["60", "50", "at most"]),
        ("min_p=0.1", &["min_p", "decode sample"]),
        (
            &format!("bad_words={}", "a,".repeat(101)),
            &["bad_words", "101", "at most 100"],
        ),
        ("max_length=68", &["max_length", "68", "at most"]),
        (
            &format!("prompt={long}"),
            &["prompt", "tokens", "at most 32"],
        ),
        (&format!("prompt={longer}"), &["prompt", "bytes", "at most"]),
        ("num_captions=2", &["num_captions", "decode beam or sample"]),
        ("decode=beam&num_captions=6", &["num_captions", "beam_size"]),
        ("temperature=0.5", &["temperature", "decode sample"]),
        ("decode=beam&top_k=3", &["top_k", "decode sample"]),
        ("decode=sample&beam_size=3", &["beam_size", "decode beam"]),
        ("captions=2", &["`captions`", "num_captions"]),
    ] {
        let target = format!("/caption?{query}");
        let answer = ask(address(), "POST", &target, &[], &encoded(&scene(1)));
        answer.fails(400, parts);
    }
    assert_eq!(post(address(), &encoded(&scene(1))).status, 200);
}
