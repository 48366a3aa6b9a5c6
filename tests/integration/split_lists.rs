//! Flickr8k's official split: a token file with three lists of names, beside the same parts in other forms.

use std::fs;
use std::path::{Path, PathBuf};

use clipcap::data::source::CaptionedImage;
use clipcap::data::split::{Part, Split};
use clipcap::data::split_lists;
use serde_json::{Value, json};

use crate::common::place::{Place, fails_with, stderr};

/// Images of the stand-in that are in a list.
const LISTED: usize = 10;

/// Ten scenes in three lists, two in none, and a name with a stray ending that has no image, as in Flickr8k.
fn write_flickr(place: &Place) {
    place.write_data();
    let text = fs::read_to_string(place.path("data/captions.json")).unwrap();
    let coco: Value = serde_json::from_str(&text).unwrap();
    let captions = |id: &Value| -> Vec<String> {
        let all = coco["annotations"].as_array().unwrap().iter();
        let own = all.filter(|annotation| annotation["image_id"] == *id);
        own.map(|annotation| annotation["caption"].as_str().unwrap().to_string())
            .collect()
    };
    let mut tokens = String::new();
    let mut table = String::from("image,caption,split\n");
    let mut lists = [String::new(), String::new(), String::new()];
    let mut karpathy = Vec::new();
    for (number, image) in coco["images"].as_array().unwrap().iter().enumerate() {
        let name = image["file_name"].as_str().unwrap();
        let captions = captions(&image["id"]);
        for (i, caption) in captions.iter().enumerate() {
            tokens.push_str(&format!("{name}#{i}\t{caption}\n"));
        }
        if number >= LISTED {
            continue;
        }
        let part = [0, 0, 0, 1, 2][number % 5];
        lists[part].push_str(&format!("{name}\r\n"));
        let split = ["train", "val", "test"][part];
        for caption in &captions {
            table.push_str(&format!("{name},\"{caption}\",{split}\n"));
        }
        let sentences: Vec<Value> = captions.iter().map(|raw| json!({"raw": raw})).collect();
        karpathy.push(
            json!({"filename": name, "split": split, "imgid": number, "sentences": sentences}),
        );
    }
    tokens.push_str("2258277193_586949ec62.jpg.1#0\tThree people on a ridge .\n");
    fs::create_dir(place.path("flickr")).unwrap();
    let write = |name: &str, text: &str| fs::write(place.path("flickr").join(name), text).unwrap();
    write("Flickr8k.token.txt", &tokens);
    write("captions.csv", &table);
    write(
        "dataset_flickr8k.json",
        &json!({"images": karpathy}).to_string(),
    );
    for (name, list) in ["train", "dev", "test"].iter().zip(&lists) {
        write(&format!("Flickr_8k.{name}Images.txt"), list);
    }
}

const LISTS: &str = "flickr/Flickr_8k.trainImages.txt,flickr/Flickr_8k.devImages.txt,flickr/Flickr_8k.testImages.txt";

/// Names and captions of each part.
fn parts(images: &[CaptionedImage], split: &Split) -> Vec<(Part, String, Vec<String>)> {
    let splits = split.split(images, 1).unwrap();
    let of = |part: Part, places: Vec<usize>| {
        places.into_iter().map(move |place| {
            let image = &images[place];
            (part, image.file_name.clone(), image.captions.clone())
        })
    };
    of(Part::Train, splits.train)
        .chain(of(Part::Val, splits.val))
        .chain(of(Part::Test, splits.test))
        .collect()
}

#[test]
fn token_file_with_lists_karpathys_json_and_a_table_have_the_same_parts() {
    let place = Place::new();
    write_flickr(&place);
    let folders: Vec<PathBuf> = vec![place.path("data/images")];
    let load = |name: &str, split: &Split| {
        let data = place.path("flickr").join(name);
        let said = std::cell::RefCell::new(Vec::new());
        let report = |line: &str| said.borrow_mut().push(line.to_string());
        let found = split_lists::load(&data, &folders, split, &report).unwrap();
        (parts(&found.images, split), said.into_inner())
    };
    let path = |name: &str| place.path(name).display().to_string();
    let lists: Vec<String> = LISTS.split(',').map(path).collect();
    let lists: Split = lists.join(",").parse().unwrap();
    let (listed, said) = load("Flickr8k.token.txt", &lists);
    let counts = [Part::Train, Part::Val, Part::Test]
        .map(|part| listed.iter().filter(|(of, ..)| *of == part).count());
    assert_eq!(counts, [6, 2, 2]);
    for name in ["dataset_flickr8k.json", "captions.csv"] {
        assert_eq!(load(name, &Split::InFile).0, listed, "{name}");
    }
    let left_out: Vec<&String> = said
        .iter()
        .filter(|line| line.contains("left out"))
        .collect();
    assert_eq!(left_out.len(), 2, "{said:?}");
    assert!(
        left_out[0].contains("and not in the folder: 2258277193_586949ec62.jpg.1"),
        "{said:?}"
    );
    assert!(
        left_out[1].contains("2 images are in none of the lists, such as 000010.png"),
        "{said:?}"
    );
}

#[test]
fn a_run_trains_and_is_evaluated_by_lists() {
    let place = Place::new();
    write_flickr(&place);
    let train = |run: &str, lists: &str| {
        let args = format!(
            "train --model model/tiny --data flickr/Flickr8k.token.txt --images data/images --shares {lists} --prefix-length 4 --clip-length 3 --layers 1 --batch-size 4 --epochs 1 --device cpu --ui plain --run {run}"
        );
        place.line(&args).output().unwrap()
    };
    let output = train("listed", LISTS);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("6 to train on, 2 for validation, 2 to test on (as the lists say)"),
        "{said}"
    );
    assert!(
        said.contains("left out: flickr/Flickr8k.token.txt: 1 image is in none"),
        "{said}"
    );
    let text = fs::read_to_string(place.path("artifacts/listed/config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["split"], LISTS);
    let names = |path: &Path| -> usize {
        let text = fs::read_to_string(path).unwrap();
        let said: Value = serde_json::from_str(&text).unwrap();
        said.as_array().unwrap().len()
    };
    assert_eq!(
        names(&place.path("artifacts/listed/predictions-test.json")),
        2
    );
    let output = place
        .line(&format!(
            "evaluate --baselines --data flickr/Flickr8k.token.txt --images data/images --shares {LISTS} --split val --output out --device cpu"
        ))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(names(&place.path("out/predictions-val-random.json")), 2);

    fs::write(place.path("both.txt"), "000000.png\n000004.png\n").unwrap();
    let both = "both.txt,flickr/Flickr_8k.devImages.txt,flickr/Flickr_8k.testImages.txt";
    fails_with(
        &train("both", both),
        &[
            "Flickr_8k.testImages.txt: line 1: 000004.png",
            "both.txt: line 2",
        ],
    );
    fails_with(&train("none", "no.txt,no.txt,no.txt"), &["no.txt"]);
    assert_eq!(train("two", "a.txt,b.txt").status.code(), Some(2));
}
