//! Rows of data sets that are odd, broken, or there twice: what can be read is read, the rest is named.

use std::fs;
use std::path::PathBuf;

use clipcap::data::coco::ImageId;
use clipcap::data::source::{self, CaptionData};
use serde_json::{Value, json};

/// Rows in each set.
const ROWS: usize = 20;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, name: &str, bytes: impl AsRef<[u8]>) -> anyhow::Result<CaptionData> {
        fs::write(self.path(name), bytes).unwrap();
        source::load(&self.path(name), &[])
    }

    fn read(&self, name: &str, bytes: impl AsRef<[u8]>) -> CaptionData {
        self.load(name, bytes)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The error of a set that is refused: one line that names the file.
    fn error(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let error = format!("{:#}", self.load(name, bytes).unwrap_err());
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
        error
    }
}

fn name(i: usize) -> String {
    format!("{i:03}.png")
}

fn caption(i: usize) -> String {
    format!("Caption {i}, é.")
}

/// The same set in every form that has a row an image: name of the file, and text.
fn forms() -> Vec<(&'static str, String)> {
    let rows = |row: &dyn Fn(usize) -> String| -> Vec<String> { (0..ROWS).map(row).collect() };
    let json = rows(&|i| json!({"image": name(i), "caption": caption(i)}).to_string());
    let table = |delimiter: &str, quote: &str| {
        let row = |i| format!("{}{delimiter}{quote}{}{quote}", name(i), caption(i));
        format!("image{delimiter}caption\n{}\n", rows(&row).join("\n"))
    };
    let listed = rows(&|i| json!({"id": i, "file_name": name(i), "x": null}).to_string());
    let said = rows(&|i| json!({"id": 900 + i, "image_id": i, "caption": caption(i)}).to_string());
    let karpathy = rows(&|i| {
        json!({"filename": name(i), "imgid": i, "sentences": [{"raw": caption(i), "tokens": ["a"]}]})
            .to_string()
    });
    vec![
        ("rows.json", format!("[{}]", json.join(",\n"))),
        ("rows.jsonl", json.join("\n")),
        ("lines.json", json.join("\n")),
        ("comma.csv", table(",", "\"")),
        ("bare.csv", table(",", "")),
        ("semicolon.csv", table(";", "")),
        ("table.tsv", table("\t", "")),
        ("table.txt", table("|", "")),
        (
            "tokens.txt",
            rows(&|i| format!("{}#0\t{}", name(i), caption(i))).join("\n"),
        ),
        (
            "coco.json",
            format!(
                "{{\"annotations\": [{}], \"images\": [{}]}}",
                said.join(",\n"),
                listed.join(",\n")
            ),
        ),
        (
            "karpathy.json",
            format!("{{\"images\": [{}]}}", karpathy.join(",\n")),
        ),
    ]
}

fn expect(data: &CaptionData, missing: &[usize], form: &str) {
    let expected: Vec<_> = (0..ROWS)
        .filter(|i| !missing.contains(i))
        .map(|i| (name(i), vec![caption(i)]))
        .collect();
    let found: Vec<_> = data
        .images
        .iter()
        .map(|image| (image.file_name.clone(), image.captions.clone()))
        .collect();
    assert_eq!(found, expected, "{form}");
    assert_eq!(
        data.left_out.count,
        missing.len(),
        "{form}: {:?}",
        data.left_out
    );
}

#[test]
fn every_form_is_read_in_every_encoding_and_with_every_line_end() {
    let place = Place::new();
    for (form, text) in forms() {
        let crlf = text.replace('\n', "\r\n");
        expect(&place.read(form, &text), &[], form);
        expect(&place.read(form, format!("\u{feff}{crlf}")), &[], form);
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let units = std::iter::once(0xfeff).chain(crlf.encode_utf16());
            let bytes: Vec<u8> = units.flat_map(to_bytes).collect();
            expect(&place.read(form, bytes), &[], form);
        }
    }
}

