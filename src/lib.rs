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
//! use std::path::Path;
//! use clipcap::{captioner::Captioner, decode::Strategy, device::DeviceChoice, images};
//!
//! # fn main() -> anyhow::Result<()> {
//! let device = DeviceChoice::Auto.resolve()?;
//! let captioner = Captioner::load(Path::new("model/sample"), &device)?;
//! let config = captioner.reader.decode_config(Strategy::Greedy);
//! let image = images::open(Path::new("photo.jpg"))?;
//! println!("{}", captioner.caption(&image, &config)?.caption);
//! # Ok(())
//! # }
//! ```

// burn's generic types nest deeply.
#![recursion_limit = "256"]

pub mod captioner;
pub mod catalog;
pub mod convert;
pub mod data;
pub mod decode;
pub mod device;
pub mod engine;
pub mod evaluate;
pub mod files;
pub mod guard;
pub mod html;
pub mod hub;
pub mod images;
pub mod inputs;
pub mod models;
pub mod nn;
pub mod path_text;
pub mod pretrain;
pub mod probe;
pub mod results;
pub mod sample_model;
pub mod serve;
pub mod suggest;
pub mod tokenizer;
pub mod train;
pub mod vector;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The book's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/src/library.md")]
struct LibraryGuide;
