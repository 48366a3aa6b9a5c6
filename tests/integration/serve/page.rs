//! The page in a browser: everything that can be done on it.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use clipcap::captioner::{Captioner, Rerank, Search};
use clipcap::datasets::scenes;
use clipcap::decode::Strategy;
use clipcap::serve::{Limits, Model, Searches};

use super::help::*;
use crate::common::browser::{Browser, View};

fn model() -> Model {
    let builder = Captioner::builder().device(&Device::flex());
    let captioner = builder.load("model/sample").unwrap();
    let own = Search {
        decode: captioner.decoder.decode_config(Strategy::Greedy),
        num_captions: 1,
        rerank: Rerank::Score,
    };
    Model::new(captioner, own, Searches::default(), Limits::default())
}

fn view(width: u32, dark: bool) -> View {
    View {
        width,
        height: 900,
        dark,
    }
}

fn read_when_there(path: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(Instant::now() < end, "{} never came", path.display()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn images_are_captioned_explained_kept_and_saved() {
    let running = start(model(), config());
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|index| {
        let path = folder.path().join(format!("scene,{index}.png"));
        scenes::draw(&scenes::scene(77, index)).save(&path).unwrap();
        path
    });
    let url = format!("http://{}/", running.address);
    let Some(mut page) = Browser::open(&url, view(1000, false)) else {
        println!("no Chromium here: the page is not looked at");
        return;
    };
    assert_eq!(page.evaluate("tools.hidden"), true);

    // The settings begin with the service's own, which is greedy.
    assert_eq!(page.evaluate("count.disabled"), true);
    page.evaluate("decode.value = 'beam'; decode.onchange()");
    let beam = page.evaluate("[count.disabled, count.placeholder, count.max]");
    assert_eq!(beam, serde_json::json!([false, "1", "5"]));

    // Several captions, with scores, by the settings on the page.
    page.evaluate("decode.value = 'beam'; count.value = 3");
    page.choose("#drop input", &[&first]);
    page.until("document.querySelectorAll('.said button').length === 3");
    let captions = "[...document.querySelectorAll('.said button')].map((b) => b.textContent)";
    let captions = page.evaluate(captions);
    let answer = ask(
        running.address,
        "POST",
        "/caption?decode=beam&num_captions=3",
        &[],
        &encoded(&scenes::draw(&scenes::scene(77, 1))),
    );
    for (place, found) in answer.json()["captions"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(captions[place], found["caption"]);
    }
    let score = page.text("document.querySelector('.said span').textContent");
    assert!(
        score.parse::<f64>().is_ok_and(|score| score < 0.0),
        "{score}"
    );

    // A click explains a caption, another one closes it.
    page.click(".said li:nth-child(2) button");
    page.until("document.querySelector('.explained canvas')");
    let tokens = page.text(
        "[...document.querySelectorAll('.tokens button')].map((b) => b.textContent).join('')",
    );
    let second_caption = captions[1].as_str().unwrap();
    assert_eq!(tokens, second_caption.replace(' ', ""));
    page.hover(".tokens button:nth-of-type(2)");
    page.until("document.querySelector('.told').textContent.includes('with a probability')");
    page.evaluate("document.querySelector('.tokens button').focus()");
    page.key("ArrowRight", 39);
    page.key("End", 35);
    assert_eq!(page.text("document.activeElement.textContent"), ".");
    assert!(page.fits());
    page.click(".said li:nth-child(2) button");
    page.until("!document.querySelector('.explained')");

    // By keyboard too.
    page.evaluate("document.querySelector('.said button').focus()");
    page.key("Enter", 13);
    page.until("document.querySelector('.explained canvas')");

    // A second image, greedy as the service does; then both are saved.
    page.evaluate("decode.value = ''; count.value = ''");
    page.choose("#drop input", &[&second]);
    page.until("document.querySelectorAll('.said').length === 2");
    page.download_to(folder.path());
    page.click("#jsonl");
    let lines = read_when_there(&folder.path().join("captions.jsonl"));
    let lines: Vec<serde_json::Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (&lines[1]["image"], &lines[1]["rank"]),
        (&"scene,1.png".into(), &1.into())
    );
    assert_eq!(lines[3]["image"], "scene,2.png");
    page.click("#csv");
    let table = read_when_there(&folder.path().join("captions.csv"));
    assert!(
        table.starts_with("image,rank,caption,log_prob,score\n\"scene,1.png\",0,"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 5);

    // Loaded again, the tab still has them with their thumbnails, and no file to explain.
    page.go(&url);
    assert_eq!(
        page.evaluate("document.querySelectorAll('.card').length"),
        2
    );
    assert_eq!(
        page.evaluate("document.querySelectorAll('.said button').length"),
        0
    );
    let hint = page.text("byId('hint').textContent");
    assert!(hint.contains("choose its image again"), "{hint}");
    page.until("[...document.querySelectorAll('.card > img')].every((i) => i.naturalWidth > 0)");
    page.click("#clear");
    assert_eq!(
        page.evaluate("document.querySelectorAll('.card').length"),
        0
    );
    assert_eq!(page.evaluate("sessionStorage.getItem('history')"), "[]");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn a_narrow_dark_page_has_room_for_all_of_it() {
    let running = start(model(), config());
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join("a-name-that-is-much-longer-than-the-page-is-wide-and-has-no-spaces-in-it.png");
    scenes::draw(&scenes::scene(77, 3)).save(&path).unwrap();
    let url = format!("http://{}/", running.address);
    let Some(mut page) = Browser::open(&url, view(360, true)) else {
        println!("no Chromium here: the page is not looked at");
        return;
    };
    page.choose("#drop input", &[&path]);
    page.until("document.querySelector('.said button')");
    page.click(".said button");
    page.until("document.querySelector('.explained canvas')");
    page.hover(".tokens button:nth-of-type(3)");
    assert!(page.fits());
    let colors = page.text("getComputedStyle(document.body).backgroundColor");
    assert_eq!(colors, "rgb(18, 21, 27)");
    // What fails is said where the caption would stand.
    let text = folder.path().join("notes.png");
    std::fs::write(&text, "no image").unwrap();
    page.choose("#drop input", &[&text]);
    page.until("document.querySelector('.card .error')");
    let said = page.text("document.querySelector('.card .error').textContent");
    assert!(
        said.starts_with("This file is not an image") && !said.contains("curl"),
        "{said}"
    );
    assert!(page.fits());
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}

#[test]
fn an_explanation_is_of_one_image_and_of_a_caption_that_is_there() {
    let running = start(model(), config());
    let image = encoded(&scenes::draw(&scenes::scene(77, 1)));
    let asked = |target: &str| ask(running.address, "POST", target, &[], &image);
    let answer = asked("/explain?decode=beam&num_captions=2&rank=1");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = answer.json();
    let captions = asked("/caption?decode=beam&num_captions=2").json();
    assert_eq!(found["caption"], captions["captions"][1]["caption"]);
    assert_eq!(
        (&found["method"], &found["side"]),
        (&"attention".into(), &8.into())
    );
    for token in found["tokens"].as_array().unwrap() {
        let cells = token["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 64);
        let largest = cells
            .iter()
            .filter_map(|cell| cell.as_f64())
            .fold(0.0, f64::max);
        assert_eq!(largest, 1.0);
    }
    assert!(
        found["seen"]
            .as_str()
            .unwrap()
            .starts_with("data:image/jpeg;base64,")
    );
    asked("/explain?rank=1").fails(400, &["rank is 1"]);
    asked("/explain?rank=x").fails(400, &["rank is `x`"]);
    asked("/explain?color=red").fails(400, &["color"]);
    ask(running.address, "POST", "/explain", &[], b"no image").fails(400, &["the image"]);
    // A service without explanations says so.
    let plain = start(Fake::default(), config());
    let answer = ask(plain.address, "POST", "/explain", &[], &png(20));
    answer.fails(501, &["explains nothing"]);
}
