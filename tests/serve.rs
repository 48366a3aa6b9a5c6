//! The service, asked over sockets.

use std::io::{Cursor, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use clipcap::captioner::{Captioner, Captioning};
use clipcap::data::scenes;
use clipcap::decode::Strategy;
use clipcap::serve::{Service, ServiceConfig};
use image::{ImageFormat, RgbImage};
use serde_json::Value;

const MAX_BYTES: u64 = 100_000;

fn captioning(strategy: Strategy) -> Captioning {
    let captioner = Captioner::load(Path::new("model/sample"), &Device::flex()).unwrap();
    Captioning {
        config: captioner.reader.decode_config(strategy),
        num_captions: 2,
        rerank_by_clip: false,
        captioner,
    }
}

fn listen(captioning: Captioning) -> SocketAddr {
    // The port is free, since it just was.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = ServiceConfig {
        model: "model/<sample>".into(),
        batch_size: 4,
        max_bytes: MAX_BYTES,
    };
    Service::new(captioning, config)
        .unwrap()
        .listen(address)
        .unwrap();
    address
}

/// One for the tests that need no other.
fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| listen(captioning(Strategy::Greedy)))
}

fn scene(index: u64) -> RgbImage {
    scenes::draw(&scenes::scene(77, index))
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.build().into()
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let mut response = response.unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), body)
}

fn get(path: &str) -> (u16, String) {
    read(agent().get(format!("http://{}{path}", address())).call())
}

fn post(address: SocketAddr, body: &[u8]) -> (u16, Value) {
    let (status, body) = read(agent().post(format!("http://{address}/caption")).send(body));
    (status, serde_json::from_str(&body).unwrap())
}

fn error(body: &[u8]) -> (u16, String) {
    let (status, answer) = post(address(), body);
    (status, answer["error"].as_str().unwrap().to_string())
}

#[test]
fn captions_are_those_of_the_library_best_first() {
    let captioning = captioning(Strategy::Beam { beam_size: 3 });
    let crop = captioning.captioner.encoder.crop(&scene(1));
    let expected = captioning.caption(&[crop]).unwrap().remove(0);
    let (status, answer) = post(listen(captioning), &png(&scene(1)));
    assert_eq!(status, 200);
    let found = answer["captions"].as_array().unwrap();
    assert_eq!((found.len(), expected.len()), (2, 2));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found["caption"], expected.caption);
        assert_eq!(found["tokens"], serde_json::json!(expected.tokens));
        for (key, expected) in [("log_prob", expected.log_prob), ("score", expected.score)] {
            let found = found[key].as_f64().unwrap();
            assert!((found - f64::from(expected)).abs() < 1e-6, "{key}: {found}");
        }
    }
}

#[test]
fn many_at_once_get_a_caption_of_their_own_picture_each() {
    let one = captioning(Strategy::Greedy);
    let address = address();
    std::thread::scope(|threads| {
        for index in 0..24 {
            let crop = one.captioner.encoder.crop(&scene(index));
            let expected = one.caption(&[crop]).unwrap()[0][0].caption.clone();
            threads.spawn(move || {
                let (status, answer) = post(address, &png(&scene(index)));
                assert_eq!(status, 200);
                assert_eq!(answer["captions"][0]["caption"], expected);
            });
        }
    });
}

#[test]
fn what_is_no_picture_or_too_large_is_refused_and_the_next_one_captioned() {
    let (status, message) = error(b"not a picture");
    assert!(
        status == 400 && message.contains("is not an image"),
        "{message}"
    );
    let (status, message) = error(&png(&scene(1))[..200]);
    assert!(status == 400 && message.contains("is damaged"), "{message}");
    let (status, message) = error(b"");
    assert!(
        status == 400 && message.contains("no picture came"),
        "{message}"
    );
    let (status, message) = error(&vec![0; MAX_BYTES as usize + 1]);
    assert!(
        status == 413 && message.contains("100000 bytes"),
        "{message}"
    );
    assert_eq!(post(address(), &png(&scene(1))).0, 200);
}

#[test]
fn a_body_of_unknown_length_is_read_no_further_than_allowed() {
    let mut stream = TcpStream::connect(address()).unwrap();
    let head = "POST /caption HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..30 {
        let chunk = format!("1388\r\n{}\r\n", "x".repeat(0x1388));
        stream.write_all(chunk.as_bytes()).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn the_page_names_the_model_and_other_paths_are_refused() {
    let (status, page) = get("/");
    assert!(status == 200 && page.contains("model/&lt;sample&gt;"));
    let (status, health) = get("/health");
    assert_eq!(
        (status, health.as_str()),
        (200, "{\"model\":\"model/<sample>\"}\n")
    );
    let (status, message) = get("/captions");
    assert!(status == 404 && message.contains("/caption"), "{message}");
    let (status, message) = get("/caption");
    assert!(
        status == 405 && message.contains("POST /caption"),
        "{message}"
    );
}

#[test]
fn an_address_that_is_taken_is_named() {
    let config = ServiceConfig {
        model: String::new(),
        batch_size: 1,
        max_bytes: 1,
    };
    let service = Service::new(captioning(Strategy::Greedy), config).unwrap();
    let error = service.listen(address()).err().unwrap().to_string();
    assert!(error.contains(&address().to_string()), "{error}");
}
