//! What is explained, how, and in how many parts of the image.

use anyhow::{Result, bail, ensure};

use super::{Grid, Method};
use crate::captioner::{CaptionOptions, Modules};

/// Cells a side where the encoder has no patches.
const CELLS: usize = 8;
/// Cells a side at most where nothing else is asked for: each costs a look at the image.
const MOST_CELLS: usize = 16;

/// Cells a side at most where they are asked for.
const FINEST: usize = 64;

/// What is explained, and how. The default is the greedy caption, by attention where the encoder has any.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainOptions {
    pub(super) captions: CaptionOptions,
    pub(super) method: Option<Method>,
    pub(super) cells: Option<usize>,
    pub(super) alternatives: usize,
    pub(super) neighbors: usize,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        Self {
            captions: CaptionOptions::default(),
            method: None,
            cells: None,
            alternatives: 5,
            neighbors: 5,
        }
    }
}

impl ExplainOptions {
    /// How the caption is found; of several the best is explained.
    #[must_use]
    pub fn captions(self, captions: CaptionOptions) -> Self {
        Self { captions, ..self }
    }

    /// How the relevance of the image's parts is found.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self {
            method: Some(method),
            ..self
        }
    }

    /// Cells a side that occlusion covers, instead of the encoder's patches or at most 16.
    #[must_use]
    pub fn cells(self, cells: usize) -> Self {
        Self {
            cells: Some(cells),
            ..self
        }
    }

    /// Alternatives given for each token.
    #[must_use]
    pub fn alternatives(self, alternatives: usize) -> Self {
        Self {
            alternatives,
            ..self
        }
    }

    /// Nearest tokens given for each prefix vector.
    #[must_use]
    pub fn neighbors(self, neighbors: usize) -> Self {
        Self { neighbors, ..self }
    }

    /// # Errors
    /// When a value makes no sense for any model.
    pub fn validate(&self) -> Result<()> {
        if let Some(cells) = self.cells {
            ensure!(
                (1..=FINEST).contains(&cells),
                "{cells} cells a side are asked for: ask for 1 to {FINEST}"
            );
        }
        Ok(())
    }

    /// The method for an encoder that looks at squares of `pixels` a side, and its grid.
    pub(super) fn resolve(&self, modules: &Modules, pixels: usize) -> Result<(Method, Grid)> {
        let clip = modules
            .clip
            .as_ref()
            .and_then(|clip| clip.vision_model.as_ref());
        let patches = clip.map(|vit| {
            let [positions, _] = vit.embeddings.position_embedding.weight.dims();
            (positions - 1).isqrt()
        });
        match (self.method, patches) {
            (None | Some(Method::Attention), Some(side)) => {
                ensure!(
                    self.cells.is_none_or(|cells| cells == side),
                    "attention is between CLIP's patches, of which there are {side} a side: other cells are occlusion's"
                );
                Ok((Method::Attention, Grid { side }))
            }
            (Some(Method::Attention), None) => bail!(
                "the model's image encoder is no vision transformer, and has no attention to explain: use occlusion"
            ),
            (None | Some(Method::Occlusion), _) => {
                let usual = patches.unwrap_or(CELLS).min(MOST_CELLS).min(pixels);
                let side = self.cells.unwrap_or(usual);
                let most = pixels.min(FINEST);
                ensure!(
                    (1..=most).contains(&side),
                    "{side} cells a side are asked for: ask for 1 to {most}"
                );
                Ok((Method::Occlusion, Grid { side }))
            }
        }
    }
}
