//! Every input has one answer: folders of good, bad, hostile and odd entries, whatever is in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::common::entries::{Entries, Fate, count, is_refused, write_mixed};
use crate::common::image_files::{cut, jpeg, png, write};
use crate::common::place::{Place, json_lines, stderr, stdout};
use clipcap::path_text;
use serde_json::Value;

const MODEL: [&str; 4] = ["--model", "model/tiny", "--device", "cpu"];

fn run(place: &Place, command: &str, more: &[&str]) -> Output {
    let output = place.run(&[&[command], &MODEL[..], more].concat());
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    output
}

/// A folder `mixed` of random entries, in it and in subfolders.
fn mixed(place: &Place, seed: u64) -> Entries {
    write_mixed(&place.path("mixed"), 0, 60, seed)
}

/// Each input has the answer that is expected of it, once.
fn assert_answers(place: &Place, lines: &[Value], entries: &Entries, answer: &str) {
    let mut found = BTreeMap::new();
    for line in lines {
        let name = line["image"].as_str().unwrap().to_string();
        assert!(found.insert(name, line).is_none(), "twice: {line}");
    }
    for (path, fate) in entries {
        let name = path_text::text(path.strip_prefix(place.path("")).unwrap());
        let line = found.remove(&name);
        match fate {
            Fate::Other => assert_eq!(line, None),
            Fate::Read => assert!(line.unwrap().get(answer).is_some(), "{line:?}"),
            Fate::Refused(reason) => {
                let line = line.unwrap_or_else(|| panic!("no answer for {name}"));
                let error = line["error"].as_str();
                let error = error.unwrap_or_else(|| panic!("no error: {line}"));
                assert!(error.contains(reason) && !error.contains('\n'), "{error}");
            }
        }
    }
    assert!(found.is_empty(), "more answers: {found:?}");
}

#[test]
fn every_entry_of_a_folder_is_answered_once_whatever_it_is() {
    for seed in 0..3 {
        let place = Place::new();
        let entries = mixed(&place, seed);
        let (read, refused) = (
            count(&entries, |fate| fate == Fate::Read),
            count(&entries, is_refused),
        );
        let others = entries.len() - read - refused;
        for (command, answer) in [("infer", "caption"), ("embed", "embedding")] {
            let args = ["--recursive", "--format", "jsonl", "mixed"];
            let output = run(&place, command, &args);
            assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
            assert_answers(&place, &json_lines(&output), &entries, answer);
            let text = stderr(&output);
            for said in [
                format!("{refused} of {} images could not be ", read + refused),
                "HEIC (".to_string(),
                format!("{others} files that are not images were left out: "),
            ] {
                assert!(text.contains(&said), "no `{said}` in: {text}");
            }
        }
    }
}

#[test]
fn a_resumed_output_has_every_name_once() {
    for format in ["text", "jsonl", "csv"] {
        let place = Place::new();
        let entries = mixed(&place, 7);
        let good = count(&entries, |fate| fate == Fate::Read);
        let args = [
            "--recursive",
            "--format",
            format,
            "--output",
            "captions",
            "mixed",
        ];
        run(&place, "infer", &args);
        let whole = fs::read_to_string(place.path("captions")).unwrap();
        if format == "text" {
            assert_eq!(whole.lines().count(), good);
        }
        let half = &whole.as_bytes()[..whole.len() / 2];
        fs::write(place.path("captions"), half).unwrap();
        run(&place, "infer", &args);
        let again = fs::read_to_string(place.path("captions")).unwrap();
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&again), lines(&whole), "{format}");
    }
}

#[test]
fn what_is_named_is_answered_too() {
    let place = Place::new();
    write(&place.path("sub/a.png"), &png(1));
    write(&place.path("half.jpg"), &cut(jpeg(1)));
    let names = [
        "sub",
        "half.jpg",
        "missing.png",
        "/dev/null",
        "sub/../sub/a.png",
        "no*thing",
    ];
    let args = [&["--format", "jsonl"][..], &names].concat();
    let lines = json_lines(&run(&place, "infer", &args));
    let errors: Vec<Option<&str>> = lines.iter().map(|line| line["error"].as_str()).collect();
    let expected = [
        None,
        Some("cut short"),
        Some("no such file"),
        Some("a device"),
        None,
        Some("no file is called so"),
    ];
    assert_eq!(errors.len(), expected.len());
    for (error, expected) in errors.into_iter().zip(expected) {
        assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
        let matches = error.is_none_or(|error| error.contains(expected.unwrap()));
        assert!(matches || cfg!(windows), "{error:?}");
    }
    let output = run(&place, "infer", &["--allow-truncated", "half.jpg"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("half.jpg: "));
    // A pipe from the shell has a writer.
    let mut command = place.command(&[&["embed"], &MODEL[..], &["/dev/stdin"]].concat());
    if cfg!(target_os = "linux") {
        let output = with_stdin(&mut command, &png(1));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

fn with_stdin(command: &mut Command, bytes: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_has_an_image_or_a_list_with_or_without_a_mark() {
    let place = Place::new();
    write(&place.path("a.png"), &png(1));
    write(&place.path("BMW.png"), &png(2));
    let names = |bytes: &[u8]| {
        let args = [&["infer"], &MODEL[..], &["--format", "jsonl", "-"]].concat();
        let output = with_stdin(&mut place.command(&args), bytes);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let name = |line: &Value| line["image"].as_str().unwrap().to_string();
        json_lines(&output).iter().map(name).collect::<Vec<_>>()
    };
    for image in [
        png(1),
        jpeg(1),
        crate::common::image_files::encoded(1, image::ImageFormat::Pnm),
    ] {
        assert_eq!(names(&image), ["-"]);
    }
    assert_eq!(names(b"\xef\xbb\xbfa.png\r\nBMW.png"), ["a.png", "BMW.png"]);
    assert_eq!(names(b"BMW.png\n"), ["BMW.png"]);
    let wide = "\u{feff}a.png\r\nBMW.png\r\n".encode_utf16();
    let wide: Vec<u8> = wide.flat_map(u16::to_le_bytes).collect();
    assert_eq!(names(&wide), ["a.png", "BMW.png"]);
}

#[test]
fn addresses_are_downloaded_only_when_that_is_allowed() {
    let place = Place::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap();
            let (status, body) = match request[..count].starts_with(b"GET /a.png") {
                true => ("200 OK", png(1)),
                false => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream
                .write_all(&[head.as_bytes(), &body].concat())
                .unwrap();
        }
    });
    let address = format!("{base}/a.png");
    fails_without_download(&place, &address);
    let missing = format!("{base}/b.png");
    let args = ["--allow-urls", "--format", "jsonl", &address, &missing];
    let output = run(&place, "infer", &args);
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output);
    assert!(lines[0]["caption"].is_string(), "{}", lines[0]);
    assert_eq!(lines[0]["image"], *address);
    let error = lines[1]["error"].as_str().unwrap();
    assert!(error.contains("the server answers 404"), "{error}");
}

fn fails_without_download(place: &Place, address: &str) {
    let output = run(place, "embed", &[address]);
    assert_eq!(output.status.code(), Some(1));
    let error = json_lines(&output)[0]["error"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(error.contains("--allow-urls"), "{error}");
}
