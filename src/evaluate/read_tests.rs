use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn candidates(&self, name: &str, text: &str) -> Result<Candidates> {
        Candidates::load(&self.file(name, text))
    }

    fn references(&self) -> References {
        let coco = r#"{"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9}],
            "annotations": [{"image_id": 8, "caption": "A cat."}, {"image_id": 7, "caption": "A dog."},
                            {"image_id": 7, "caption": "One dog."}]}"#;
        References::load(&self.file("references.json", coco)).unwrap()
    }
}

#[test]
fn every_form_gives_the_same_captions() {
    let place = Place::new();
    let references = place.references();
    let forms = [
        (
            "a.json",
            r#"[{"image_id": 8, "caption": "two"}, {"image_id": "7", "caption": "one"}]"#,
        ),
        (
            "a.jsonl",
            "{\"image_id\": 8, \"caption\": \"two\"}\n\n{\"image_id\": 7, \"caption\": \"one\"}\n",
        ),
        (
            "b.txt",
            "{\"image\": \"8\", \"rank\": 0, \"caption\": \"two\"}\n{\"image\": \"8\", \"rank\": 1, \"caption\": \"no\"}\n{\"id\": 7, \"caption\": \"one\"}",
        ),
        ("a.csv", "image_id,caption\n8,two\n7,one\n"),
        (
            "shard.jsonl",
            "{\"key\": \"x\", \"member\": \"in/b.jpg\", \"rank\": 0, \"caption\": \"two\", \"score\": -1.0, \"error\": null}\n{\"key\": \"7\", \"member\": \"7.png\", \"rank\": 0, \"caption\": \"one\", \"score\": -1.0, \"error\": null}\n{\"key\": \"7\", \"member\": \"7.png\", \"rank\": 1, \"caption\": \"no\", \"score\": -2.0, \"error\": null}\n",
        ),
    ];
    for (name, text) in forms {
        let joined = join(&place.candidates(name, text).unwrap(), &references, false)
            .unwrap()
            .images;
        let said: Vec<_> = joined
            .iter()
            .map(|i| (i.id.as_str(), i.sample.candidate.as_str()))
            .collect();
        assert_eq!(
            said,
            [("7", "one"), ("8", "two")],
            "{name}: the references' order"
        );
        assert_eq!(joined[0].sample.references, ["A dog.", "One dog."]);
        assert_eq!(joined[1].file_name.as_deref(), Some("b.jpg"));
    }
}

#[test]
fn references_come_as_lines_and_tables_too() {
    let place = Place::new();
    let lines = "{\"image_id\": 1, \"captions\": [\"a\", \"b\"], \"file_name\": \"x.png\"}\n{\"image_id\": 2, \"caption\": \"c\"}\n";
    let lines = References::load(&place.file("r.jsonl", lines)).unwrap();
    let table = "image_id,file_name,caption\n1,x.png,a\n1,x.png,b\n2,,c\n";
    let table = References::load(&place.file("r.csv", table)).unwrap();
    for references in [lines, table] {
        assert_eq!(references.images[0].captions, ["a", "b"]);
        assert_eq!(references.images[0].file_name.as_deref(), Some("x.png"));
        assert_eq!(references.images[1].captions, ["c"]);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_the_entry() {
    let place = Place::new();
    let cases = [
        ("", "results.json: is empty"),
        ("[]", "results.json holds no caption"),
        ("[{\"image_id\": 7, \"caption\": \"a\"", "line 1"),
        ("{\"a\": 1}", "not a list of results"),
        (
            r#"[{"image_id": 7, "caption": "a"}, {"image_id": "7", "caption": "b"}]"#,
            "entry 2 is the second caption of image 7 (after entry 1)",
        ),
        (
            r#"[{"image_id": 7, "caption": "a"}, {"image_id": 8}]"#,
            "entry 2 (image 8): has no `caption`",
        ),
        (
            r#"[{"image_id": 7, "caption": null}]"#,
            "entry 1 (image 7): has no `caption`",
        ),
        (
            r#"[{"image_id": 7, "caption": 3}]"#,
            "entry 1 (image 7): has the caption 3",
        ),
        (r#"[{"caption": "a"}]"#, "entry 1: has no `image_id`"),
        (
            r#"[{"image_id": 1.5, "caption": "a"}]"#,
            "entry 1: has the id 1.5",
        ),
        (r#"["a"]"#, "entry 1: is \"a\" and not an object"),
        (
            r#"[{"image": "a.jpg", "error": "gone"}]"#,
            "holds no caption: all 1 images failed",
        ),
    ];
    for (text, expected) in cases {
        let error = format!("{:#}", place.candidates("results.json", text).unwrap_err());
        assert!(
            error.contains(expected) && error.contains("results.json"),
            "{text}: {error}"
        );
    }
}

#[test]
fn candidates_without_references_are_refused_by_id() {
    let place = Place::new();
    let references = place.references();
    for (id, expected) in [
        ("5", "image 5 is not in"),
        ("9", "image 9 has no caption in"),
    ] {
        let text = format!("[{{\"image_id\": {id}, \"caption\": \"a\"}}]");
        let candidates = place.candidates("results.json", &text).unwrap();
        let error = format!("{:#}", join(&candidates, &references, true).unwrap_err());
        assert!(
            error.contains(expected) && error.contains("references.json"),
            "{error}"
        );
    }
}
