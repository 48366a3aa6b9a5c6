//! What a request's body may be, and what is said about others.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clipcap::serve::ServiceConfig;
use serde_json::{Value, json};

use super::help::*;

fn address() -> SocketAddr {
    static RUNNING: OnceLock<Running> = OnceLock::new();
    RUNNING
        .get_or_init(|| start(Fake::default(), config()))
        .address
}

/// A part of a form.
struct Part {
    disposition: &'static str,
    body: Vec<u8>,
}

fn file(disposition: &'static str, body: impl Into<Vec<u8>>) -> Part {
    let body = body.into();
    Part { disposition, body }
}

fn form(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let head = format!(
            "--xyz\r\nContent-Disposition: form-data; {}\r\n\r\n",
            part.disposition
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&part.body);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xyz--\r\n");
    body
}

fn post_form(body: &[u8]) -> Answer {
    let kind = [("Content-Type", "multipart/form-data; boundary=xyz")];
    ask(address(), "POST", "/caption", &kind, body)
}

#[test]
fn a_file_is_taken_whatever_its_type_is_said_to_be() {
    for kind in [
        "image/png",
        "image/jpeg",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        let answer = ask(
            address(),
            "POST",
            "/caption",
            &[("Content-Type", kind)],
            &png(20),
        );
        assert_eq!(answer.caption(), "20 wide, 0", "{kind}");
    }
}

#[test]
fn what_is_no_image_or_too_large_is_refused_and_the_next_one_captioned() {
    let message =
        post(address(), b"not an image").fails(400, &["the image", "multipart/form-data"]);
    assert!(message.contains("base64"), "{message}");
    post(address(), &png(300)[..60]).fails(400, &["the image", "is damaged"]);
    post(address(), b"").fails(400, &["no image came", "curl -F"]);
    post(address(), &vec![0; 100_001]).fails(413, &["100000 bytes"]);
    assert_eq!(post(address(), &png(20)).caption(), "20 wide, 0");
}

