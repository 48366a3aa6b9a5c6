//! `infer` as it is used: how captions are searched, which images are taken, where captions go and how an interrupted
//! run is taken up again.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use crate::common::place::{
    INFER, Place, fails_with, image, json_lines, refused_with, stderr, stdout,
};
use clipcap::tokenizer::{Tokenizer, TokenizerKind};
use serde_json::Value;

fn infer(place: &Place, more: &[&str]) -> Output {
    place.run(&[&INFER[..], more].concat())
}

/// JSON Lines of a run in which nothing went wrong.
fn captions(place: &Place, more: &[&str]) -> Vec<Value> {
    let output = infer(place, &[&["--format", "jsonl"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    json_lines(&output)
}

fn tokens(line: &Value) -> Vec<u64> {
    let tokens = line["tokens"].as_array().unwrap();
    tokens.iter().map(|token| token.as_u64().unwrap()).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn every_caption_begins_with_the_prompt_and_the_score_is_of_what_follows() {
    let place = Place::new();
    let image = image();
    for decode in ["greedy", "beam", "sample"] {
        let args = [
            "--decode",
            decode,
            "--prompt",
            "A red",
            "--max-length",
            "6",
            &image,
        ];
        let line = &captions(&place, &args)[0];
        let caption = line["caption"].as_str().unwrap();
        assert!(caption.starts_with("A red"), "{caption}");
        let prompt = tokens(line).len() as f64 - number(line, "log_prob") / number(line, "score");
        assert!(
            prompt > 0.9 && (prompt - prompt.round()).abs() < 1e-3,
            "{line}"
        );
    }
    let long = "red ".repeat(80);
    fails_with(
        &infer(&place, &["--prompt", &long, &image]),
        &["64 positions", "and the prompt"],
    );
}

#[test]
fn a_stop_text_takes_the_place_of_the_models_and_must_be_one_token() {
    let place = Place::new();
    let image = image();
    // Random tokens of the same seed: varied, and the same until one of them stops the caption.
    let sample = ["--decode", "sample", "--max-length", "40", &image];
    let free = tokens(&captions(&place, &[&sample[..], &["--stop", "~"]].concat())[0]);
    let vocabulary = place.path("model/tiny/gpt2-tokenizer.json");
    let tokenizer = Tokenizer::from_file(&vocabulary, TokenizerKind::Gpt2).unwrap();
    // A token in the middle of the caption that is some text of its own.
    let (at, stop) = (1..free.len())
        .map(|at| (at, tokenizer.decode(&[free[at] as u32]).unwrap()))
        .find(|(_, text)| text.chars().all(|c| c.is_ascii_graphic()))
        .expect("a readable token");
    let first = free.iter().position(|token| *token == free[at]).unwrap();
    let stops = ["--stop", "~", "--stop", &stop];
    let line = &captions(&place, &[&sample[..], &stops].concat())[0];
    assert_eq!(tokens(line), free[..=first]);
    fails_with(
        &infer(&place, &["--stop", "several words", &image]),
        &["`several words` is", "tokens", "a single one"],
    );
    refused_with(&infer(&place, &["--stop", "", &image]), &["is empty"]);
}

#[test]
fn no_sequence_repeats_that_may_not() {
    let place = Place::new();
    let image = image();
    let args = ["--decode", "beam", "--num-captions", "5", "--stop", "~"];
    let args = [&args[..], &["--no-repeat-ngram", "2", &image]].concat();
    for line in captions(&place, &args) {
        let tokens = tokens(&line);
        let mut pairs: Vec<&[u64]> = tokens.windows(2).collect();
        pairs.sort();
        assert!(pairs.windows(2).all(|two| two[0] != two[1]), "{line}");
    }
}

#[test]
fn a_length_penalty_ranks_by_itself_and_1_changes_nothing() {
    let place = Place::new();
    let image = image();
    let args = ["--decode", "beam", "--num-captions", "5", &image];
    let plain = captions(&place, &args);
    assert_eq!(
        captions(&place, &[&args[..], &["--length-penalty", "1"]].concat()),
        plain
    );
    for line in captions(&place, &[&args[..], &["--length-penalty", "0"]].concat()) {
        assert!(
            (number(&line, "score") - number(&line, "log_prob")).abs() < 1e-4,
            "{line}"
        );
    }
}

#[test]
fn clip_puts_captions_in_its_own_order() {
    let place = Place::new();
    let image = image();
    let args = ["--decode", "beam", "--num-captions", "3"];
    let lines = captions(&place, &[&args[..], &["--rerank", "clip", &image]].concat());
    assert_eq!(lines.len(), 3);
    let similarities: Vec<f64> = lines
        .iter()
        .map(|line| number(line, "similarity"))
        .collect();
    assert!(similarities.is_sorted_by(|a, b| a >= b), "{similarities:?}");
    assert!(
        similarities
            .iter()
            .all(|cosine| (-1.0..=1.0).contains(cosine))
    );
    // Of the captions drawn, the best by CLIP.
    let drawn = ["--decode", "sample", "--rerank", "clip", &image];
    let all = captions(&place, &[&drawn[..], &["--num-captions", "8"]].concat());
    let best = captions(&place, &[&drawn[..], &["--best-of", "8"]].concat());
    assert_eq!(best, all[..1]);
    let table = infer(&place, &["--rerank", "clip", "--format", "csv", &image]);
    let head = stdout(&table).lines().next().unwrap().to_string();
    assert_eq!(head, "image,rank,caption,log_prob,score,similarity,error");

    fs::remove_file(place.path("model/tiny/clip-tokenizer.json")).unwrap();
    assert_eq!(
        infer(&place, &[&image]).status.code(),
        Some(0),
        "captioning does without"
    );
    fails_with(
        &infer(&place, &["--rerank", "clip", &image]),
        &["clip-tokenizer.json"],
    );
}

#[test]
fn consensus_puts_captions_in_the_order_of_their_likeness() {
    let place = Place::new();
    let image = image();
    let drawn = ["--decode", "sample", "--top-k", "3", "--consensus", &image];
    let all = captions(&place, &[&drawn[..], &["--num-captions", "8"]].concat());
    let values: Vec<f64> = all.iter().map(|line| number(line, "consensus")).collect();
    assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
    let best = captions(&place, &[&drawn[..], &["--best-of", "8"]].concat());
    assert_eq!(best, all[..1]);
    let table = infer(&place, &[&drawn[..], &["--format", "csv"]].concat());
    let head = stdout(&table).lines().next().unwrap().to_string();
    assert_eq!(head, "image,rank,caption,log_prob,score,consensus,error");
}

#[test]
fn text_stands_around_captions_in_every_format_and_nothing_else_changes() {
    let place = Place::new();
    let image = image();
    let around = ["--prepend", "PHOTO of ", "--append", " (X)", "--lowercase"];
    let with = |more: &[&str]| infer(&place, &[&around[..], more, &[&image]].concat());
    let plain = &captions(&place, &[&image])[0];
    let lower = plain["caption"].as_str().unwrap().to_lowercase();
    let line = &json_lines(&with(&["--format", "jsonl"]))[0];
    assert_eq!(line["caption"], format!("PHOTO of {lower} (X)"));
    for key in ["tokens", "log_prob", "score"] {
        assert_eq!(line[key], plain[key]);
    }
    for format in ["text", "csv", "coco"] {
        let output = match format {
            "coco" => {
                let named = place.path("COCO_val2014_000000000007.png");
                fs::copy(&image, &named).unwrap();
                let named = named.to_str().unwrap().to_string();
                infer(
                    &place,
                    &[&around[..], &["--format", "coco", &named]].concat(),
                )
            }
            _ => with(&["--format", format]),
        };
        assert!(stdout(&output).contains("PHOTO of "), "{format}");
        assert!(stdout(&output).contains(" (X)"), "{format}");
    }
    let output = with(&["--format", "sidecar", "--output", "texts"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let sidecar = fs::read_dir(place.path("texts")).unwrap().next().unwrap();
    let text = fs::read_to_string(sidecar.unwrap().path()).unwrap();
    assert!(
        text.starts_with("PHOTO of ") && text.ends_with(" (X)\n"),
        "{text}"
    );
    let short = captions(&place, &["--max-chars", "9", &image]);
    let caption = short[0]["caption"].as_str().unwrap();
    assert!(caption.chars().count() <= 9, "{caption}");
    assert_eq!(short[0]["tokens"], plain["tokens"]);
}

#[test]
fn beams_and_rules_have_hugging_faces_names() {
    let place = Place::new();
    let image = image();
    let beams = ["--decode", "beam", "--beam-rule", "hf", "--beam-size", "4"];
    let groups = ["--beam-groups", "2", "--diversity-penalty", "0.7"];
    for more in [
        &["--early-stopping", "never"][..],
        &groups[..],
        &["--min-length", "5", "--repetition-penalty", "1.3"][..],
    ] {
        let args = [&beams[..], more, &["--num-captions", "4", &image]].concat();
        let lines = captions(&place, &args);
        let scores: Vec<f64> = lines.iter().map(|line| number(line, "score")).collect();
        assert!(
            scores.len() == 4 && scores.is_sorted_by(|a, b| a >= b),
            "{scores:?}"
        );
    }
    let odd = [&beams[..], &["--beam-groups", "3", &image]].concat();
    refused_with(&infer(&place, &odd), &["3 groups of 4 beams"]);
    refused_with(
        &infer(&place, &["--bad-words", "dog,", &image]),
        &["forbidden word is empty"],
    );
    let least = captions(
        &place,
        &["--min-length", "20", "--max-length", "21", &image],
    );
    assert!(tokens(&least[0]).len() > 20);
    refused_with(
        &infer(&place, &["--min-length", "9", "--max-length", "8", &image]),
        &["shortest", "9", "8"],
    );
}

#[test]
fn a_batch_gives_what_each_image_gives_alone() {
    let place = Place::new();
    place.write_data();
    for decode in ["greedy", "beam", "sample"] {
        let args = ["--decode", decode, "--prompt", "A", "data/images"];
        let one = captions(&place, &[&args[..], &["--batch-size", "1"]].concat());
        let five = captions(&place, &[&args[..], &["--batch-size", "5"]].concat());
        assert_eq!(one.len(), 12);
        for (a, b) in one.iter().zip(&five) {
            assert_eq!(
                (&a["image"], &a["tokens"]),
                (&b["image"], &b["tokens"]),
                "{decode}"
            );
        }
    }
}

#[test]
fn subfolders_patterns_and_lists_are_taken_apart() {
    let place = Place::new();
    place.write_data();
    fs::create_dir(place.path("data/images/more")).unwrap();
    for index in 0..3 {
        let name = format!("00000{index}.png");
        let from = place.path("data/images").join(&name);
        fs::rename(from, place.path("data/images/more").join(&name)).unwrap();
    }
    let names = |args: &[&str]| {
        let lines = captions(&place, args);
        let name = |line: &Value| line["image"].as_str().unwrap().replace('\\', "/");
        lines.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["data/images"]).len(), 9);
    let all = names(&["--recursive", "data/images"]);
    assert_eq!(all.len(), 12);
    assert_eq!(all[11], "data/images/more/000002.png");
    assert_eq!(names(&["data/**/00000[01].png"]), all[9..11]);

    let mut child = place
        .command(&[&INFER[..], &["--format", "jsonl", "-"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let list = "data/images/more\n\ndata/images/000005.png\nmissing.png";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(list.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[3]["image"], "data/images/000005.png");
    assert_eq!(lines[4]["error"], "missing.png: no such file");

    let output = infer(&place, &["--format", "jsonl", "nothing/*.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_lines(&output)[0]["image"], "nothing/*.png");
}

#[test]
fn an_output_file_is_continued_where_it_ended() {
    let place = Place::new();
    place.write_data();
    fs::write(place.path("data/images/bad.png"), "no image").unwrap();
    for format in ["text", "jsonl", "csv"] {
        let args = [
            "--format", format, "--output", "captions", "--decode", "beam",
        ];
        let args = [&args[..], &["--num-captions", "2", "data/images"]].concat();
        let output = infer(&place, &args);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
        assert!(
            stderr(&output).contains("bad.png: is not an image"),
            "{}",
            stderr(&output)
        );
        let whole = fs::read_to_string(place.path("captions")).unwrap();
        let rows = match format {
            "csv" => csv::Reader::from_reader(whole.as_bytes()).records().count(),
            _ => whole.lines().count(),
        };
        assert_eq!(rows, 24 + usize::from(format != "text"));

        fs::write(
            place.path("captions"),
            &whole.as_bytes()[..whole.len() * 2 / 3],
        )
        .unwrap();
        let output = infer(&place, &args);
        assert_eq!(fs::read_to_string(place.path("captions")).unwrap(), whole);
        assert!(
            stderr(&output).contains("had their captions"),
            "{}",
            stderr(&output)
        );

        let output = infer(&place, &[&args[..], &["--overwrite"]].concat());
        assert!(!stderr(&output).contains("had their captions"));
        assert_eq!(fs::read_to_string(place.path("captions")).unwrap(), whole);
        fs::remove_file(place.path("captions")).unwrap();
    }
    fails_with(
        &infer(&place, &["--output", "no/such/folder.txt", &image()]),
        &["no/such/folder.txt"],
    );
}

#[test]
fn sidecars_stand_beside_the_images_or_apart_and_are_not_written_twice() {
    let place = Place::new();
    place.write_data();
    let sidecar = ["--format", "sidecar", "data/images"];
    let output = infer(&place, &sidecar);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let beside = place.path("data/images/000003.txt");
    let caption = fs::read_to_string(&beside).unwrap();
    assert_eq!(caption.lines().count(), 1);

    fs::write(&beside, "my own words\n").unwrap();
    let output = infer(&place, &sidecar);
    assert!(
        stderr(&output).contains("12 images had their captions"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read_to_string(&beside).unwrap(), "my own words\n");
    infer(&place, &[&sidecar[..], &["--overwrite"]].concat());
    assert_eq!(fs::read_to_string(&beside).unwrap(), caption);

    let apart = [
        "--format",
        "sidecar",
        "--output",
        "captions",
        "--recursive",
        "data",
    ];
    let output = infer(&place, &apart);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let there = place.path("captions/images/000003.txt");
    assert_eq!(fs::read_to_string(there).unwrap(), caption);

    fs::copy(place.path("data/images/000001.png"), place.path("a.png")).unwrap();
    fs::copy(place.path("data/images/000001.png"), place.path("a.jpg")).unwrap();
    let output = infer(&place, &["--format", "sidecar", "a.png", "a.jpg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("already holds the captions of a.png"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn flags_that_contradict_each_other_are_wrong_usage() {
    let place = Place::new();
    let cases: [&[&str]; 11] = [
        &["--consensus"],
        &["--decode", "beam", "--consensus", "--rerank", "clip"],
        &["--decode", "beam", "--early-stopping", "true"],
        &["--decode", "beam", "--beam-groups", "5"],
        &["--diversity-penalty", "1"],
        &["--prepend", "photo: ", "--max-chars", "7"],
        &["--num-captions", "0"],
        &["--best-of", "4"],
        &[
            "--decode",
            "sample",
            "--num-captions",
            "3",
            "--best-of",
            "2",
        ],
        &["--overwrite"],
        &["--batch-size", "0"],
    ];
    for args in cases {
        let output = infer(&place, args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}
