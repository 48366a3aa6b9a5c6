//! One log entry a request, and its id.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::Message;
use super::app::App;
use super::caption::Images;
use super::router;
use super::settings::shown;

/// The header that carries a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is logged as the status where the client went away before there was an answer.
const GONE: u16 = 499;

/// A request and its answer, as the log has them: as text by [`Display`](fmt::Display), as JSON by
/// [`Serialize`]. Both are one line.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When the request came, in UTC (RFC 3339).
    pub time: String,
    /// The client's, if it sent one, else the service's.
    pub request_id: String,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// As it came, `-` where the request's head was not understood.
    pub method: String,
    /// Without the query, `-` where the request's head was not understood.
    pub path: String,
    /// Of the answer; 499 where the client went away before it.
    pub status: u16,
    /// Images in the request, once they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// From the request's head to the answer.
    pub seconds: f64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The client at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub SocketAddr);

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.time)?;
        match &self.client {
            Some(client) => write!(formatter, "{client}")?,
            None => formatter.write_str("-")?,
        }
        write!(
            formatter,
            " {} {} {} {:.3} s id={}",
            self.method, self.path, self.status, self.seconds, self.request_id
        )?;
        if let Some(images) = self.images {
            write!(formatter, " images={images}")?;
        }
        match &self.error {
            Some(error) => {
                formatter.write_str(": ")?;
                let mut plain = error.chars().filter(|c| !c.is_control());
                plain.try_for_each(|c| formatter.write_char(c))
            }
            None => Ok(()),
        }
    }
}

/// Logs and counts a request, and gives its answer an id.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let open = Open::new(app, &request, &id);
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    open.close(&response);
    response
}

/// A request that has no answer yet.
struct Open {
    app: Arc<App>,
    entry: Entry,
    route: &'static str,
    start: Instant,
}

impl Open {
    fn new(app: Arc<App>, request: &Request, id: &str) -> Self {
        let path = request.uri().path();
        let client = request.extensions().get::<Client>();
        let mut entry = Entry::now(client.map(|client| client.0));
        entry.request_id = id.to_string();
        entry.method = request.method().to_string();
        entry.path = shown(path);
        Self {
            route: router::route(path).map_or("other", |route| route.path),
            start: Instant::now(),
            entry,
            app,
        }
    }

    fn close(mut self, response: &Response) {
        let extensions = response.extensions();
        self.entry.status = response.status().as_u16();
        self.entry.images = extensions.get::<Images>().map(|images| images.0);
        self.entry.error = extensions.get::<Message>().map(|message| message.0.clone());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        self.entry.seconds = took.as_secs_f64();
        let metrics = &self.app.metrics;
        metrics.answered(self.route, self.entry.status, took);
        if let Some(log) = &self.app.config.log {
            log(&self.entry);
        }
    }
}

impl Entry {
    /// A request of which nothing is known yet; it counts as left by its client until it is
    /// answered.
    pub(super) fn now(client: Option<SocketAddr>) -> Self {
        // Log lines need no more than milliseconds.
        let now = OffsetDateTime::from(SystemTime::now());
        let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000);
        let time = now.map(|now| now.format(&Rfc3339));
        Self {
            time: match time {
                Ok(Ok(time)) => time,
                _ => "-".to_string(),
            },
            request_id: "-".into(),
            client,
            method: "-".into(),
            path: "-".into(),
            status: GONE,
            images: None,
            seconds: 0.0,
            error: Some("the connection was closed before the answer".into()),
        }
    }
}

/// The client's own id, if it can be logged, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    const LONGEST: usize = 128;
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match given.filter(is_plain) {
        Some(id) => id.to_string(),
        None => format!("{:016x}", rand::random::<u64>()),
    }
}
