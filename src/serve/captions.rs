//! What the service asks for captions.

use anyhow::Result;
use image::RgbImage;

use super::settings::Choices;
use crate::captioner::{Caption, Search};

/// What captions images for the service.
///
/// [`Captions::crop`] and [`Captions::search`] are called from several threads,
/// [`Captions::caption`] from one. Where they panic, the request that was answered has failed and
/// the service goes on.
pub trait Captions: Send + Sync + 'static {
    /// The part of an image that the encoder looks at.
    fn crop(&self, image: &RgbImage) -> RgbImage;

    /// What a request asks for. Images of equal searches are captioned together.
    ///
    /// # Errors
    /// When the choices contradict each other, or are beyond the limits; the message says which.
    fn search(&self, choices: &Choices) -> Result<Search>;

    /// The captions of each crop, best first.
    ///
    /// # Errors
    /// When the device fails.
    fn caption(&self, crops: &[RgbImage], search: &Search) -> Result<Vec<Vec<Caption>>>;
}
