//! A service with captions that say which image they are of, and clients for it.

use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail};
use clipcap::captioner::{Caption, Rerank, Search};
use clipcap::decode::{DecodeConfig, Strategy};
use clipcap::serve::{Captions, Choices, Entry, Service, ServiceConfig, Stop};
use image::{ImageFormat, RgbImage};
use serde_json::Value;

/// An image of this width makes captioning panic.
pub const PANICS: u32 = 13;
/// An image of this width makes cropping panic.
pub const CROP_PANICS: u32 = 14;
/// An image of this width ends the thread that captions.
pub const ENDS: u32 = 15;
/// An image of this width makes captioning fail.
pub const FAILS: u32 = 16;

/// Lets captioning go on, or not.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    pub fn close(&self) {
        self.0.0.lock().unwrap().is_closed = true;
    }

    pub fn open(&self) {
        self.0.0.lock().unwrap().is_closed = false;
        self.0.1.notify_all();
    }

    /// Waits while it is closed.
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.waiting += 1;
        self.0.1.notify_all();
        while state.is_closed {
            state = self.0.1.wait(state).unwrap();
        }
        state.waiting -= 1;
    }

    /// Waits until somebody waits at it.
    pub fn wait_for_arrival(&self) {
        let mut state = self.0.0.lock().unwrap();
        while state.waiting == 0 {
            state = self.0.1.wait(state).unwrap();
        }
    }
}

/// The widths of the images of a batch, and how many captions each was to have.
pub type Batch = (Vec<u32>, usize);

/// Captions that say how wide an image is.
#[derive(Clone, Default)]
pub struct Fake {
    pub gate: Gate,
    /// What was asked for, in order.
    pub batches: Arc<Mutex<Vec<Batch>>>,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic's own end");
    }
}

impl Captions for Fake {
    fn crop(&self, image: &RgbImage) -> RgbImage {
        assert_ne!(image.width(), CROP_PANICS, "this width cannot be cropped");
        image.clone()
    }

    fn search(&self, choices: &Choices) -> Result<Search> {
        let num_captions = choices.num_captions.unwrap_or(1);
        if num_captions > 3 {
            bail!("num_captions is {num_captions}: this service allows at most 3");
        }
        let max_length = choices.max_length.unwrap_or(5);
        Ok(Search {
            decode: DecodeConfig::new(Strategy::Greedy, max_length, Vec::new()),
            num_captions,
            rerank: Rerank::Score,
        })
    }

    fn caption(&self, crops: &[RgbImage], search: &Search) -> Result<Vec<Vec<Caption>>> {
        self.gate.pass();
        let widths: Vec<u32> = crops.iter().map(RgbImage::width).collect();
        let batch = (widths.clone(), search.num_captions);
        self.batches.lock().unwrap().push(batch);
        if widths.contains(&ENDS) {
            std::panic::panic_any(Bomb);
        }
        assert!(!widths.contains(&PANICS), "this width cannot be captioned");
        if widths.contains(&FAILS) {
            bail!("the device is gone");
        }
        let captions = |width: u32| {
            (0..search.num_captions)
                .map(|rank| Caption {
                    caption: format!("{width} wide, {rank}"),
                    tokens: vec![width, rank as u32],
                    log_prob: -1.0,
                    score: -1.0,
                    similarity: None,
                    consensus: None,
                })
                .collect()
        };
        Ok(widths.into_iter().map(captions).collect())
    }
}

/// A running service. It is stopped when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// How the service ended.
    pub fn join(mut self) -> Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn config() -> ServiceConfig {
    ServiceConfig {
        batch_size: 4,
        max_image_bytes: 100_000,
        max_body_bytes: 300_000,
        max_images: 5,
        ..ServiceConfig::new("model/<sample>")
    }
}

pub fn start(captions: impl Captions, config: ServiceConfig) -> Running {
    let service = Service::new(captions, config).unwrap();
    let listening = service.bind("127.0.0.1", 0).unwrap();
    Running {
        address: listening.addresses()[0],
        stop: listening.stopper(),
        thread: Some(thread::spawn(move || listening.run())),
    }
}

/// Has a service's log kept.
pub fn with_log(config: &mut ServiceConfig) -> Arc<Mutex<Vec<Entry>>> {
    let entries = Arc::new(Mutex::new(Vec::new()));
    let log = entries.clone();
    config.log = Some(Arc::new(move |entry: &Entry| {
        log.lock().unwrap().push(entry.clone());
    }));
    entries
}

/// Waits until something is true, which it must become soon.
pub fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_true() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// An image of this width, as a PNG file.
pub fn png(width: u32) -> Vec<u8> {
    encoded(&RgbImage::new(width, 2))
}

pub fn encoded(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice: {}", self.head);
        value
    }

    /// The message of a failure with this status, with all of these in it.
    pub fn fails(&self, status: u16, parts: &[&str]) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let message = self.json()["error"].as_str().unwrap().to_string();
        for part in parts {
            assert!(message.contains(part), "no `{part}` in: {message}");
        }
        assert!(!message.contains('\n'), "{message}");
        message
    }

    /// The caption of a request with a single image.
    pub fn caption(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let caption = &self.json()["captions"][0]["caption"];
        caption.as_str().unwrap().to_string()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

/// What comes until the other end closes.
pub fn read_answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no answer: `{text}`")),
        head: head.to_string(),
        body: body.to_string(),
    }
}

/// The head and body of a request, after which the connection ends.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

pub fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = connect(address);
    let request = request(method, target, headers, body);
    stream.write_all(&request).unwrap();
    read_answer(stream)
}

pub fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, "GET", target, &[], b"")
}

pub fn post(address: SocketAddr, body: &[u8]) -> Answer {
    ask(address, "POST", "/caption", &[], body)
}

pub fn post_json(address: SocketAddr, json: &str) -> Answer {
    let kind = [("Content-Type", "application/json")];
    ask(address, "POST", "/caption", &kind, json.as_bytes())
}
