//! Data sets in the formats that people have them in: the same images and captions come out of each.

use std::fs;
use std::path::{Path, PathBuf};

use clipcap::data::source::{self, CaptionData, Format, LeftOut};
use clipcap::data::split::{Part, Split};

/// Two images and what is said of them, whatever the format.
const CAPTIONS: [(&str, [&str; 2]); 2] = [
    ("a.png", ["A dog, running.", "One \"dog\"."]),
    ("b.png", ["A café.", "Two cups."]),
];

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with both images.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (i, (name, _)) in CAPTIONS.iter().enumerate() {
            let side = 4 + i as u32;
            image::RgbImage::new(side, side)
                .save(place.path(name))
                .unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, name: &str, text: &str) -> anyhow::Result<CaptionData> {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        source::load(&path, &[])
    }

    fn error(&self, name: &str, text: &str) -> String {
        let error = format!("{:#}", self.load(name, text).unwrap_err());
        assert!(error.contains(name), "{error}");
        error
    }
}

fn expect(data: &CaptionData, format: Format) {
    assert_eq!(data.format, format);
    let found: Vec<&[String]> = data
        .images
        .iter()
        .map(|image| &image.captions[..])
        .collect();
    assert_eq!(found, CAPTIONS.map(|(_, captions)| captions));
    for (i, image) in data.images.iter().enumerate() {
        let opened = image.source.as_ref().unwrap().open().unwrap();
        assert_eq!(opened.width(), 4 + i as u32, "{}", image.file_name);
    }
}

#[test]
fn coco_annotations_are_read() {
    let place = Place::new();
    let data = place
        .load(
            "captions.json",
            r#"{"info": {}, "images": [{"id": 9, "file_name": "a.png"}, {"id": "x", "file_name": "b.png"}],
                "annotations": [{"id": 1, "image_id": "x", "caption": " A café.\n"}, {"id": 2, "image_id": 9, "caption": "A dog, running."},
                    {"id": 3, "image_id": 9, "caption": "One \"dog\"."}, {"id": 5, "image_id": "x", "caption": "Two  cups."}]}"#,
        )
        .unwrap();
    expect(&data, Format::Coco);
    assert_eq!(data.left_out, LeftOut::default());
}

#[test]
fn karpathys_splits_are_read_with_their_parts() {
    let place = Place::new();
    fs::create_dir(place.path("val2014")).unwrap();
    fs::rename(place.path("b.png"), place.path("val2014/b.png")).unwrap();
    let data = place
        .load(
            "dataset_coco.json",
            r#"{"dataset": "coco", "images": [
                {"filename": "a.png", "imgid": 0, "split": "test", "sentids": [1], "sentences": [{"tokens": ["a"], "raw": "A dog, running."}, {"raw": "One \"dog\"."}]},
                {"filename": "b.png", "filepath": "val2014", "cocoid": 42, "imgid": 1, "split": "restval", "sentences": [{"raw": "A café."}, {"raw": "Two cups."}]}]}"#,
        )
        .unwrap();
    expect(&data, Format::Karpathy);
    assert_eq!(data.images[0].part, Some(Part::Test));
    assert_eq!(
        data.images[1].part,
        Some(Part::Train),
        "restval is trained on"
    );
    let splits = Split::Auto.split(&data.images, 1).unwrap();
    assert_eq!(
        (splits.train, splits.val, splits.test),
        (vec![1], vec![], vec![0])
    );
}

#[test]
fn rows_of_json_are_read_clipcaps_among_them() {
    let place = Place::new();
    let rows = r#"[{"image": "a.png", "caption": "A dog, running."}, {"file_name": "b.png", "captions": ["A café.", "Two cups."]}, {"image": "a.png", "text": "One \"dog\"."}]"#;
    expect(&place.load("rows.json", rows).unwrap(), Format::JsonRows);
    let lines = rows[1..rows.len() - 1].replace("}, {", "}\n\n{");
    expect(&place.load("rows.jsonl", &lines).unwrap(), Format::JsonRows);

    fs::create_dir(place.path("val2014")).unwrap();
    fs::rename(
        place.path("a.png"),
        place.path("COCO_train2014_000000000007.jpg"),
    )
    .unwrap();
    fs::rename(
        place.path("b.png"),
        place.path("val2014/COCO_val2014_000000000123.jpg"),
    )
    .unwrap();
    let rows = r#"[{"image_id": "7", "id": 1, "caption": "A dog, running."}, {"image_id": "7", "id": 2, "caption": "One \"dog\"."},
        {"image_id": 123, "id": 3, "caption": "A café."}, {"image_id": 123, "id": 4, "caption": "Two cups."}]"#;
    expect(
        &place.load("train_caption.json", rows).unwrap(),
        Format::JsonRows,
    );
}

