//! A part of a data set as it is trained or validated on: its items are put together when a batch asks for them, from
//! token ids in memory and embeddings in their file.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::data::dataset::{Dataset, DatasetError};

use super::config::{CaptionChoice, Ending};
use super::retrieval::Prompts;
use crate::data::batcher::{CaptionItem, Described, Pair};
use crate::data::embedding_file::Embedding;
use crate::data::source::CaptionedImage;
use crate::tokenizer::Tokenizer;

/// The captions of a data set as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizedCaptions {
    /// Of all captions, one after the other.
    ids: Vec<u32>,
    /// Where each caption's begin, and the end.
    captions: Vec<usize>,
    /// Where each image's captions begin, and the end.
    images: Vec<usize>,
    /// Tokens in all, before any was cut.
    pub tokens: usize,
    /// Tokens of the longest caption, before it was cut.
    pub longest: usize,
    /// Captions that were cut to fit.
    pub cut: usize,
}

impl TokenizedCaptions {
    /// Tokenizes all captions, once.
    ///
    /// `longest` is what fits GPT-2 after the prefix; longer captions lose their end.
    pub fn new(
        images: &[CaptionedImage],
        tokenizer: &Tokenizer,
        ending: Ending,
        longest: usize,
    ) -> Result<Self> {
        let mut found = Self {
            ids: Vec::new(),
            captions: vec![0],
            images: vec![0],
            tokens: 0,
            longest: 0,
            cut: 0,
        };
        for image in images {
            for caption in &image.captions {
                let mut tokens = caption_tokens(tokenizer, caption, ending)?;
                found.tokens += tokens.len();
                found.longest = found.longest.max(tokens.len());
                if tokens.len() > longest {
                    found.cut += 1;
                    tokens.truncate(longest);
                }
                found.ids.extend(tokens);
                found.captions.push(found.ids.len());
            }
            found.images.push(found.count());
        }
        Ok(found)
    }

    /// Captions in all.
    pub fn count(&self) -> usize {
        self.captions.len() - 1
    }

    /// Captions of an image.
    fn count_of(&self, image: usize) -> usize {
        self.images[image + 1] - self.images[image]
    }

    /// The token ids of one of an image's captions.
    fn get(&self, image: usize, caption: usize) -> &[u32] {
        let place = self.images[image] + caption;
        &self.ids[self.captions[place]..self.captions[place + 1]]
    }
}

/// A caption's tokens, none left out.
fn caption_tokens(tokenizer: &Tokenizer, caption: &str, ending: Ending) -> Result<Vec<u32>> {
    let tokens = match ending {
        Ending::AsItIs => tokenizer.encode(caption)?,
        Ending::FullStop => {
            let caption = caption.trim_end_matches([' ', '.']);
            tokenizer.encode(&format!("{caption}."))?
        }
    };
    Ok(tokens)
}

/// What captions are learned from.
#[derive(Clone, Debug)]
pub enum LearnedFrom {
    /// Their image's embedding; `None` of those that are not needed.
    Images(Arc<Vec<Option<Embedding>>>),
    /// Their own, by image.
    Captions(Arc<Vec<Vec<Embedding>>>),
}

/// Some of a data set's images.
pub struct PartItems {
    /// An image and, where each of its captions is an item, which.
    items: Vec<(usize, Option<usize>)>,
    /// Of the items that validation captions, what the captions are compared with.
    references: HashMap<usize, Arc<Described>>,
    tokens: Arc<TokenizedCaptions>,
    from: LearnedFrom,
    /// What is read before each caption.
    prompts: Option<Arc<Prompts>>,
}

impl PartItems {
    pub fn new(
        part: &[usize],
        tokens: &Arc<TokenizedCaptions>,
        from: LearnedFrom,
        choice: CaptionChoice,
    ) -> Self {
        let mut items = Vec::new();
        for &image in part {
            match choice {
                CaptionChoice::One => items.push((image, None)),
                CaptionChoice::All => {
                    items.extend((0..tokens.count_of(image)).map(|caption| (image, Some(caption))));
                }
            }
        }
        Self {
            items,
            references: HashMap::new(),
            tokens: tokens.clone(),
            from,
            prompts: None,
        }
    }

    /// The same part, whose captions are learned after others that are read.
    pub fn with_prompts(self, prompts: Option<Arc<Prompts>>) -> Self {
        Self { prompts, ..self }
    }

    /// The same part, whose first `count` images are also to be captioned.
    pub fn with_references(mut self, images: &[CaptionedImage], count: usize) -> Self {
        let mut before = None;
        for (place, &(image, _)) in self.items.iter().enumerate() {
            if self.references.len() == count {
                break;
            }
            if before.replace(image) != Some(image) {
                let captions = images[image].captions.clone();
                let described = Described { image, captions };
                self.references.insert(place, described.into());
            }
        }
        self
    }

    fn item(&self, place: usize) -> Result<CaptionItem> {
        let (image, caption) = self.items[place];
        let captions = match caption {
            Some(caption) => caption..caption + 1,
            None => 0..self.tokens.count_of(image),
        };
        let read = |embedding: &Embedding| -> Result<Arc<[f32]>> { Ok(embedding.read()?.into()) };
        let tokens = |caption| self.tokens.get(image, caption).to_vec();
        let prompt = |caption| match &self.prompts {
            Some(prompts) => prompts.get(image, caption).to_vec(),
            None => Vec::new(),
        };
        let pairs: Result<Vec<Pair>> = match &self.from {
            LearnedFrom::Images(rows) => {
                let row = rows[image].as_ref().context("an image was not embedded")?;
                let shared = read(row)?;
                let pair = |caption| Pair {
                    clip_embedding: shared.clone(),
                    caption: tokens(caption),
                    prompt: prompt(caption),
                };
                Ok(captions.map(pair).collect())
            }
            LearnedFrom::Captions(rows) => captions
                .map(|caption| {
                    Ok(Pair {
                        clip_embedding: read(&rows[image][caption])?,
                        caption: tokens(caption),
                        prompt: prompt(caption),
                    })
                })
                .collect(),
        };
        Ok(CaptionItem {
            pairs: pairs?,
            references: self.references.get(&place).cloned(),
        })
    }
}

impl Dataset<CaptionItem> for PartItems {
    fn get(&self, index: usize) -> Result<CaptionItem, DatasetError> {
        self.item(index)
            .map_err(|error| DatasetError::new(std::io::Error::other(format!("{error:#}"))))
    }

    fn len(&self) -> usize {
        self.items.len()
    }
}
