//! What `infer` and others wrote, joined with reference captions by `clipcap evaluate`.

use std::fs;
use std::process::Output;

use crate::common::place::{INFER, Place, fails_with, json_lines, stderr, stdout};
use serde_json::{Value, json};

/// Images with references.
const IMAGES: usize = 20;

fn name(i: usize) -> String {
    format!("img_{i:03}.png")
}

/// Candidates and references are the same, so that every image that is scored has a BLEU of 1.
fn caption(i: usize) -> String {
    format!("a red circle number {i} on a white table")
}

fn references() -> Value {
    let images: Vec<Value> = (0..IMAGES)
        .map(|i| json!({"id": i + 100, "file_name": format!("val/{}", name(i))}))
        .collect();
    let annotations: Vec<Value> = (0..IMAGES)
        .map(|i| json!({"id": i, "image_id": i + 100, "caption": caption(i)}))
        .collect();
    json!({"images": images, "annotations": annotations})
}

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("references.json"), references().to_string()).unwrap();
    place
}

/// Lines as `infer` writes them, of these images.
fn lines(images: impl Iterator<Item = usize>) -> String {
    let line =
        |i| json!({"image": format!("photos/{}", name(i)), "rank": 0, "caption": caption(i)});
    images.map(|i| line(i).to_string() + "\n").collect()
}

fn evaluate(place: &Place, file: &str, text: &str, more: &[&str]) -> Output {
    fs::write(place.path(file), text).unwrap();
    let args = ["evaluate", "--candidates", file, "--references"];
    let rest = ["references.json", "--format", "json", "--resamples", "0"];
    place.run(&[&args[..], &rest, more].concat())
}

/// What was scored: images, and BLEU-1, which is 1 where each caption met its own reference.
fn scored(output: &Output) -> (u64, f64) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let found: Value = serde_json::from_str(&stdout(output)).unwrap();
    let bleu = found["overall"]["Bleu_1"].as_f64().unwrap();
    (found["images"].as_u64().unwrap(), bleu)
}

fn all_scored(output: &Output, images: u64) {
    let (found, bleu) = scored(output);
    assert_eq!(found, images);
    assert!(
        (bleu - 1.0).abs() < 1e-6,
        "a caption met another's reference: {bleu}"
    );
}

#[test]
fn captions_with_paths_meet_references_with_file_names() {
    let place = place();
    let whole = lines(0..IMAGES);
    all_scored(&evaluate(&place, "a.jsonl", &whole, &[]), 20);
    all_scored(
        &evaluate(&place, "a.txt", &format!("\u{feff}{whole}"), &[]),
        20,
    );
    let windows = whole
        .replace("photos/", r"C:\\photos\\")
        .replace('\n', "\r\n");
    all_scored(&evaluate(&place, "b.jsonl", &windows, &[]), 20);
    let rows = (0..IMAGES).map(|i| format!("photos/{},0,\"{}\",\r\n", name(i), caption(i)));
    let table = format!("image,rank,caption,error\r\n{}", rows.collect::<String>());
    all_scored(&evaluate(&place, "a.csv", &table, &[]), 20);
    let semicolons = table.replace(',', ";");
    all_scored(&evaluate(&place, "b.csv", &semicolons, &[]), 20);
    let ids = (0..IMAGES).map(|i| format!("{}.0\t{}\n", i + 100, caption(i)));
    let table = format!("image_id\tcaption\n{}", ids.collect::<String>());
    all_scored(&evaluate(&place, "a.tsv", &table, &[]), 20);
    let twice = whole.clone() + &whole;
    all_scored(&evaluate(&place, "twice.jsonl", &twice, &[]), 20);
}

