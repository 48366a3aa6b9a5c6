//! Scoring captions: files in, checked; scores, comparisons and a report out.
//!
//! ```text
//! read ------> score ------> table, report
//! candidates   metrics       text, Markdown, JSON, HTML
//! references      \--------> compare
//! ```
//!
//! Two parts need a model: [`model`] captions what is then scored, and [`clip_score`] lets CLIP judge. SPICE is not here:
//! it needs Stanford's dependency parser with some 400 MB of models.

pub mod baselines;
mod chart;
pub mod clip_score;
pub mod compare;
mod entries;
pub mod ids;
pub mod model;
pub mod read;
mod references;
pub mod report;
pub mod score;
pub mod table;