#[test]
fn tables_are_read_with_commas_tabs_and_bars() {
    let place = Place::new();
    let csv = "split,image,caption\ntrain,a.png,\"A dog, running.\"\ntrain,a.png,\"One \"\"dog\"\".\"\nval,b.png,A café.\nval,b.png,Two cups.\n";
    let data = place.load("captions.csv", csv).unwrap();
    expect(&data, Format::Table);
    assert_eq!(data.images[1].part, Some(Part::Val));

    let tsv = "filename\tcaption\na.png\tA dog, running.\na.png\tOne \"dog\".\nb.png\tA café.\nb.png\tTwo cups.\n";
    expect(&place.load("captions.tsv", tsv).unwrap(), Format::Table);

    let bars = "image_name| comment_number| comment\na.png| 0| A dog, running.\na.png| 1| One \"dog\".\nb.png| 0| A café.\nb.png| 1| Two cups.\n";
    expect(&place.load("results.csv", bars).unwrap(), Format::Table);

    let lists = "raw,split,filename\n\"[\"\"A dog, running.\"\", \"\"One \\\"\"dog\\\"\".\"\"]\",train,a.png\n\"[\"\"A café.\"\", \"\"Two cups.\"\"]\",test,b.png\n";
    expect(
        &place.load("annotations.csv", lists).unwrap(),
        Format::Table,
    );
}

#[test]
fn flickrs_token_files_are_read() {
    let text =
        "a.png#0\tA dog, running.\na.png#1\tOne \"dog\".\nb.png#0\tA café.\nb.png#1\tTwo cups.\n";
    let place = Place::new();
    let data = place.load("Flickr8k.token.txt", text).unwrap();
    expect(&data, Format::FlickrTokens);
}

#[test]
fn captions_alone_are_read() {
    let place = Place::new();
    let data = place
        .load("captions.txt", "A dog.\n\n  Two   cups. \n")
        .unwrap();
    assert_eq!(data.format, Format::Captions);
    assert_eq!(data.images[1].captions, ["Two cups."]);
    assert!(data.images.iter().all(|image| image.source.is_none()));
}

#[test]
fn what_cannot_be_read_is_refused_with_file_and_place() {
    let place = Place::new();
    for (name, text, parts) in [
        ("a.json", "{\"images\": [],\n oops", vec!["line 2"]),
        (
            "b.json",
            r#"{"images": [], "annotations": []}"#,
            vec!["none of its 0 images"],
        ),
        (
            "c.json",
            r#"{"images": [{"id": 4, "file_name": "a"}, {"id": 4, "file_name": "b"}], "annotations": []}"#,
            vec!["image id 4 is listed twice"],
        ),
        (
            "d.json",
            r#"{"images": [{"id": 4}]}"#,
            vec!["image 1 of the list", "sentences"],
        ),
        (
            "e.jsonl",
            "{\"image\": \"a.png\", \"caption\": \"x\"}\n{\"image\": 3}\n",
            vec!["line 2"],
        ),
        (
            "f.csv",
            "name,text of it\n",
            vec!["header such as `image,caption`"],
        ),
        (
            "g.csv",
            "image,caption,split\na.png,x,train\na.png,y,test\n",
            vec!["a.png is in two parts", "row 3"],
        ),
        (
            "h.csv",
            "image,caption,split\na.png,x,nowhere\n",
            vec!["`nowhere` is not a part", "row 2"],
        ),
        ("i.tar", "not a tar", vec!["shard"]),
        ("j.txt", "", vec!["has a caption"]),
    ] {
        let error = place.error(name, text);
        for part in parts {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    }
    let missing = format!(
        "{:#}",
        source::load(Path::new("nowhere.json"), &[]).unwrap_err()
    );
    assert!(missing.contains("nowhere.json"), "{missing}");
}

#[test]
fn files_are_looked_for_in_every_folder() {
    let place = Place::new();
    let (one, two) = (place.path("one"), place.path("two"));
    for folder in [&one, &two] {
        fs::create_dir(folder).unwrap();
    }
    fs::rename(place.path("a.png"), one.join("a.png")).unwrap();
    fs::rename(place.path("b.png"), two.join("b.png")).unwrap();
    let text = "image,caption\na.png,\"A dog, running.\"\na.png,\"One \"\"dog\"\".\"\nb.png,A café.\nb.png,Two cups.\n";
    fs::write(place.path("captions.csv"), text).unwrap();
    let data = source::load(&place.path("captions.csv"), &[one, two]).unwrap();
    expect(&data, Format::Table);
}
