//! What the service asks for captions.

use anyhow::Result;
use image::RgbImage;

use super::settings::Choices;
use crate::captioner::Caption;
use crate::decode::DecodeConfig;

/// What captions images for the service.
///
/// [`Captions::crop`] and [`Captions::settings`] are called from several threads,
/// [`Captions::caption`] from one. Where they panic, the request that was answered has failed and
/// the service goes on.
pub trait Captions: Send + Sync + 'static {
    /// The part of an image that the encoder looks at.
    fn crop(&self, image: &RgbImage) -> RgbImage;

    /// What a request asks for.
    ///
    /// # Errors
    /// When the choices contradict each other, or are beyond the limits; the message says which.
    fn settings(&self, choices: &Choices) -> Result<Settings>;

    /// The captions of each crop, best first.
    ///
    /// # Errors
    /// When the device fails.
    fn caption(&self, crops: &[RgbImage], settings: &Settings) -> Result<Vec<Vec<Caption>>>;
}

/// What is asked for. Images with the same settings are captioned together.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How captions are searched.
    pub decode: DecodeConfig,
    /// Captions given an image, of those that the search finds.
    pub num_captions: usize,
}
