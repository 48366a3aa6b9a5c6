//! WebDataset shards captioned and embedded: a file a shard, there once it is whole, whatever ends the run or is in a shard.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::image_files::{cut, heic, jpeg, panicking_tiff, png, write};
use crate::common::place::{INFER, Place, fails_with, json_lines, stderr};
use clipcap::files::LockBeside;

/// A tar file of members, whose names go into it as they are.
fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A shard of so many images.
fn images(first: u32, count: u32) -> Vec<u8> {
    let names: Vec<String> = (first..first + count)
        .map(|n| format!("{n:05}.png"))
        .collect();
    let members: Vec<_> = (names.iter().zip(first..))
        .map(|(name, n)| (name.as_str(), png(n)))
        .collect();
    tar(&members)
}

/// `shards/0.tar` to `shards/3.tar` of 1 to 4 images.
fn write_shards(place: &Place) {
    for n in 0..4 {
        write(
            &place.path(&format!("shards/{n}.tar")),
            &images(n * 10, n + 1),
        );
    }
}

#[test]
fn a_link_to_an_image_gets_a_record_that_says_so() {
    let place = Place::new();
    let mut tar = tar::Builder::new(Vec::new());
    let bytes = png(1);
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "a.png", &bytes[..]).unwrap();
    for (kind, name) in [
        (tar::EntryType::Link, "b.png"),
        (tar::EntryType::Symlink, "c.png"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, name, "a.png").unwrap();
    }
    write(&place.path("s.tar"), &tar.into_inner().unwrap());
    succeeds(&infer(&place, &["s.tar"]));
    let found = records(&place.path("out/s.jsonl"));
    let names: Vec<&Value> = found.iter().map(|record| &record["member"]).collect();
    assert_eq!(names, ["a.png", "b.png", "c.png"]);
    assert!(found[0]["caption"].is_string(), "{found:?}");
    for record in &found[1..] {
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("is a link to another file"), "{error}");
    }
    assert_eq!(stats(&place, "s")["errors"]["link"], 2);
}

fn infer(place: &Place, more: &[&str]) -> Output {
    place.run(&[&INFER[..], &["--output", "out"], more].concat())
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

fn records(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A number as the program has it: `infer` and `embed` widen theirs where images have no file of records.
fn float32(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn stats(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(&format!("out/{name}.stats.json"))).unwrap())
        .unwrap()
}

/// What is in a folder, by name, hidden files too; with the bytes of records.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = match name.ends_with(".jsonl") {
            true => fs::read(entry.path()).unwrap(),
            false => Vec::new(),
        };
        found.push((name, bytes));
    }
    found.sort();
    found
}