#[test]
fn a_caption_that_is_none_is_named_in_every_form_and_more_than_a_tenth_is_an_error() {
    let place = Place::new();
    let quoted = |i| format!("\"{}\"", caption(i));
    for (form, text) in forms() {
        let is_json = form.contains("json");
        let spoil = |text: &str, i: usize, by: &str| match is_json {
            true => text.replace(&quoted(i), by),
            false => text.replace(&quoted(i), "").replace(&caption(i), ""),
        };
        let two = spoil(&spoil(&text, 4, "NaN"), 9, "null");
        let data = place.read(form, &two);
        expect(&data, &[4, 9], form);
        for line in &data.left_out.named {
            assert!(line.contains(form), "{form}: {line}");
        }
        let error = place.error(form, spoil(&two, 11, "7"));
        for part in ["3 of 20 entries", "more than 10%", "correct them"] {
            assert!(error.contains(part), "{form}: no `{part}` in {error}");
        }
    }
}

#[test]
fn fields_that_are_not_used_may_hold_anything() {
    let place = Place::new();
    let json = r#"{"info": NaN, "images": [{"id": 1, "file_name": "a.png", "width": -Infinity, "main": "x", "license": {"a": [NaN]}}],
        "annotations": [{"id": null, "image_id": 1, "caption": "A dog, NaN.", "score": NaN, "image": 3}], "annotations2": [null]}"#;
    let data = place.read("coco.json", json);
    assert_eq!(data.images[0].captions, ["A dog, NaN."]);
    let rows = r#"[{"image": "a.png", "path": "b.png", "file_name": null, "text": null, "caption": "A dog.", "tags": NaN}]"#;
    assert_eq!(place.read("rows.json", rows).images[0].file_name, "a.png");
    let csv = "id,image,score,caption\nNaN,a.png,,A dog.\n,b.png,null,Two.\n";
    assert_eq!(place.read("rows.csv", csv).images.len(), 2);
}

#[test]
fn a_number_a_text_and_a_float_are_one_id() {
    let place = Place::new();
    let json = r#"{"images": [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "b.png"}, {"id": 3.0, "file_name": "c.png"}],
        "annotations": [{"image_id": "1", "caption": "One."}, {"image_id": 1.0, "caption": "Uno."}, {"image_id": 2, "caption": "Two."}, {"image_id": "3.0", "caption": "Three."}]}"#;
    let data = place.read("coco.json", json);
    assert_eq!(data.images[0].captions, ["One.", "Uno."]);
    let ids: Vec<_> = data.images.iter().map(|image| image.id.clone()).collect();
    assert_eq!(ids, [1, 2, 3].map(ImageId::Number));
    let rows = "image_id,caption\n7,One.\n7.0,Uno.\n";
    assert_eq!(place.read("ids.csv", rows).images.len(), 1);
}

