//! Image captioning by CLIP, a mapper and GPT-2, on burn.
//!
//! ```text
//!          clip                mapper               gpt2
//! image ---------> embedding ---------> prefix ---------> caption
//!        [3, n, n]          [clip_dim]         [prefix_length, n_embd]
//! ```
//!
//! A frozen CLIP encoder reads the image; a mapper, the part that is trained, turns its embedding into vectors in
//! GPT-2's embedding space; GPT-2 reads them as if they were words and goes on with a caption. After ClipCap (Mokady et
//! al. 2021, <https://arxiv.org/abs/2111.09734>) and CapDec (Nukrai et al. 2022, <https://arxiv.org/abs/2211.00575>).
//!
//! ```no_run
//! use clipcap::{CaptionOptions, Captioner};
//!
//! # fn main() -> anyhow::Result<()> {
//! let captioner = Captioner::load("model/sample")?;
//! let image = clipcap::images::open("photo.jpg")?;
//! println!("{}", captioner.caption(&image)?.caption);
//!
//! let options = CaptionOptions::beam(5).num_captions(3).max_length(20);
//! for caption in &captioner.caption_batch(&[image], &options)?[0] {
//!     println!("{:.3} {}", caption.score, caption.caption);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What most programs need is re-exported here: [`Captioner`] and [`CaptionOptions`], [`ImageEncoder`] for embeddings,
//! [`Trainer`] to train, [`Evaluation`] to score, and what they are given. The modules have the rest; those that are
//! hidden in this documentation may change in any version.
//!
//! # Features
//!
//! `cli` (the program), `serve` (the HTTP service), `hub` (downloads) and `report` (curves as images) are on by default;
//! `default-features = false` leaves burn on the CPU and everything that captions, trains and scores. `wgpu`, `vulkan`,
//! `metal`, `cuda` and `rocm` add backends.

// burn's generic types nest deeply.
#![recursion_limit = "256"]

pub mod captioner;
#[cfg(feature = "hub")]
pub mod catalog;
pub mod convert;
pub mod data;
pub mod datasets;
pub mod decode;
pub mod device;
#[doc(hidden)]
pub mod engine;
pub mod evaluate;
pub mod explain;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod guard;
#[doc(hidden)]
pub mod html;
#[cfg(feature = "hub")]
pub mod hub;
pub mod images;
pub mod inputs;
pub mod models;
#[doc(hidden)]
pub mod nn;
#[doc(hidden)]
pub mod path_text;
pub mod pretrain;
pub mod probe;
pub mod results;
pub mod retrieve;
pub mod sample_model;
pub mod search;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shards;
#[doc(hidden)]
pub mod suggest;
pub mod tokenizer;
pub mod train;
pub mod trainer;
#[doc(hidden)]
pub mod vector;

pub use captioner::{Caption, CaptionOptions, Captioner, CaptionerBuilder, ImageEncoder};
#[cfg(feature = "hub")]
pub use catalog::Catalog;
pub use decode::Strategy;
pub use device::{DeviceChoice, Devices, Precision};
pub use evaluate::score::Evaluation;
pub use explain::{ExplainOptions, Explanation};
pub use train::Trainer;
pub use train::caption::Trained;
pub use train::config::{TrainConfig, TrainData};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The book's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/src/library.md")]
struct LibraryGuide;
