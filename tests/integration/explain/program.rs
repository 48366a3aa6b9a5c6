//! `clipcap explain` as it is run, and its page in a browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clipcap::datasets::scenes;
use serde_json::Value;

#[cfg(unix)]
use crate::common::browser::{Browser, View};
use crate::common::place::{stderr, stdout};

fn scene(folder: &Path, index: u64) -> PathBuf {
    let path = folder.join(format!("scene {index}.png"));
    scenes::draw(&scenes::scene(77, index)).save(&path).unwrap();
    path
}

fn explain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clipcap"))
        .args(["explain", "--device", "cpu", "--model", "model/sample"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn the_program_writes_tables_lines_overlays_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let image = scene(folder.path(), 4);
    let image = image.to_str().unwrap();
    let [page, maps, lines] =
        ["page.html", "maps", "lines.jsonl"].map(|name| folder.path().join(name));
    let table = succeeded(explain(&[
        image,
        "--neighbors",
        "2",
        "--report",
        page.to_str().unwrap(),
    ]));
    assert!(table.starts_with(image), "{table}");
    assert_eq!(table.matches("\n  prefix ").count(), 40);
    assert!(
        table.contains("  method: attention\n") && table.contains(" of 8, col. "),
        "{table}"
    );
    let written = fs::read_to_string(&page).unwrap();
    assert!(written.contains("Captions of sample<"), "no path");
    let lost = succeeded(explain(&[
        image,
        "--method",
        "occlusion",
        "--alternatives",
        "2",
        "--neighbors",
        "0",
    ]));
    assert!(
        !lost.contains("prefix") && lost.contains(" loss "),
        "{lost}"
    );
    for row in lost.lines().skip(3) {
        let (_, likeliest) = row.rsplit_once("col. ").unwrap();
        assert_eq!(likeliest.matches('%').count(), 2, "{row}");
    }
    let output = explain(&[
        image,
        "--format",
        "jsonl",
        "--output",
        lines.to_str().unwrap(),
        "--overlays",
        maps.to_str().unwrap(),
        "no such.png",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let lines = fs::read_to_string(lines).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1]["error"].as_str().unwrap().contains("no such.png"));
    let tokens = lines[0]["tokens"].as_array().unwrap();
    let text: String = tokens
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert_eq!(lines[0]["caption"], text);
    let mut names: Vec<String> = (fs::read_dir(&maps).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), tokens.len() + 1, "{names:?}");
    assert!(
        names.contains(&"scene_4.png".to_string())
            && names.iter().any(|name| name.starts_with("scene_4-01-")),
        "{names:?}"
    );
    let drawn = image::open(maps.join("scene_4.png")).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (384, 384));
    // The page is looked at below; here it holds the caption.
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains(&format!("\"caption\":\"{text}\""))
    );

    // Another caption than the model's own.
    let own = succeeded(explain(&[
        image,
        "--caption",
        "Three brown hearts.",
        "--format",
        "json",
    ]));
    let own: Value = serde_json::from_str(&own).unwrap();
    assert_eq!(own["caption"], "Three brown hearts.");
    assert!(own["log_prob"].as_f64().unwrap() < lines[0]["log_prob"].as_f64().unwrap() - 3.0);
    let refused = explain(&[image, "--caption", ""]);
    assert!(
        stderr(&refused).contains("the caption is empty"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn relevant_parts_matter_more_than_others_on_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    scenes::ensure(folder.path(), 5, 60).unwrap();
    let [data, images] = ["captions.json", "images"].map(|name| folder.path().join(name));
    let found = succeeded(explain(&[
        "--check",
        "--data",
        data.to_str().unwrap(),
        "--images",
        images.to_str().unwrap(),
        "--split",
        "all",
        "--count",
        "20",
        "--format",
        "jsonl",
    ]));
    let found: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let methods: Vec<&Value> = found.iter().map(|found| &found["method"]).collect();
    assert_eq!(methods, ["attention", "occlusion"]);
    for found in &found {
        assert_eq!(found["images"], 20);
        assert!(found["content"]["ratio"].as_f64().unwrap() > 2.0, "{found}");
        assert!(found["content"]["relevant"].as_f64() > found["content"]["others"].as_f64());
    }
    let refused = explain(&["--check", "--covered", "100"]);
    assert!(
        stderr(&refused).contains("less than 100"),
        "{}",
        stderr(&refused)
    );
}

#[cfg(unix)]
#[test]
fn words_of_the_page_are_pointed_at_by_mouse_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let images = [scene(folder.path(), 5), scene(folder.path(), 6)];
    let page = folder.path().join("page.html");
    let [first, second] = images.each_ref().map(|image| image.to_str().unwrap());
    succeeded(explain(&[
        first,
        second,
        "--report",
        page.to_str().unwrap(),
    ]));
    let view = View {
        width: 700,
        height: 900,
        dark: false,
    };
    let url = format!("file://{}", page.display());
    let Some(mut page) = Browser::open(&url, view) else {
        println!("no Chromium here: the page is not looked at");
        return;
    };
    page.until("document.querySelectorAll('.explained').length === 2");
    let told = "document.querySelector('.told').textContent";
    let before = page.text(told);
    let pixels = "(() => { const c = document.querySelector('canvas'); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join(); })()";
    page.until("document.querySelector('canvas').getContext('2d').getImageData(5, 5, 1, 1).data[3] === 255");
    let plain = page.text(pixels);
    page.hover(".tokens button:nth-of-type(3)");
    page.until(&format!("{told}.includes('with a probability')"));
    assert_ne!(page.text(pixels), plain, "a heat map is drawn");
    page.hover("h1");
    page.until(&format!("!{told}.includes('with a probability')"));
    assert_eq!(
        (page.text(told), page.text(pixels)),
        (before.clone(), plain.clone())
    );
    page.click(".tokens button:nth-of-type(2)");
    page.hover("h1");
    let pressed =
        "document.querySelector('.tokens button:nth-of-type(2)').getAttribute('aria-pressed')";
    assert_eq!(page.text(pressed), "true");
    let pinned = page.text(told);
    assert!(
        pinned.contains("with a probability") && pinned.contains("of its relevance is"),
        "{pinned}"
    );
    page.hover(".tokens button:nth-of-type(4)");
    page.until(&format!("!{told}.includes({pinned:?})"));
    page.hover("h1");
    page.until(&format!("{told}.includes({pinned:?})"));
    // The image without the map, by key and back by the box.
    page.key("h", 72);
    assert_eq!(page.text(pixels), plain, "no heat map is drawn");
    page.click(".heat input");
    assert_ne!(page.text(pixels), plain);
    // A second click lets go, and so does Escape.
    let let_go = |page: &mut Browser| {
        page.hover("h1");
        page.until(&format!("{told}.includes({before:?})"));
        assert_eq!(page.text(pressed), "false");
    };
    page.click(".tokens button:nth-of-type(2)");
    let_go(&mut page);
    page.click(".tokens button:nth-of-type(2)");
    assert_eq!(page.text(pressed), "true");
    page.key("Escape", 27);
    let_go(&mut page);
    page.evaluate("document.querySelector('.tokens button').focus()");
    page.key("ArrowRight", 39);
    page.key("ArrowRight", 39);
    let focused = page.text("document.activeElement.textContent");
    assert!(
        page.text(told).starts_with(&format!("“{focused}”")),
        "{focused}"
    );
    assert!(page.fits());
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}
