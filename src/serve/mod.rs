//! Captions over HTTP, and a page to drop images on.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | the page |
//! | `POST /caption`, an image file as its body, a form or JSON | `{"captions": [{"caption", "tokens", "log_prob", "score"}, ..]}`, best first |
//! | the same with several images | `{"images": [{"image", "captions"} or {"image", "error"}, ..]}` |
//! | `POST /explain?rank=N`, one image | where each token of a caption came from, as [`crate::explain`] has it |
//! | `GET /health` | `{"model"}` |
//! | `GET /metrics` | counters for Prometheus |
//! | `GET /openapi.json` | all of this for programs |
//!
//! What goes wrong is `{"error"}` with a status of 400 and up. Connections are tasks on a few
//! threads, so that one that is slow or silent costs no more than its socket; as many images are
//! decoded at a time as there are cores; one more thread captions, everything that waits for it
//! together.
//!
//! ```text
//! server        addresses, and the end
//! connections   how many, and which makes room
//! connection    deadlines; HTTP is hyper's
//! log, router   ids, CORS, tokens, paths
//! explain       receive -> upload, settings -> one at a time
//! caption       receive -> upload, settings -> queue -> captions
//! ```

mod answer;
mod app;
mod caption;
mod captions;
mod config;
mod connection;
mod connections;
mod explain;
mod log;
mod metrics;
mod model;
mod openapi;
mod queue;
mod receive;
mod router;
mod server;
mod settings;
mod upload;

pub use captions::Captions;
pub use config::{Deadlines, LogFn, ServiceConfig};
pub use log::Entry;
pub use model::{Model, Searches};
pub use router::check_origins;
pub use server::{Listening, Service, Stop};
pub use settings::{Choices, Decode, Limits};
