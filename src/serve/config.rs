//! What is served, and how much of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::log::Entry;

const MEGABYTE: usize = 1024 * 1024;

/// Takes the log's entries, one a request. It is called where requests are answered, so it must not
/// wait.
pub type LogFn = Arc<dyn Fn(&Entry) + Send + Sync>;

/// What is served, and how much of it.
#[derive(Clone)]
pub struct ServiceConfig {
    /// What the page calls the model.
    pub model: String,
    /// Images captioned together.
    pub batch_size: usize,
    /// Bytes of the largest image file.
    pub max_image_bytes: usize,
    /// Bytes of the largest body that holds images in another form: multipart or JSON.
    pub max_body_bytes: usize,
    /// Bytes of all bodies that are in memory at a time.
    pub max_held_bytes: usize,
    /// Images in one request; never more than `queue_length`.
    pub max_images: usize,
    /// Images that may wait to be captioned.
    pub queue_length: usize,
    /// Connections at a time. Beyond them, the one that has sent no request for the longest time is
    /// closed.
    pub max_connections: usize,
    /// How long a client may take.
    pub deadlines: Deadlines,
    /// Origins whose pages may read the answers, as browsers send them; `*` is all.
    pub allow_origins: Vec<String>,
    /// Bearer tokens, one of which requests for captions and metrics must carry; none: everybody
    /// may ask.
    pub tokens: Vec<String>,
    /// Takes the log's entries.
    pub log: Option<LogFn>,
}

/// How long a client may take, from the first byte to the last: no byte renews a deadline.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the connection to the end of the first request's head.
    pub head: Duration,
    /// From the end of a request's head to the end of its body.
    pub body: Duration,
    /// From an answer, which the client must take, to the end of the next request's head.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

impl ServiceConfig {
    /// A model's service with moderate limits, without a log, open to everybody who reaches it.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            batch_size: 16,
            max_image_bytes: 20 * MEGABYTE,
            max_body_bytes: 64 * MEGABYTE,
            max_held_bytes: 256 * MEGABYTE,
            max_images: 64,
            queue_length: 128,
            max_connections: 512,
            deadlines: Deadlines::default(),
            allow_origins: Vec::new(),
            tokens: Vec::new(),
            log: None,
        }
    }
}

impl fmt::Debug for ServiceConfig {
    /// Without the tokens, which are secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServiceConfig")
            .field("model", &self.model)
            .field("batch_size", &self.batch_size)
            .field("max_image_bytes", &self.max_image_bytes)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("max_held_bytes", &self.max_held_bytes)
            .field("max_images", &self.max_images)
            .field("queue_length", &self.queue_length)
            .field("max_connections", &self.max_connections)
            .field("deadlines", &self.deadlines)
            .field("allow_origins", &self.allow_origins)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}