#[test]
fn a_body_of_unknown_length_is_read_no_further_than_allowed_and_still_answered() {
    let mut stream = connect(address());
    let head = "POST /caption HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // Far more than sockets hold, so that somebody has to take it.
    for _ in 0..2000 {
        let chunk = format!("1388\r\n{}\r\n", "x".repeat(0x1388));
        stream.write_all(chunk.as_bytes()).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    read_answer(stream).fails(413, &["100000 bytes"]);
}

#[test]
fn a_form_with_one_image_is_answered_as_the_file_alone() {
    for disposition in [
        "name=\"image\"; filename=\"a.png\"",
        "name=\"photo\"; filename=\"C:\\a.png\"",
        "name=\"image\"",
        "name=\"file\"",
    ] {
        let answer = post_form(&form(&[file(disposition, png(21))]));
        assert_eq!(answer.caption(), "21 wide, 0", "{disposition}");
    }
    let parts = [
        file("name=\"num_captions\"", b"2"),
        file("name=\"image\"; filename=\"a.png\"", png(21)),
    ];
    let answer = post_form(&form(&parts));
    assert_eq!(answer.json()["captions"].as_array().unwrap().len(), 2);
}

#[test]
fn several_images_in_a_form_are_answered_each_by_name() {
    let parts = [
        file("name=\"image\"; filename=\"a.png\"", png(22)),
        file("name=\"image\"", png(23)),
        file("name=\"image\"; filename=\"d.png\"", png(FAILS)),
    ];
    let answer = post_form(&form(&parts));
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let images = answer["images"].as_array().unwrap();
    let names: Vec<&str> = images
        .iter()
        .map(|image| image["image"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a.png", "image 2", "d.png"]);
    assert_eq!(images[0]["captions"][0]["caption"], "22 wide, 0");
    assert_eq!(images[1]["captions"][0]["caption"], "23 wide, 0");
    let error = images[2]["error"].as_str().unwrap();
    assert!(error.contains("the device is gone"), "{error}");
}

#[test]
fn one_bad_image_of_several_is_told_and_where_all_are_bad_the_request_failed() {
    let good = file("name=\"image\"; filename=\"a.png\"", png(24));
    let body = form(&[good, file("name=\"image\"; filename=\"b.txt\"", b"no")]);
    let answer = post_form(&body).json();
    assert_eq!(answer["images"][0]["captions"][0]["caption"], "24 wide, 0");
    let error = answer["images"][1]["error"].as_str().unwrap();
    assert!(error.starts_with("b.txt: "), "{error}");
    let bad = || file("name=\"images\"; filename=\"b.txt\"", b"no");
    let answer = post_form(&form(&[bad(), bad()]));
    answer.fails(400, &["2 of 2 images failed", "b.txt"]);
    assert_eq!(answer.json()["images"].as_array().unwrap().len(), 2);
    let alone = post_form(&form(&[bad()]));
    assert_eq!(alone.json()["images"].as_array().unwrap().len(), 1);
}

#[test]
fn forms_that_are_broken_or_hold_what_is_unknown_are_refused() {
    let image = || file("name=\"image\"; filename=\"a.png\"", b"x");
    post_form(&form(&[image(), file("name=\"captions\"", b"2")]))
        .fails(400, &["`captions`", "num_captions"]);
    post_form(&form(&[file("name=\"decode\"", b"best")])).fails(400, &["decode", "`best`"]);
    post_form(&form(&[])).fails(400, &["no image came"]);
    post_form(&form(&[file("name=\"image\"; filename=\"\"", b"")])).fails(400, &["no image came"]);
    let whole = form(&[image()]);
    post_form(&whole[..whole.len() - 10]).fails(400, &["the form is broken"]);
    post_form(b"no form at all").fails(400, &["the form is broken"]);
    let many: Vec<Part> = (0..6).map(|_| image()).collect();
    post_form(&form(&many)).fails(400, &["at most 5 images"]);
    let large = vec![0; 100_001];
    post_form(&form(&[file("name=\"image\"; filename=\"l.png\"", large)]))
        .fails(413, &["l.png", "100000 bytes"]);
    let kind = [("Content-Type", "multipart/form-data")];
    ask(address(), "POST", "/caption", &kind, &whole).fails(400, &["boundary"]);
    let kind = [("Content-Type", "multipart/mixed; boundary=xyz")];
    ask(address(), "POST", "/caption", &kind, &whole).fails(415, &["multipart/mixed"]);
    let gzip = [("Content-Encoding", "gzip")];
    ask(address(), "POST", "/caption", &gzip, &whole).fails(415, &["Content-Encoding"]);
}

#[test]
fn json_takes_base64_in_all_its_ways_and_data_urls() {
    let image = png(25);
    let standard = STANDARD.encode(&image);
    let wrapped: Vec<String> = (standard.as_bytes().chunks(60))
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    for text in [
        standard.clone(),
        standard.trim_end_matches('=').to_string(),
        URL_SAFE_NO_PAD.encode(&image),
        wrapped.join("\n"),
        format!("data:image/png;base64,{standard}"),
        format!("data:;base64,{standard}"),
        format!(
            "DATA:image/png;base64,{}",
            standard.replace('+', "%2B").replace('=', "%3D")
        ),
    ] {
        let answer = post_json(address(), &json!({ "image": text }).to_string());
        assert_eq!(answer.caption(), "25 wide, 0", "{text}");
    }
    let settings =
        json!({ "num_captions": 2, "max_length": "4", "decode": null, "image": standard });
    let answer = post_json(address(), &settings.to_string());
    assert_eq!(answer.json()["captions"].as_array().unwrap().len(), 2);
    let list = json!({ "images": [standard, "!", STANDARD.encode(b"no image")] });
    let answer = post_json(address(), &list.to_string());
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(answer["images"][0]["captions"][0]["caption"], "25 wide, 0");
    let errors: Vec<&Value> = (1..3)
        .map(|index| &answer["images"][index]["error"])
        .collect();
    assert!(
        errors[0]
            .as_str()
            .unwrap()
            .contains("image 2 is not in base64"),
        "{answer}"
    );
    assert!(
        errors[1].as_str().unwrap().starts_with("image 3: "),
        "{answer}"
    );
}

#[test]
fn json_that_is_broken_or_holds_what_is_unknown_is_refused() {
    let deep = "[".repeat(100_000);
    let many: Vec<String> = (0..1000).map(|i| format!("\"{i}\":0")).collect();
    for (body, parts) in [
        ("{\"image\":", &["JSON", "EOF"][..]),
        ("[]", &["JSON", "an object"]),
        ("", &["JSON"]),
        ("{}", &["no image came", "base64"]),
        (&deep, &["JSON"]),
        (&format!("{{{}}}", many.join(",")), &["JSON", "fields"]),
        ("{\"image\": 5}", &["image must be a text"]),
        ("{\"images\": \"x\"}", &["images a list"]),
        ("{\"images\": [1]}", &["image 1 is not a text"]),
        ("{\"images\": []}", &["no image came"]),
        (
            "{\"image\": \"x\", \"image\": \"x\"}",
            &["image is given twice"],
        ),
        (
            "{\"image\": \"x\", \"url\": \"y\"}",
            &["`url`", "num_captions"],
        ),
        ("{\"image\": \"x\", \"url\": []}", &["`url`"]),
        ("{\"image\": \"x\", \"seed\": [1]}", &["seed is [1]"]),
        ("{\"image\": \"x\", \"seed\": 1.5}", &["seed", "`1.5`"]),
        (
            "{\"image\": \"http://a.org/b.png\"}",
            &["the image is an address", "base64"],
        ),
        ("{\"image\": \"data:image/png\"}", &["data URL"]),
        ("{\"image\": \"data:;base64,%%%\"}", &["data URL", "base64"]),
        ("{\"image\": \"an image\u{1}\"}", &["JSON"]),
        ("{\"image\": \"\\u0001 ???\"}", &["not in base64"]),
    ] {
        post_json(address(), body).fails(400, parts);
    }
    let twice = [("Content-Type", "application/json")];
    ask(
        address(),
        "POST",
        "/caption?seed=1",
        &twice,
        b"{\"image\":\"x\",\"seed\":1}",
    )
    .fails(400, &["seed is given twice"]);
}

#[test]
fn bodies_together_take_no_more_memory_than_allowed() {
    let small = ServiceConfig {
        max_held_bytes: 60_000,
        ..config()
    };
    let running = start(Fake::default(), small);
    let half = [
        b"POST /caption HTTP/1.1\r\nHost: here\r\nContent-Length: 60000\r\n\r\n".to_vec(),
        vec![0; 50_000],
    ];
    let mut stream = connect(running.address);
    stream.write_all(&half.concat()).unwrap();
    wait_until("the half body is in memory", || {
        let metrics = get(running.address, "/metrics").body;
        let held = metrics
            .lines()
            .find_map(|line| line.strip_prefix("clipcap_body_bytes "));
        held.unwrap().parse::<usize>().unwrap() >= 50_000
    });
    let answer = post(running.address, &vec![0; 20_000]);
    answer.fails(503, &["in memory"]);
    assert!(answer.header("retry-after").is_some());
    drop(stream);
    wait_until("the memory is free again", || {
        post(running.address, &vec![0; 20_000]).status == 400
    });
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told_or_refused() {
    let head = |length: usize| {
        format!(
            "POST /caption HTTP/1.1\r\nHost: here\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let image = png(26);
    let mut stream = connect(address());
    stream.write_all(head(image.len()).as_bytes()).unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; go_on.len()];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, go_on);
    stream.write_all(&image).unwrap();
    assert_eq!(read_answer(stream).caption(), "26 wide, 0");
    let mut stream = connect(address());
    stream.write_all(head(1_000_000).as_bytes()).unwrap();
    read_answer(stream).fails(413, &["100000 bytes"]);
}
