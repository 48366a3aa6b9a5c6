//! What the service counts, in Prometheus' text format.

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of seconds that requests take.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Upper bounds of images captioned together.
const BATCHES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    path: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    path: &'static str,
}

/// What the service counts.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    seconds: Family<Path, Histogram>,
    images: Family<Outcome, Counter>,
    batches: Histogram,
    waiting: Gauge,
    connections: Gauge,
    evicted: Counter,
    held: Gauge,
}

/// What is true at the moment of asking.
pub(super) struct Now {
    /// Images in the queue.
    pub waiting: usize,
    /// Open connections.
    pub connections: usize,
    /// Bytes of bodies in memory.
    pub held: usize,
}

impl Metrics {
    pub fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("clipcap")),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            images: Family::default(),
            batches: Histogram::new(BATCHES),
            waiting: Gauge::default(),
            connections: Gauge::default(),
            evicted: Counter::default(),
            held: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = lock(&self.registry);
        let registry = &mut *registry;
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Seconds from a request's head to its answer",
            self.seconds.clone(),
        );
        registry.register(
            "images",
            "Images captioned, failed or refused for want of room",
            self.images.clone(),
        );
        registry.register(
            "batch_images",
            "Images captioned together",
            self.batches.clone(),
        );
        registry.register(
            "queue_images",
            "Images that wait to be captioned",
            self.waiting.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register(
            "connections_evicted",
            "Connections closed, without a whole request, to make room for others",
            self.evicted.clone(),
        );
        registry.register(
            "body_bytes",
            "Bytes of requests' bodies in memory",
            self.held.clone(),
        );
    }

    /// A request was answered.
    pub fn answered(&self, path: &'static str, status: u16, took: Duration) {
        let answered = Answered { path, status };
        self.requests.get_or_create(&answered).inc();
        let path = Path { path };
        let seconds = self.seconds.get_or_create(&path);
        seconds.observe(took.as_secs_f64());
    }

    /// So many images were captioned.
    pub fn captioned(&self, images: usize) {
        self.count("captioned", images);
    }

    /// So many images could not be decoded or captioned.
    pub fn failed(&self, images: usize) {
        self.count("failed", images);
    }

    /// There was no room for so many images.
    pub fn refused(&self, images: usize) {
        self.count("refused", images);
    }

    fn count(&self, outcome: &'static str, images: usize) {
        let counter = self.images.get_or_create(&Outcome { outcome });
        counter.inc_by(images as u64);
    }

    /// So many images are captioned together.
    pub fn batch(&self, images: usize) {
        self.batches.observe(images as f64);
    }

    /// A connection was closed to make room.
    pub fn evicted(&self) {
        self.evicted.inc();
    }

    /// All of it, as text.
    pub fn text(&self, now: &Now) -> String {
        self.waiting.set(now.waiting as i64);
        self.connections.set(now.connections as i64);
        self.held.set(now.held as i64);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &lock(&self.registry));
        text
    }
}

fn lock(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    registry
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
