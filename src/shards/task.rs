//! What is made of the images of shards.

use anyhow::{Context, Result};
use image::RgbImage;

use super::loading::Item;
use super::records::{Columns, Content, Record};
use crate::captioner::{CaptionText, Captioner, ImageEncoder, Rerank, Search};
use crate::models::clip::Preprocessing;

/// What is made of each image.
pub enum Task<'a> {
    /// Captions, with the text around them.
    Caption {
        captioner: &'a Captioner,
        search: &'a Search,
        text: &'a CaptionText,
    },
    /// Its embedding: projected, not normalized.
    Embed(&'a ImageEncoder),
}

impl Task<'_> {
    /// What is done to an image before CLIP sees it.
    pub fn preprocessing(&self) -> &Preprocessing {
        match self {
            Self::Caption { captioner, .. } => captioner.encoder.preprocessing(),
            Self::Embed(encoder) => encoder.preprocessing(),
        }
    }

    /// What records have besides their key.
    ///
    /// # Errors
    /// When the width of embeddings is not known.
    pub fn columns(&self) -> Result<Columns> {
        Ok(match self {
            Self::Caption { search, .. } => Columns::Captions {
                similarity: search.rerank == Rerank::Clip,
                consensus: search.rerank == Rerank::Consensus,
            },
            Self::Embed(encoder) => Columns::Embedding {
                width: encoder.dim()?,
            },
        })
    }

    /// The records of a batch, in its order; an image has one for each of its captions.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn records(&self, batch: Vec<Item>) -> Result<Vec<Record>> {
        let crops: Vec<RgbImage> = (batch.iter())
            .filter_map(|item| item.crop.as_ref().ok().cloned())
            .collect();
        let mut contents = self.contents(&crops)?.into_iter();
        let mut records = Vec::with_capacity(batch.len());
        for Item { key, member, crop } in batch {
            let contents = match crop {
                Ok(_) => contents.next().context("an image got no answer")?,
                Err(refused) => vec![Content::Error(refused)],
            };
            records.extend(contents.into_iter().map(|content| Record {
                key: key.clone(),
                member: member.clone(),
                content,
            }));
        }
        Ok(records)
    }

    fn contents(&self, crops: &[RgbImage]) -> Result<Vec<Vec<Content>>> {
        match self {
            Self::Embed(encoder) => {
                let embeddings = encoder.embed(crops)?.into_iter();
                Ok(embeddings
                    .map(|one| vec![Content::Embedding(one)])
                    .collect())
            }
            Self::Caption {
                captioner,
                search,
                text,
            } => {
                let found = captioner.caption_crops(crops, search)?.into_iter();
                let of_image = |captions: Vec<crate::captioner::Caption>| {
                    let ranked = captions.into_iter().enumerate();
                    ranked
                        .map(|(rank, mut caption)| {
                            caption.caption = text.of(&caption.caption);
                            Content::Caption { rank, caption }
                        })
                        .collect()
                };
                Ok(found.map(of_image).collect())
            }
        }
    }
}
