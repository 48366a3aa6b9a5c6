//! What all requests share.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::captions::Captions;
use super::config::ServiceConfig;
use super::connections::Connections;
use super::metrics::{Metrics, Now};
use super::openapi;
use super::queue::Queue;
use super::receive::Memory;
use super::settings::{Choices, Decode};
use crate::decode::Strategy;
use crate::explain::report;
use crate::html;

/// What all requests share.
pub(super) struct App {
    pub config: ServiceConfig,
    pub captions: Arc<dyn Captions>,
    pub queue: Queue,
    pub metrics: Arc<Metrics>,
    pub connections: Arc<Connections>,
    /// Memory for requests' bodies.
    pub memory: Memory,
    /// As many as images may be decoded at a time.
    pub decoders: Arc<Semaphore>,
    /// One, for the image that is being explained.
    pub explainer: Arc<Semaphore>,
    pub page: String,
    pub openapi: String,
    /// Of the tokens their checksums, which take the same time to compare whatever the token.
    tokens: Vec<[u8; 32]>,
}

impl App {
    /// Starts the thread that captions.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn new(captions: Arc<dyn Captions>, mut config: ServiceConfig) -> Result<Self> {
        config.queue_length = config.queue_length.max(1);
        config.max_images = config.max_images.clamp(1, config.queue_length);
        let metrics = Arc::new(Metrics::new());
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let page = page(&config, searches(&*captions))?;
        Ok(Self {
            queue: Queue::start(
                captions.clone(),
                config.queue_length,
                config.batch_size,
                metrics.clone(),
            )?,
            captions,
            connections: Arc::new(Connections::new(config.max_connections, metrics.clone())),
            metrics,
            memory: Memory::new(config.max_held_bytes),
            decoders: Arc::new(Semaphore::new(cores)),
            explainer: Arc::new(Semaphore::new(1)),
            page,
            openapi: openapi::document(&config)?,
            tokens: config.tokens.iter().map(|token| checksum(token)).collect(),
            config,
        })
    }

    /// Whether a request may be answered, by its headers.
    pub fn is_authorized(&self, headers: &HeaderMap) -> bool {
        if self.tokens.is_empty() {
            return true;
        }
        let token = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        token.is_some_and(|token| self.tokens.contains(&checksum(token)))
    }

    /// What the service has counted, as text.
    pub fn metrics_text(&self) -> String {
        self.metrics.text(&Now {
            waiting: self.queue.waiting(),
            connections: self.connections.open(),
            held: self.memory.held(),
        })
    }
}

/// For the page: of each search how many captions it gives by itself and at most, as `own` the service's, and whether captions
/// are explained.
fn searches(captions: &dyn Captions) -> Value {
    let limit = captions.most_captions();
    let choices = |decode| Choices {
        decode,
        ..Choices::default()
    };
    let search = |decode| {
        let search = captions.search(&choices(Some(decode))).ok();
        let found = search.as_ref().map_or(1, |search| search.num_captions);
        let most = match decode {
            Decode::Greedy => 1,
            Decode::Beam => {
                let beams = search.map_or(limit, |search| search.decode.strategy.found());
                limit.min(beams)
            }
            Decode::Sample => limit,
        };
        json!({"captions": found, "most": most})
    };
    let own = captions.search(&choices(None));
    let own = own.map_or("greedy", |search| match search.decode.strategy {
        Strategy::Greedy => "greedy",
        Strategy::Beam { .. } | Strategy::HfBeam(_) => "beam",
        Strategy::Sample(_) => "sample",
    });
    json!({
        "own": own,
        "explains": captions.explains().is_ok(),
        "greedy": search(Decode::Greedy),
        "beam": search(Decode::Beam),
        "sample": search(Decode::Sample),
    })
}

fn page(config: &ServiceConfig, searches: Value) -> Result<String> {
    let parts = [
        ("model", html::escape(&config.model)),
        ("searches", searches.to_string()),
        ("style", report::STYLE.to_string()),
        ("explained", report::SCRIPT.to_string()),
        ("script", include_str!("page.js").to_string()),
    ];
    html::fill(include_str!("page.html"), &parts)
}

fn checksum(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
