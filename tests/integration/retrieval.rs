//! Datastores as they are used: `index`, `search`, and captioning and training that look something up.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::place::{Place, fails_with, json_lines, refused_with, stderr, stdout};
use crate::common::process;
use clipcap::captioner::Own;
use clipcap::retrieve::{Datastore, Entry};
use serde_json::Value;

/// A text with so many captions of scenes, a line each.
fn write_captions(path: &Path, count: usize) {
    let colors = ["red", "blue", "green", "pink"];
    let shapes = ["circle", "star", "ring", "heart", "cross"];
    let line = |i: usize| {
        let (color, shape) = (colors[i % 4], shapes[i / 4 % 5]);
        format!("A {color} {shape} number {i}.\n")
    };
    fs::write(path, (0..count).map(line).collect::<String>()).unwrap();
}

fn succeeds(place: &Place, line: &str) -> String {
    let output = place.line(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

/// A place with scenes, and a datastore of their captions by the sample model in `store`.
fn with_store() -> Place {
    let place = Place::new();
    place.write_data();
    succeeds(
        &place,
        "index data/captions.json --output store --device cpu",
    );
    place
}

#[test]
fn captions_are_indexed_and_found_by_image_and_text() {
    let place = with_store();
    let line = "search --index store --device cpu --format json --top 3 data/images/000000.png";
    let found = json_lines(&place.line(line).output().unwrap());
    let hits = found[0]["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3);
    let cosines: Vec<f64> = hits
        .iter()
        .map(|hit| hit["cosine"].as_f64().unwrap())
        .collect();
    assert!(cosines.is_sorted_by(|a, b| a >= b), "{cosines:?}");
    // A caption is nearest to itself.
    let caption = hits[1]["caption"].as_str().unwrap();
    let output = place.run(&[
        "search", "--index", "store", "--top", "1", "--device", "cpu", caption,
    ]);
    assert_eq!(
        stdout(&output),
        format!("1.000 {caption}\n"),
        "{}",
        stderr(&output)
    );
    // It is of the image it was found for, as its annotation says.
    let data: Value =
        serde_json::from_slice(&fs::read(place.path("data/captions.json")).unwrap()).unwrap();
    let id = hits[1]["image_id"].as_str().unwrap();
    let annotations = data["annotations"].as_array().unwrap();
    assert!(annotations.iter().any(|one| {
        one["caption"].as_str() == Some(caption) && one["image_id"].as_u64() == id.parse().ok()
    }));
}

#[test]
fn images_are_indexed_and_bad_ones_are_named_and_left_out() {
    let place = Place::new();
    place.write_data();
    fs::write(place.path("data/images/broken.png"), b"not an image").unwrap();
    let output = place
        .line("index data/images --output store --device cpu")
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("left out: data/images/broken.png"), "{said}");
    assert_eq!(
        stdout(&output),
        "store: 12 images, 12 of them new, searched exactly\n"
    );
    let found = succeeds(
        &place,
        "search --index store --device cpu --top 1 data/images/000007.png",
    );
    assert_eq!(found, "1.000 data/images/000007.png\n");
    // The same again adds nothing, unless it is asked to.
    let line = "index data/images --output store --device cpu";
    fails_with(
        &place.line(line).output().unwrap(),
        &["12 images already", "--append"],
    );
    fs::remove_file(place.path("data/images/broken.png")).unwrap();
    fs::copy(
        place.path("data/images/000001.png"),
        place.path("data/images/more.png"),
    )
    .unwrap();
    assert_eq!(
        succeeds(&place, &format!("{line} --append")),
        "store: 13 images, 1 of them new, searched exactly\n"
    );
    fails_with(
        &place
            .line("search --index nowhere --device cpu red")
            .output()
            .unwrap(),
        &["nowhere", "is not a datastore"],
    );
}

#[test]
fn a_build_that_is_ended_goes_on_and_becomes_what_it_would_have_been() {
    let place = Place::new();
    write_captions(&place.path("captions.txt"), 6000);
    let line = |store: &str| format!("index captions.txt --output {store} --device cpu");
    succeeds(&place, &line("whole"));
    let mut child = place
        .line(&line("cut"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = place.path("cut/embeddings-0001.f32.partial");
    process::until("some are embedded", || {
        fs::metadata(&partial).is_ok_and(|file| file.len() > 20_000)
            || place.path("cut/embeddings-0001.f32").is_file()
    });
    child.kill().unwrap(); // at once, whatever it is at
    child.wait().unwrap();
    let was_cut_off = partial.is_file();
    if was_cut_off {
        let again = place.line(&line("cut")).output().unwrap();
        let said = stderr(&again);
        assert!(again.status.success(), "{said}");
        assert!(said.contains("going on after"), "{said}");
    }
    for name in ["embeddings-0001.f32", "entries-0001.jsonl"] {
        let read = |store: &str| fs::read(place.path(store).join(name)).unwrap();
        assert!(read("cut") == read("whole"), "{name} differs");
    }
}

#[test]
fn an_interrupted_build_is_finished_by_the_same_command_alone() {
    let place = with_store();
    let path = place.path("store/index.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(manifest.get("adding").is_none(), "{manifest}");
    manifest["unfinished"] = true.into();
    manifest["adding"] = "captions.txt --split train".into();
    fs::write(&path, manifest.to_string()).unwrap();
    let line = "index data/captions.json --output store --device cpu";
    fails_with(
        &place.line(line).output().unwrap(),
        &[
            "adding captions.txt --split train was interrupted",
            "same command",
        ],
    );
}

#[test]
fn more_captions_than_any_gpt2_reads_are_refused() {
    let place = with_store();
    for count in ["101", "99999999999", "18446744073709551615"] {
        let line = format!(
            "infer --model sample --device cpu --retrieve {count} --index store data/images/000000.png"
        );
        refused_with(&place.line(&line).output().unwrap(), &["give at most 100"]);
    }
    let line = "infer --model sample --device cpu --project-memory --memory-temperature 0 --index store data/images/000000.png";
    refused_with(
        &place.line(line).output().unwrap(),
        &["temperature of the projection is 0"],
    );
}

#[test]
fn an_explanation_never_replaces_an_image() {
    let place = with_store();
    let image = place.path("data/images/000000.png");
    let before = fs::read(&image).unwrap();
    for more in [
        "--output data/images/000000.png",
        "--report data/images/../images/000000.png",
        "--overlays data/images",
    ] {
        let line = format!("explain --model sample --device cpu {more} data/images/000000.png");
        let flag = more.split(' ').next().unwrap();
        fails_with(
            &place.line(&line).output().unwrap(),
            &[flag, "name another"],
        );
        assert_eq!(fs::read(&image).unwrap(), before, "{more}");
    }
}

#[test]
fn a_datastore_of_another_encoder_is_refused_by_name() {
    let place = with_store();
    let line =
        "infer --model model/tiny --device cpu --retrieve 2 --index store data/images/000000.png";
    let parts = [
        "embedded by the encoder of sample",
        "model/tiny has another",
    ];
    fails_with(&place.line(line).output().unwrap(), &parts);
    let line = "search --index store --model model/tiny --device cpu red";
    fails_with(&place.line(line).output().unwrap(), &parts);
    let line = "index data/captions.json --output store --append --model model/tiny --device cpu";
    fails_with(&place.line(line).output().unwrap(), &parts);
}

#[test]
fn infer_reads_retrieved_captions_and_projects() {
    let place = with_store();
    let infer = |more: &str| {
        let line = format!(
            "infer --model sample --device cpu --format jsonl{more} data/images/000000.png data/images/000005.png data/images/000002.png"
        );
        let found = json_lines(&place.line(&line).output().unwrap());
        assert_eq!(found.len(), 3, "{line}");
        found
    };
    let plain = infer("");
    let shown = infer(" --retrieve 2 --index store");
    let projected = infer(" --project-memory --index store");
    // What is read first is no part of a caption.
    for caption in shown.iter().chain(&projected) {
        let text = caption["caption"].as_str().unwrap();
        assert!(!text.contains("Similar images"), "{text}");
    }
    let scores = |found: &[Value]| -> Vec<f64> {
        let scores = found.iter().map(|one| one["log_prob"].as_f64().unwrap());
        scores.collect()
    };
    assert_ne!(scores(&plain), scores(&shown));
    assert_ne!(scores(&plain), scores(&projected));
    assert_eq!(infer(" --retrieve 0"), plain);
    // Together as one by one.
    for (number, name) in ["000000", "000005", "000002"].into_iter().enumerate() {
        let line = format!(
            "infer --model sample --device cpu --format jsonl --retrieve 2 --index store data/images/{name}.png"
        );
        let alone = json_lines(&place.line(&line).output().unwrap());
        assert_eq!(alone[0]["tokens"], shown[number]["tokens"], "{name}");
    }
    let line = "infer --model sample --device cpu --retrieve 2 data/images/000000.png";
    fails_with(
        &place.line(line).output().unwrap(),
        &["has no datastore", "--index"],
    );
    // A flipped bit is found.
    let file = place.path("store/embeddings-0001.f32");
    let mut bytes = fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let line =
        "infer --model sample --device cpu --retrieve 2 --index store data/images/000000.png";
    fails_with(
        &place.line(line).output().unwrap(),
        &["store/embeddings-0001.f32 is damaged", "build it again"],
    );
}

#[test]
fn a_caption_that_read_others_is_explained_with_them() {
    let place = with_store();
    let run = |command: &str| {
        let line = format!(
            "{command} --model sample --device cpu --precision f32 --format jsonl --retrieve 2 --index store data/images/000000.png"
        );
        json_lines(&place.line(&line).output().unwrap()).remove(0)
    };
    let (found, explained) = (run("infer"), run("explain"));
    assert_eq!(explained["caption"], found["caption"]);
    let log_prob = |value: &Value| value["log_prob"].as_f64().unwrap();
    assert!(
        (log_prob(&explained) - log_prob(&found)).abs() < 1e-3,
        "{explained} {found}"
    );
    let prompt: String = (explained["prompt"].as_array().unwrap().iter())
        .map(|token| token.as_str().unwrap())
        .collect();
    assert!(prompt.starts_with("Similar images show"), "{prompt}");
    assert!(prompt.ends_with("This image shows "), "{prompt}");

    let line =
        "explain --model sample --device cpu --project-memory --index store data/images/000000.png";
    let output = place.line(line).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("explain without the projection"), "{said}");
}

#[test]
fn a_model_trained_with_retrieval_keeps_its_datastore_and_asks_for_it() {
    let place = Place::new();
    place.write_data();
    let train = "train --model sample --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --batch-size 4 --epochs 1 --trainable mapper --device cpu --ui plain --retrieve 2 --run r";
    let output = place.line(train).output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("looking up 2 captions"), "{said}");
    let datastore = Datastore::open(&place.path("artifacts/r/best/datastore")).unwrap();
    // Of the training part alone.
    let data: Value =
        serde_json::from_slice(&fs::read(place.path("data/captions.json")).unwrap()).unwrap();
    assert!(datastore.len() < data["annotations"].as_array().unwrap().len());
    let infer = "infer --model r --device cpu data/images/000000.png";
    let with = succeeds(&place, infer);
    assert!(!with.contains("Similar"), "{with}");
    succeeds(&place, &format!("{infer} --retrieve 0"));
    fs::rename(
        place.path("artifacts/r/best/datastore"),
        place.path("moved"),
    )
    .unwrap();
    fails_with(
        &place.line(infer).output().unwrap(),
        &["trained to read the 2 nearest captions", "--index"],
    );
    assert_eq!(succeeds(&place, &format!("{infer} --index moved")), with);
    let evaluate = "evaluate --model r --data data/captions.json --images data/images --split all --device cpu --index moved --resamples 0 --output scores --format json";
    fs::create_dir(place.path("scores")).unwrap();
    assert!(succeeds(&place, evaluate).contains("CIDEr"));
}

#[test]
fn an_image_never_gets_its_own_captions() {
    let place = with_store();
    let datastore = Datastore::open(&place.path("store")).unwrap();
    let entries: Vec<&Entry> = (0..datastore.len())
        .map(|row| datastore.entry(row))
        .collect();
    let mut images: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry.image.as_deref())
        .collect();
    images.dedup();
    assert_eq!(images.len(), 12);
    for id in images {
        let own = Own { id, captions: &[] };
        // Asked for by its own caption's embedding, and for all there is.
        let row = entries
            .iter()
            .position(|entry| entry.image.as_deref() == Some(id))
            .unwrap();
        let query = vec![datastore.embedding(row).to_vec()];
        let keep = |_, row: usize| own.allows(datastore.entry(row));
        let hits = datastore
            .nearest(&query, datastore.len(), &keep)
            .unwrap()
            .remove(0);
        assert!(hits.len() > 20);
        assert!(
            hits.iter()
                .all(|hit| datastore.entry(hit.row).image.as_deref() != Some(id))
        );
    }
    // Without ids it is told by its words.
    let bare = Entry {
        entry: "A red star.".into(),
        image: None,
    };
    let captions = ["A red star.".to_string()];
    assert!(
        !Own {
            id: "1",
            captions: &captions
        }
        .allows(&bare)
    );
    assert!(
        Own {
            id: "1",
            captions: &[]
        }
        .allows(&bare)
    );
}