#[test]
fn a_shard_has_the_captions_of_its_images_and_a_finished_one_is_left_alone() {
    let place = Place::new();
    write_shards(&place);
    for n in 30..34 {
        write(&place.path(&format!("files/{n:05}.png")), &png(n));
    }
    let output = infer(&place, &["shards"]);
    succeeds(&output);
    let said = stderr(&output);
    assert!(said.contains("shards/3.tar: 4 images in "), "{said}");
    assert!(said.contains("4 shards: 4 finished; 10 images, "), "{said}");
    let names: Vec<String> = contents(&place.path("out"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let files = [
        "0.jsonl",
        "0.stats.json",
        "1.jsonl",
        "1.stats.json",
        "2.jsonl",
        "2.stats.json",
        "3.jsonl",
        "3.stats.json",
        "settings.json",
    ];
    assert_eq!(names, files);

    let of_files = place.run(&[&INFER[..], &["--format", "jsonl", "files"]].concat());
    let lines = records(&place.path("out/3.jsonl"));
    assert_eq!(lines.len(), 4);
    for (n, (line, file)) in lines.iter().zip(json_lines(&of_files)).enumerate() {
        assert_eq!(line["key"], format!("0003{n}"));
        assert_eq!(line["member"], format!("0003{n}.png"));
        assert_eq!(line["caption"], file["caption"]);
        assert_eq!(float32(&line["score"]), float32(&file["score"]));
        assert_eq!(line["error"], Value::Null);
    }
    let stats = stats(&place, "3");
    assert_eq!(stats["status"], "finished");
    assert_eq!(
        (&stats["images"], &stats["records"]),
        (&4.into(), &4.into())
    );

    fs::write(place.path("out/1.jsonl"), "mine\n").unwrap();
    fs::remove_file(place.path("out/2.jsonl")).unwrap();
    let again = infer(&place, &["shards"]);
    succeeds(&again);
    let said = stderr(&again);
    assert!(
        said.contains("4 shards: 1 finished, 3 finished before; 3 images, "),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(place.path("out/1.jsonl")).unwrap(),
        "mine\n"
    );
    assert_eq!(records(&place.path("out/2.jsonl")).len(), 3);
    succeeds(&infer(&place, &["--overwrite", "shards"]));
    assert_eq!(records(&place.path("out/1.jsonl")).len(), 2);
}

#[test]
fn shares_make_what_one_process_makes_and_none_makes_anothers() {
    let place = Place::new();
    write_shards(&place);
    succeeds(&infer(&place, &["shards"]));
    let whole = contents(&place.path("out"));
    let mut made = BTreeSet::new();
    for share in ["0/3", "1/3", "2/3"] {
        let folder = format!("share-{}", &share[..1]);
        let args = ["--output", &folder, "--shard", share, "shards/{0..3}.tar"];
        succeeds(&place.run(&[&INFER[..], &args].concat()));
        for (name, bytes) in contents(&place.path(&folder)) {
            assert!(whole.contains(&(name.clone(), bytes)), "{name}");
            assert!(
                made.insert(name.clone()) || name == "settings.json",
                "{name}"
            );
        }
    }
    assert_eq!(made.len(), whole.len());
    let output = infer(&place, &["--shard", "3/3", "shards"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("the last of 3 is 2/3"),
        "{}",
        stderr(&output)
    );

    let listed = infer(
        &place,
        &["--shard", "1/3", "--list-shards", "shards/{0..4}.tar"],
    );
    succeeds(&listed);
    let listed = json_lines(&listed);
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (&listed[0]["shard"], &listed[0]["finished"]),
        (&"shards/1.tar".into(), &true.into())
    );
    assert_eq!(
        (&listed[1]["output"], &listed[1]["finished"]),
        (&"out/4.jsonl".into(), &false.into())
    );
}

#[test]
fn a_bad_shard_fails_by_name_and_the_others_go_on() {
    let place = Place::new();
    write_shards(&place);
    let whole = images(50, 20);
    write(
        &place.path("shards/4-cut.tar"),
        &whole[..whole.len() / 2 + 100],
    );
    // Between two members, where nothing but the missing end tells.
    let size = |n| 512 + png(n).len().next_multiple_of(512);
    let ten: usize = (50..60).map(size).sum();
    write(&place.path("shards/5-cut.tar"), &whole[..ten]);
    write(&place.path("shards/6-none.tar"), b"");
    write(&place.path("shards/7-words.tar"), &b"words ".repeat(1000));
    write(
        &place.path("shards/8-two.tar"),
        &[images(0, 1), images(1, 1)].concat(),
    );
    write(&place.path("shards/9-empty.tar"), &tar(&[]));
    let output = infer(&place, &["shards", "no/such.tar"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "error: shards/4-cut.tar: the shard cannot be read: download it again, or take it out: is not a whole tar file",
        "error: shards/5-cut.tar: the shard cannot be read: download it again, or take it out: is not a whole tar file: it ends without",
        "error: shards/6-none.tar: the shard cannot be read",
        "error: shards/7-words.tar: the shard cannot be read",
        "error: shards/8-two.tar: the shard cannot be read: download it again, or take it out: has more bytes behind",
        "error: no/such.tar: the shard cannot be read: download it again, or take it out: cannot be opened: No such file",
        "shards/9-empty.tar: 0 images",
        "11 shards: 5 finished, 6 failed; 10 images",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let failed = stats(&place, "4-cut");
    assert_eq!(failed["status"], "failed");
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .starts_with("shards/4-cut.tar: "),
        "{failed}"
    );
    assert!(failed["images"].as_u64().unwrap() < 20, "{failed}");
    let names: Vec<String> = contents(&place.path("out"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let finished: Vec<_> = names
        .iter()
        .filter(|name| name.ends_with(".jsonl"))
        .collect();
    assert_eq!(
        finished,
        ["0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl", "9-empty.jsonl"]
    );
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");

    write(&place.path("shards/4-cut.tar"), &whole);
    let again = infer(&place, &["shards"]);
    assert!(
        stderr(&again).contains("10 shards: 1 finished, 5 finished before, 4 failed; 20 images"),
        "{}",
        stderr(&again)
    );
    assert_eq!(stats(&place, "4-cut")["status"], "finished");
}

#[test]
fn every_image_of_a_hostile_shard_has_a_record() {
    let place = Place::new();
    let members: Vec<(&str, Vec<u8>)> = vec![
        ("../../evil.png", png(1)),
        ("/etc/evil.png", png(2)),
        ("a\nb\u{1b}[2J.png", png(3)),
        ("\"quotes\".png", cut(png(4))),
        ("twice.jpg", jpeg(5)),
        ("twice.jpg", jpeg(6)),
        ("twice.txt", b"text".to_vec()),
        ("main.seg.png", png(7)),
        ("main.jpg", jpeg(8)),
        ("main.json", b"{}".to_vec()),
        ("words.png", b"words".to_vec()),
        ("phone.heic", heic()),
        ("panics.tif", panicking_tiff()),
        ("without.txt", b"text".to_vec()),
        ("table.cls", b"7".to_vec()),
        ("no ending", png(9)),
        ("empty.png", Vec::new()),
        ("._twice.jpg", b"\0\x05".to_vec()),
        ("twice.jpg", jpeg(10)),
    ];
    write(&place.path("h.tar"), &tar(&members));
    let output = infer(&place, &["h.tar"]);
    succeeds(&output);
    let lines = records(&place.path("out/h.jsonl"));
    let told: Vec<(&str, &str, Option<&str>)> = (lines.iter())
        .map(|line| {
            let text = |name: &str| line[name].as_str();
            assert_ne!(line["caption"].is_null(), line["error"].is_null(), "{line}");
            (text("key").unwrap(), text("member").unwrap(), text("error"))
        })
        .collect();
    let expected = [
        ("../../evil", "../../evil.png", None),
        ("/etc/evil", "/etc/evil.png", None),
        ("a\nb\u{1b}[2J", "a\nb\u{1b}[2J.png", None),
        (
            "\"quotes\"",
            "\"quotes\".png",
            Some("h.tar/\"quotes\".png: is damaged: it is cut short"),
        ),
        ("twice", "twice.jpg", None),
        (
            "twice",
            "twice.jpg",
            Some("h.tar/twice.jpg: is a second image of its sample"),
        ),
        ("main", "main.jpg", None),
        (
            "words",
            "words.png",
            Some("h.tar/words.png: is not an image but text"),
        ),
        (
            "phone",
            "phone.heic",
            Some("h.tar/phone.heic: HEIC is not read"),
        ),
        (
            "panics",
            "panics.tif",
            Some("h.tar/panics.tif: is damaged: it breaks the decoder"),
        ),
        ("no ending", "no ending", None),
        (
            "empty",
            "empty.png",
            Some("h.tar/empty.png: the file is empty"),
        ),
        ("twice", "twice.jpg", None),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((key, member, error), (k, m, e)) in told.iter().zip(expected) {
        assert_eq!((*key, *member, error.is_some()), (k, m, e.is_some()));
        assert!(
            error.unwrap_or_default().starts_with(e.unwrap_or_default()),
            "{error:?}"
        );
    }
    let stats = stats(&place, "h");
    let errors = serde_json::json!({"damaged": 1, "empty": 1, "not_an_image": 1, "second_image": 1, "truncated": 1, "unsupported": 1});
    assert_eq!((&stats["images"], &stats["errors"]), (&13.into(), &errors));
    assert_eq!(
        (&stats["without_image"], &stats["other_members"]),
        (&2.into(), &1.into())
    );
    // Nothing was written anywhere else.
    assert!(!place.path("evil.png").exists() && !Path::new("/etc/evil.png").exists());
}

#[test]
fn a_member_of_any_length_or_name_costs_its_record_and_little_memory() {
    let place = Place::new();
    let path = place.path("s.tar");
    let size = 300_u64 << 20;
    let mut header = tar::Header::new_ustar();
    header.set_path("large.png").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add(&("n".repeat(1_000_000) + ".png"), &png(1));
    for n in 0..30 {
        add(&format!("{n:02}.png"), &png(n));
        add(&format!("{n:02}.txt"), b"A red circle.");
    }
    let rest = builder.into_inner().unwrap();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(size as i64)).unwrap();
    file.write_all(&rest).unwrap();
    drop(file);
    succeeds(&infer(&place, &["s.tar"]));
    let found = records(&place.path("out/s.jsonl"));
    assert_eq!(found.len(), 32, "{found:?}");
    let error = found[0]["error"].as_str().unwrap();
    assert!(
        error.contains("s.tar/large.png: 314572800 bytes are too many"),
        "{error}"
    );
    let error = found[1]["error"].as_str().unwrap();
    assert!(error.contains("has a name of 1000005 bytes"), "{error}");
    assert!(found[1]["member"].as_str().unwrap().len() < 200);
    assert!(
        found[2..]
            .iter()
            .all(|record| record["caption"].is_string())
    );
    assert_eq!(found[31]["member"], "29.png");
    let errors = serde_json::json!({"long_name": 1, "too_large": 1});
    assert_eq!(stats(&place, "s")["errors"], errors);
    // To be trained on, they are left out, and the others are where they are.
    let data = clipcap::data::source::load(&path, &[]).unwrap();
    assert_eq!(data.images.len(), 30);
    let told: Vec<String> = data.left_out.lines().collect();
    assert!(
        told[0].contains("member large.png: 314572800 bytes"),
        "{told:?}"
    );
    assert!(told[1].contains("has a name of 1000005 bytes"), "{told:?}");
    for image in &data.images {
        image.source.as_ref().unwrap().open().unwrap();
    }
}

#[test]
fn captions_of_a_shard_are_scored_as_they_were_written() {
    let place = Place::new();
    place.write_data();
    let names: Vec<String> = (0..12).map(|n| format!("{n:06}.png")).collect();
    let members: Vec<(&str, Vec<u8>)> = (names.iter())
        .map(|name| {
            let bytes = fs::read(place.path("data/images").join(name)).unwrap();
            (name.as_str(), bytes)
        })
        .collect();
    write(&place.path("s.tar"), &tar(&members));
    succeeds(&infer(
        &place,
        &["--decode", "beam", "--num-captions", "2", "s.tar"],
    ));
    // As the same images are that lie in a folder.
    let args = "--decode beam --num-captions 2 --format jsonl --output said.jsonl data/images";
    let args: Vec<&str> = args.split(' ').collect();
    succeeds(&place.run(&[&INFER[..], &args].concat()));
    let score = |candidates: &str| -> Value {
        let line = format!(
            "evaluate --candidates {candidates} --references data/captions.json --resamples 0 --format json"
        );
        let output = place.line(&line).output().unwrap();
        succeeds(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = score("out/s.jsonl");
    assert_eq!(found["images"], 12);
    assert_eq!(found, score("said.jsonl"));
}

#[test]
fn compressed_shards_are_made_into_the_same_and_embedded_like_files() {
    let place = Place::new();
    let bytes = images(0, 5);
    write(&place.path("a.tar"), &bytes);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    write(&place.path("b.tar.gz"), &gzip.finish().unwrap());
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    write(
        &place.path("c.TAR.ZST"),
        &ruzstd::encoding::compress_to_vec(&bytes[..], level),
    );
    let embed = ["embed", "--model", "model/tiny", "--device", "cpu"];
    for command in [&INFER[..], &embed] {
        let output = ["--output", command[0], "a.tar", "b.tar.gz", "c.TAR.ZST"];
        succeeds(&place.run(&[command, &output].concat()));
        let file =
            |name: &str| fs::read(place.path(&format!("{}/{name}.jsonl", command[0]))).unwrap();
        assert_eq!(file("a"), file("b"));
        assert_eq!(file("a"), file("c"));
    }
    write(&place.path("0.png"), &png(3));
    let of_file = &json_lines(&place.run(&[&embed[..], &["0.png"]].concat()))[0];
    let line = &records(&place.path("embed/a.jsonl"))[3];
    let values = |line: &Value| -> Vec<f32> {
        let values = line["embedding"].as_array().unwrap();
        values.iter().map(float32).collect()
    };
    assert_eq!(values(line), values(of_file));
    assert_eq!(values(line).len(), 8);
    fails_with(
        &place.run(&[&embed[..], &["--output", "infer", "a.tar"]].concat()),
        &["infer: holds records of another `command`, `infer` and not `embed`"],
    );
    fails_with(
        &place.run(
            &[
                &INFER[..],
                &["--output", "infer", "--decode", "beam", "a.tar"],
            ]
            .concat(),
        ),
        &["holds records of another `search`"],
    );
}

#[test]
fn a_run_that_is_killed_within_a_shard_is_taken_up_with_that_shard() {
    let place = Place::new();
    write(&place.path("shards/0.tar"), &images(0, 3));
    write(&place.path("shards/1.tar"), &images(3, 3000));
    let args = [&INFER[..], &["--output", "killed", "shards"]].concat();
    let mut child = place
        .command(&args)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let partial = place.path("killed/.1.jsonl.partial");
    // Some of the second shard is on the disk.
    while fs::metadata(&partial).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be killed"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.path("killed/0.jsonl").exists() && !place.path("killed/1.jsonl").exists());
    let again = place.run(&args);
    succeeds(&again);
    assert!(
        stderr(&again).contains("2 shards: 1 finished, 1 finished before"),
        "{}",
        stderr(&again)
    );
    succeeds(&infer(&place, &["shards"]));
    assert_eq!(
        contents(&place.path("killed")),
        contents(&place.path("out"))
    );
    assert_eq!(records(&place.path("out/1.jsonl")).len(), 3000);
}

#[test]
fn a_shard_belongs_to_one_process_at_a_time() {
    let place = Place::new();
    write_shards(&place);
    fs::create_dir(place.path("out")).unwrap();
    let lock = LockBeside::take(&place.path("out/1.jsonl")).unwrap();
    if !lock.is_effective() {
        return; // this file system has none
    }
    let output = infer(&place, &["shards"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: shards/1.tar: another run (process "),
        "{said}"
    );
    assert!(
        said.contains("4 shards: 3 finished, 1 being written by another run"),
        "{said}"
    );
    drop(lock);
    succeeds(&infer(&place, &["shards"]));
    assert_eq!(records(&place.path("out/1.jsonl")).len(), 2);
}

#[test]
#[cfg(unix)]
fn a_shard_that_the_disk_has_no_room_for_fails_and_leaves_its_room_to_others() {
    let place = Place::new();
    write(&place.path("shards/0.tar"), &images(0, 200));
    write(&place.path("shards/1.tar"), &images(200, 1));
    // No file grows beyond 8 KiB, as if the disk were full.
    let line = format!(
        "trap '' XFSZ; ulimit -f 16; exec '{}' infer --model model/tiny --device cpu --output out shards",
        env!("CARGO_BIN_EXE_clipcap")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: shards/0.tar: cannot write out/0.jsonl"),
        "{said}"
    );
    assert!(said.contains("2 shards: 1 finished, 1 failed"), "{said}");
    assert!(!place.path("out/0.jsonl").exists() && !place.path("out/.0.jsonl.partial").exists());
    assert_eq!(records(&place.path("out/1.jsonl")).len(), 1);
    succeeds(&infer(&place, &["shards"]));
    assert_eq!(records(&place.path("out/0.jsonl")).len(), 200);
}

#[test]
fn a_model_is_scored_on_shards_that_have_captions() {
    let place = Place::new();
    let names: Vec<[String; 2]> = (0..6)
        .map(|n| [format!("{n}.png"), format!("{n}.txt")])
        .collect();
    let members: Vec<(&str, Vec<u8>)> = (names.iter().zip(0..))
        .flat_map(|([image, text], n)| {
            let caption = b"A small red circle.".to_vec();
            [(image.as_str(), png(n)), (text.as_str(), caption)]
        })
        .collect();
    write(&place.path("shards/0.tar"), &tar(&members));
    let evaluate = [
        "evaluate",
        "--model",
        "model/tiny",
        "--device",
        "cpu",
        "--split",
        "all",
        "--output",
        "out",
    ];
    for data in ["shards", "shards/0.tar"] {
        succeeds(&place.run(&[&evaluate[..], &["--data", data]].concat()));
        let path = place.path("out/predictions-all.json");
        let predictions: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(predictions.len(), 6);
        assert_eq!(predictions[5]["image_id"], "0/5");
        fs::remove_file(path).unwrap();
    }
    let output = place.run(&[&evaluate[..], &["--data", "captions.json"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("give --images their folder"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_is_told_before_a_model_is_loaded() {
    let place = Place::new();
    write_shards(&place);
    write(&place.path("a.png"), &png(1));
    write(&place.path("other/0.tar"), &images(0, 1));
    let usage = |args: &[&str], part: &str| {
        let output = place.run(&[&["infer", "--model", "no/such/model"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    };
    usage(&["shards"], "give --output the folder");
    usage(
        &["shards", "--output", "out", "--format", "csv"],
        "written as --format jsonl",
    );
    usage(&["a.png", "--shard", "0/2"], "none is named");
    let fails = |args: &[&str], part: &str| {
        let args = [
            &["infer", "--model", "no/such/model", "--output", "out"],
            args,
        ]
        .concat();
        fails_with(&place.run(&args), &[part]);
    };
    fails(
        &["shards/0.tar", "a.png"],
        "a.png: is no shard, as shards/0.tar is",
    );
    fails(
        &["shards/0.tar", "other/0.tar"],
        "would both be written to out/0.jsonl",
    );
    usage(&["shards/{3..0}.tar", "--output", "out"], "goes backward");
    fails(&["shards/*-.tar"], "nor matches it as a pattern");
    assert!(!place.path("out").exists());
}

/// Whoever reads a pipe tells by what it takes from it how far ahead it is.
#[test]
#[cfg(unix)]
fn a_long_shard_is_read_as_its_images_are_taken() {
    use clipcap::captioner::ImageEncoder;
    use clipcap::captioner::model_folder::ModelFolder;
    use clipcap::shards::{Job, Outcome, Runner, Settings, Task};
    use std::sync::atomic::{AtomicUsize, Ordering};

    const IMAGES: usize = 3000;
    const BATCH: usize = 4;
    let place = Place::new();
    let pipe = place.path("long.tar");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let folder = ModelFolder::open(&place.path("model/tiny")).unwrap();
    let encoder = ImageEncoder::load(&folder, &burn::tensor::Device::flex()).unwrap();
    let output = place.path("out");
    let runner = Runner::new(
        Task::Embed(&encoder),
        &output,
        &Settings::default(),
        Default::default(),
        BATCH,
        false,
    )
    .unwrap();
    let job = Job {
        shard: pipe.clone(),
        output: output.join("long.jsonl"),
        stats: output.join("long.stats.json"),
    };
    let (written, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let member = tar(&[("0.png", png(1))]);
    let member = &member[..512 + png(1).len().next_multiple_of(512)];
    // In the pipe, in the reader's buffer, and in the batches on their way.
    let ahead = (1 << 16) / member.len() + (1 << 13) / member.len() + 6 * BATCH;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pipe = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
            for n in 0..IMAGES {
                let one = tar(&[(&format!("{n}.png"), png(1))]);
                pipe.write_all(&one[..member.len()]).unwrap();
                written.fetch_add(1, Ordering::SeqCst);
            }
            pipe.write_all(&[0; 1024]).unwrap();
        });
        let outcome = runner.run(&job, &|images| {
            let done = done.fetch_add(images as usize, Ordering::SeqCst) + images as usize;
            let read = written.load(Ordering::SeqCst);
            assert!(read <= done + ahead, "{read} images read, {done} embedded");
        });
        let Outcome::Done(stats) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((stats.images, stats.reason), (IMAGES as u64, None));
    });
    assert_eq!(records(&job.output).len(), IMAGES);
}
