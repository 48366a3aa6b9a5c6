//! Captions over HTTP, and a page to drop pictures on.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | the page |
//! | `POST /caption`, a picture as its body | `{"captions": [{"caption", "tokens", "log_prob", "score"}, ..]}`, best first |
//! | `GET /health` | `{"model"}` |
//!
//! What goes wrong is `{"error"}` with a status of 400 and up. Each connection has a thread, which opens its picture; one
//! more thread captions, everything that waits for it together.

mod queue;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use image::RgbImage;
use oxhttp::model::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use oxhttp::model::{Body, Method, Request, Response, StatusCode};
use oxhttp::{ListeningServer, Server};
use serde_json::{Value, json};

use self::queue::{Queue, Refused};
use crate::captioner::Captioning;
use crate::clip::Preprocessing;
use crate::html;
use crate::picture;

/// What errors call a picture that came without a name.
const PICTURE: &str = "the picture";
/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 256;
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What is served, and how much of it.
#[derive(Debug)]
pub struct ServiceConfig {
    /// What the page calls the model.
    pub model: String,
    /// Pictures captioned together.
    pub batch_size: usize,
    /// Bytes of the largest picture file.
    pub max_bytes: u64,
}

/// Answers requests.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    page: String,
    preprocessing: Preprocessing,
    queue: Queue,
}

/// Why there is no caption.
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl Service {
    /// Starts the thread that captions.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn new(captioning: Captioning, config: ServiceConfig) -> Result<Self> {
        let preprocessing = captioning.captioner.encoder.preprocessing().clone();
        let page = html::fill(
            include_str!("page.html"),
            &[("model", html::escape(&config.model))],
        )?;
        Ok(Self {
            page,
            preprocessing,
            queue: Queue::start(captioning, config.batch_size)?,
            config,
        })
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's; the message names it.
    pub fn listen(self, address: SocketAddr) -> Result<ListeningServer> {
        Server::new(move |request| self.respond(request))
            .bind(address)
            .with_global_timeout(SILENCE)
            .with_max_concurrent_connections(CONNECTIONS)
            .spawn()
            .with_context(|| format!("cannot listen on {address}: choose another host or port"))
    }

    /// The answer to a request.
    pub fn respond(&self, request: &mut Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_string();
        let is_get = request.method() == Method::GET;
        let answer = match path.as_str() {
            "/" if is_get => return response(StatusCode::OK, "text/html", self.page.clone()),
            "/health" if is_get => Ok(json!({"model": self.config.model})),
            "/caption" if request.method() == Method::POST => self.caption(request),
            "/" | "/health" | "/caption" => Err(Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!(
                    "{} {path} is not known: GET / and /health, POST /caption",
                    request.method()
                ),
            )),
            _ => Err(Failure::new(
                StatusCode::NOT_FOUND,
                format!("{path} is not known: there are /, /health and /caption"),
            )),
        };
        match answer {
            Ok(value) => json_response(StatusCode::OK, &value),
            Err(Failure { status, message }) => json_response(status, &json!({ "error": message })),
        }
    }

    fn caption(&self, request: &mut Request<Body>) -> Result<Value, Failure> {
        let bytes = self.read(request)?;
        let crop = self.crop(&bytes)?;
        drop(bytes);
        let captions = self.queue.caption(crop).map_err(|refused| {
            let status = match refused {
                Refused::Full => StatusCode::SERVICE_UNAVAILABLE,
                Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Failure::new(status, refused.to_string())
        })?;
        Ok(json!({ "captions": captions }))
    }

    /// The body, which must not be too long.
    fn read(&self, request: &mut Request<Body>) -> Result<Vec<u8>, Failure> {
        let most = self.config.max_bytes;
        let too_large = || {
            let message = format!("the picture is larger than {most} bytes: shrink it first");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = request.body_mut().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error: io::Error| {
            let message = format!("the picture did not come whole: {error}");
            Failure::new(StatusCode::BAD_REQUEST, message)
        })?;
        match bytes.len() as u64 > most {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }

    /// What the encoder looks at. It is cut out on the threads that compute, so that no more whole pictures are in memory than
    /// there are cores.
    fn crop(&self, bytes: &[u8]) -> Result<RgbImage, Failure> {
        if bytes.is_empty() {
            let message = "no picture came: send the file's bytes as the body of the request";
            return Err(Failure::new(StatusCode::BAD_REQUEST, message));
        }
        let open = || picture::decode(bytes, PICTURE.as_ref());
        let crop = rayon::scope(|_| Ok(self.preprocessing.crop(&open()?)));
        crop.map_err(|error: picture::PictureError| {
            Failure::new(StatusCode::BAD_REQUEST, error.to_string())
        })
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    response(status, "application/json", format!("{value}\n"))
}

fn response(status: StatusCode, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let kind = format!("{kind}; charset=utf-8");
    if let Ok(kind) = kind.parse() {
        headers.insert(CONTENT_TYPE, kind);
    }
    if let Ok(never) = "no-store".parse() {
        headers.insert(CACHE_CONTROL, never);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, 1.into());
    }
    response
}
