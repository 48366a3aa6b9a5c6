//! The metrics of the COCO caption evaluation: strings in, numbers out.
//!
//! Captions are tokenized as pycocoevalcap does it ([`ptb`]), and every score is the number it prints. SPICE alone is out
//! of reach: it parses captions with Stanford's dependency parser, whose models are some 400 MB.
//!
//! ```
//! use caption_metrics::{Corpus, Sample, cider, rouge};
//!
//! let image = |candidate: &str, reference: &str| Sample {
//!     candidate: candidate.into(),
//!     references: vec![reference.into()],
//! };
//! let corpus = Corpus::new(&[
//!     image("A dog runs.", "A dog is running."),
//!     image("Two cats.", "Two cats!"),
//! ]);
//! let frequencies = cider::Frequencies::of(&corpus);
//! assert!((cider::score(&corpus, &frequencies).per_image(1)[0] - 5.0).abs() < 1e-9);
//! assert!(rouge::score(&corpus).overall()[0] > 0.5);
//! ```

pub mod bleu;
pub mod bootstrap;
pub mod cider;
mod corpus;
pub mod diversity;
pub mod meteor;
mod ngrams;
pub mod ptb;
pub mod rouge;
pub mod scores;

pub use corpus::{Corpus, Sample};
pub use scores::Scores;