#[test]
fn what_is_there_twice_counts_once_and_what_contradicts_itself_is_refused() {
    let place = Place::new();
    let coco = |images: Value| {
        let said = json!({"id": 1, "image_id": 4, "caption": "A dog."});
        let other = json!({"id": 2, "image_id": "4", "caption": " A  dog. "});
        json!({"images": images, "annotations": [said, said, other]}).to_string()
    };
    let image = json!({"id": 4, "file_name": "a.png"});
    let data = place.read("twice.json", coco(json!([image, image])));
    assert_eq!(data.images.len(), 1);
    assert_eq!(data.images[0].captions, ["A dog."]);
    let error = place.error(
        "two.json",
        coco(json!([image, {"id": "4", "file_name": "b.png"}])),
    );
    for part in [
        "image 2 of the list",
        "id 4 is listed twice",
        "a.png",
        "b.png",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    // One file under two ids would else come into two parts.
    let both = json!({"images": [image, {"id": 5, "file_name": "./a.png"}],
        "annotations": [{"image_id": 4, "caption": "One."}, {"image_id": 5, "caption": "Two."}]});
    let data = place.read("ids.json", both.to_string());
    assert_eq!(data.images.len(), 1);
    assert_eq!(data.images[0].captions, ["One.", "Two."]);

    let csv = "image,caption,split\na.png,One.,train\n./a.png,Two.,\nb/c.png,Three.,val\nb\\c.png,Three.,val\n";
    let data = place.read("rows.csv", csv);
    assert_eq!(data.images[0].captions, ["One.", "Two."]);
    assert_eq!(data.images[1].captions, ["Three."]);
    let error = place.error("parts.csv", csv.replace("Two.,", "Two.,test"));
    assert!(
        error.contains("a.png is in two parts") && error.contains("row 3"),
        "{error}"
    );
}

#[test]
fn a_stray_quote_costs_no_other_row() {
    let place = Place::new();
    for (form, text) in forms().into_iter().filter(|(form, _)| *form == "bare.csv") {
        let text = text.replace(&caption(5), &format!("\"{}", caption(5)));
        let data = place.read(form, text);
        expect(&data, &[5], form);
        assert!(data.left_out.named[0].contains("row 7: opens a quote that is not closed"));
    }
    let mysql = "image,caption\na.png,\"A sign \\\"stop\\\", red.\"\n";
    let data = place.read("mysql.csv", mysql);
    assert_eq!(data.images[0].captions, ["A sign \"stop\", red."]);
}

#[test]
fn rows_that_are_no_text_are_named_and_a_file_of_them_is_refused_with_the_fix() {
    let place = Place::new();
    for (form, text) in forms() {
        let one = text.replace(&caption(3), "Caption 3 caf\u{1}");
        let one: Vec<u8> = (one.bytes())
            .map(|byte| if byte == 1 { 0xe9 } else { byte })
            .collect();
        // A document is one text, of rows each stands for itself.
        let is_document = form.ends_with(".json") && form != "lines.json";
        if is_document {
            let error = place.error(form, one);
            assert!(
                error.contains("line ") && error.contains("Windows-1252"),
                "{error}"
            );
        } else {
            let data = place.read(form, one);
            expect(&data, &[3], form);
            assert!(
                data.left_out.named[0].contains("0xE9"),
                "{:?}",
                data.left_out
            );
        }
        let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let error = place.error(form, latin);
        assert!(
            error.contains("Windows-1252") && error.contains("iconv"),
            "{error}"
        );
    }
    let error = place.error("zeros.csv", "i\0m\0a\0g\0e\0");
    assert!(error.contains("is not text"), "{error}");
}

#[test]
fn images_on_the_web_are_not_taken_for_files() {
    let place = Place::new();
    let error = place.error("urls.csv", "url,caption\nhttp://a/b.png,A dog.\n");
    assert!(
        error.contains("on the web") && error.contains("img2dataset"),
        "{error}"
    );
    let error = place.error(
        "urls.json",
        r#"[{"image": "https://a/b.png", "caption": "A dog."}]"#,
    );
    assert!(
        error.contains("entry 1: has its image on the web (https://a/b.png)"),
        "{error}"
    );
}

#[test]
fn json_is_known_by_its_content_and_what_is_no_data_set_is_said() {
    let place = Place::new();
    let rows = r#"[{"image": "a.png", "caption": "A dog."}]"#;
    assert_eq!(place.read("rows.jsonl", rows).images.len(), 1);
    assert_eq!(place.read("rows.txt", rows).images.len(), 1);
    assert_eq!(
        place
            .read("captions.txt", "[a dog]\n{a cat}\n")
            .images
            .len(),
        2
    );
    let error = place.error("lists.json", "[[1], \"a\", null]");
    assert!(
        error.contains("entry 2: is \"a\" and not an object"),
        "{error}"
    );
    let error = place.error("object.json", r#"{"a.png": "A dog."}"#);
    assert!(error.contains("it has no list `images`"), "{error}");
    let deep = "[".repeat(100_000);
    place.error("deep.json", deep);
}
