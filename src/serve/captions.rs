//! What the service asks for captions.

use anyhow::{Result, bail};
use image::RgbImage;

use super::settings::{Choices, Limits};
use crate::captioner::{Caption, Search};
use crate::explain::Explanation;

/// What captions images for the service.
///
/// [`Captions::crop`] and [`Captions::search`] are called from several threads,
/// [`Captions::caption`] from one, and [`Captions::explain`] from one at a time, while others caption. Where they panic, the
/// request that was answered has failed and the service goes on.
pub trait Captions: Send + Sync + 'static {
    /// The part of an image that the encoder looks at.
    fn crop(&self, image: &RgbImage) -> RgbImage;

    /// What a request asks for. Images of equal searches are captioned together.
    ///
    /// # Errors
    /// When the choices contradict each other, or are beyond the limits; the message says which.
    fn search(&self, choices: &Choices) -> Result<Search>;

    /// Captions that a request may ask for of an image.
    fn most_captions(&self) -> usize {
        Limits::default().num_captions
    }

    /// The captions of each crop, best first.
    ///
    /// # Errors
    /// When the device fails.
    fn caption(&self, crops: &[RgbImage], search: &Search) -> Result<Vec<Vec<Caption>>>;

    /// Whether captions are explained: `POST /explain` answers 501 with the reason where they are not, and the page offers
    /// none.
    ///
    /// # Errors
    /// When they are not, as they are not unless this is written.
    fn explains(&self) -> Result<()> {
        bail!("this service explains nothing")
    }

    /// Where a caption of a crop came from: of those that [`Captions::caption`] gives the one of `rank`, the best being 0.
    /// `None` where there are not so many.
    ///
    /// # Errors
    /// When the device fails, or nothing is explained.
    fn explain(
        &self,
        crop: &RgbImage,
        search: &Search,
        rank: usize,
    ) -> Result<Option<Explanation>> {
        let _ = (crop, search, rank);
        self.explains().map(|()| None)
    }
}