#[test]
fn what_infer_writes_is_scored() {
    let place = Place::new();
    place.write_data();
    for format in ["jsonl", "csv", "coco"] {
        let ids: &[&str] = match format {
            "coco" => &["--ids", "data/captions.json"],
            _ => &[],
        };
        let output = [
            "--format",
            format,
            "--output",
            "results",
            "data/images",
            "--overwrite",
        ];
        let output = place.run(&[&INFER[..], &output, ids].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let ending = if format == "coco" { "json" } else { format };
        let file = format!("results.{ending}");
        fs::rename(place.path("results"), place.path(&file)).unwrap();
        let args = [
            "evaluate",
            "--candidates",
            &file,
            "--references",
            "data/captions.json",
        ];
        let output = place.run(&[&args[..], &["--format", "json"]].concat());
        assert_eq!(scored(&output).0, 12, "{format}");
    }
    let results = fs::read_to_string(place.path("results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let first = results[0].as_object().unwrap();
    let keys: Vec<&String> = first.keys().collect();
    assert_eq!(keys, ["image_id", "caption"]);
    assert!(first["image_id"].is_u64());
}

#[test]
fn coco_results_need_an_id_for_every_image() {
    let place = Place::new();
    place.write_data();
    fs::create_dir(place.path("photos")).unwrap();
    let source = place.path("data/images/000001.png");
    for name in [
        "COCO_val2014_000000391895.png",
        "000000000042.png",
        "dog.png",
    ] {
        fs::copy(&source, place.path("photos").join(name)).unwrap();
    }
    let infer = [&INFER[..], &["--format", "coco"]].concat();
    let output = place.run(&[&infer[..], &["photos"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let found = json_lines(&output).remove(0);
    let mut ids: Vec<u64> = (found.as_array().unwrap().iter())
        .map(|result| result["image_id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [42, 391_895]);
    let text = stderr(&output);
    assert!(
        text.contains("photos/dog.png: its name has no COCO id") && text.contains("--ids"),
        "{text}"
    );
    assert!(
        text.contains("1 of 3 images could not be captioned"),
        "{text}"
    );

    // A second run goes on with the file.
    let output = ["photos/000000000042.png", "--output", "results.json"];
    assert!(place.run(&[&infer[..], &output].concat()).status.success());
    let output = [
        "photos/COCO_val2014_000000391895.png",
        "photos/000000000042.png",
        "--output",
        "results.json",
    ];
    let output = place.run(&[&infer[..], &output].concat());
    assert!(
        stderr(&output).contains("1 images had their captions"),
        "{}",
        stderr(&output)
    );
    let results = fs::read_to_string(place.path("results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results.as_array().unwrap().len(), 2);
    let wrong = ["infer", "--ids", "data/captions.json", "photos"];
    assert_eq!(place.run(&wrong).status.code(), Some(2));
}

#[test]
fn missing_and_failed_images_are_said_and_too_many_refused() {
    let place = place();
    let failed = |i| json!({"image": name(i), "error": "is damaged"}).to_string() + "\n";
    let some = lines(0..18) + &failed(18);
    let output = evaluate(&place, "some.jsonl", &some, &[]);
    all_scored(&output, 18);
    let text = stderr(&output);
    for part in [
        "some.jsonl: 1 images could not be captioned",
        "2 of 20 images with references have no candidate; 18 are scored",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    let few = lines(0..17);
    let output = evaluate(&place, "few.jsonl", &few, &[]);
    fails_with(
        &output,
        &["few.jsonl", "3 of the 20 images", "--allow-missing"],
    );
    all_scored(
        &evaluate(&place, "few.jsonl", &few, &["--allow-missing"]),
        17,
    );
    let none: String = (0..IMAGES).map(failed).collect();
    let output = evaluate(&place, "none.jsonl", &none, &["--allow-missing"]);
    fails_with(
        &output,
        &["none.jsonl holds no caption", "20 images failed"],
    );
}

#[test]
fn entries_that_cannot_be_used_are_named_and_too_many_refused() {
    let place = place();
    let spoil = |text: String, i: usize, by: &str| text.replace(&format!("\"{}\"", caption(i)), by);
    let one = spoil(lines(0..IMAGES), 4, "NaN");
    let two = one.clone() + "{\"image\": \"other.png\", \"caption\": \"a dog\"}\n";
    let output = evaluate(&place, "two.jsonl", &two, &[]);
    all_scored(&output, 19);
    let text = stderr(&output);
    for part in [
        "two.jsonl: line 5 (image photos/img_004.png): has no `caption`",
        "two.jsonl: line 21: image other.png is not in references.json",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    let three = spoil(two, 9, "[1]") + "{\"image\": ";
    let output = evaluate(&place, "three.jsonl", &three, &[]);
    fails_with(
        &output,
        &[
            "three.jsonl: ",
            "of 22 entries",
            "more than 10%",
            "line 22: is not JSON",
        ],
    );
    fs::write(
        place.path("references.json"),
        references()
            .to_string()
            .replace(&format!("\"{}\"", caption(3)), "null"),
    )
    .unwrap();
    let output = evaluate(
        &place,
        "all.jsonl",
        &lines((0..IMAGES).filter(|&i| i != 3)),
        &[],
    );
    all_scored(&output, 19);
    assert!(
        stderr(&output).contains("references.json: annotation 4 (image 103): has no `caption`")
    );
}

#[test]
fn a_name_that_may_be_two_files_is_refused_unless_its_folder_tells() {
    let place = place();
    let mut both = references();
    let file = |id: usize, name: &str| json!({"id": id, "file_name": name});
    both["images"]
        .as_array_mut()
        .unwrap()
        .push(file(7, "train/img_000.png"));
    both["annotations"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 70, "image_id": 7, "caption": "a dog"}));
    fs::write(place.path("references.json"), both.to_string()).unwrap();
    let whole = lines(0..IMAGES);
    let output = evaluate(&place, "a.jsonl", &whole, &[]);
    fails_with(
        &output,
        &[
            "line 1",
            "val/img_000.png or train/img_000.png",
            "id instead",
        ],
    );
    let told = whole.replace("photos/", "photos/val/");
    all_scored(&evaluate(&place, "b.jsonl", &told, &[]), 20);
    let two = told + "{\"image\": \"more/val/img_001.png\", \"caption\": \"a dog\"}\n";
    let output = evaluate(&place, "c.jsonl", &two, &[]);
    fails_with(&output, &["line 2 and line 21 are both of image 101"]);
}

#[test]
fn the_same_annotation_twice_is_one_and_the_same_words_of_two_people_are_two() {
    let place = place();
    let score = |annotations: Value| {
        let mut file = references();
        file["annotations"]
            .as_array_mut()
            .unwrap()
            .extend(annotations.as_array().unwrap().clone());
        fs::write(place.path("references.json"), file.to_string()).unwrap();
        let said = lines(0..IMAGES).replace(&caption(0), "a dog runs over the beach");
        let output = evaluate(&place, "a.jsonl", &said, &[]);
        let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
        found["per_image"]["100"]["CIDEr"].as_f64().unwrap()
    };
    let other = json!({"id": 500, "image_id": 100, "caption": "a dog runs over the beach"});
    let again = json!({"id": 501, "image_id": "100", "caption": "a dog runs over the beach"});
    let once = score(json!([other]));
    assert_eq!(score(json!([other, other])), once);
    assert!(score(json!([other, again])) > once);
}
