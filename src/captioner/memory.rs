//! What a captioner looks up in a datastore before it captions: captions of similar images for GPT-2 to read (SmallCap), or
//! the sentence's embedding that stands for an image's (DeCap).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::model_folder::ModelFolder;
use super::prompt;
use crate::retrieve::{Datastore, Entry, FOLDER, Kind};
use crate::tokenizer::Tokenizer;

/// Hits asked for beside those wanted, for some are too long.
const SPARE: usize = 8;

/// Most captions that GPT-2 is shown: more would not fit its positions.
const MOST: usize = 100;

/// # Errors
/// When so many captions fit no GPT-2.
pub(crate) fn check_retrieved(count: usize) -> Result<()> {
    ensure!(
        count <= MOST,
        "{count} captions are to be retrieved: give at most {MOST}"
    );
    Ok(())
}

/// What is asked of a datastore.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryOptions {
    /// The datastore's folder, instead of the model's own.
    pub index: Option<PathBuf>,
    /// Captions that GPT-2 is shown, instead of as many as the model was trained with; 0 for none.
    pub retrieve: Option<usize>,
    /// Projects the image's embedding with this temperature.
    pub project: Option<f32>,
}

/// An open datastore, and what to do with it.
#[derive(Clone, Debug)]
pub struct Memory {
    datastore: Arc<Datastore>,
    /// Captions that GPT-2 is shown.
    retrieve: usize,
    /// The temperature of the projection.
    project: Option<f32>,
}

/// The image that a lookup is for, whose own captions are not to be found.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub id: &'a str,
    /// They are left out where the datastore does not know whose they are.
    pub captions: &'a [String],
}

impl Own<'_> {
    /// Whether an entry is none of the image's own.
    pub fn allows(&self, entry: &Entry) -> bool {
        match &entry.image {
            Some(image) => image != self.id,
            None => !self.captions.contains(&entry.entry),
        }
    }
}

impl MemoryOptions {
    /// # Errors
    /// When a value makes no sense for any model.
    pub fn validate(&self) -> Result<()> {
        if let Some(temperature) = self.project {
            ensure!(
                temperature > 0.0 && temperature.is_finite(),
                "the temperature of the projection is {temperature}: give a number above 0"
            );
        }
        check_retrieved(self.retrieve.unwrap_or(0))
    }

    /// Opens what is asked for, or what the model was trained with; `None` where that is nothing.
    ///
    /// # Errors
    /// When there is no datastore, or one that does not fit; the message says what to do.
    pub fn open(&self, folder: &ModelFolder) -> Result<Option<Memory>> {
        self.validate()?;
        let config = folder.captioner_config()?;
        let retrieve = self.retrieve.or(config.retrieve).unwrap_or(0);
        if retrieve == 0 && self.project.is_none() {
            return Ok(None);
        }
        check_retrieved(retrieve)?;
        let own = folder.path.join(FOLDER);
        let path = match &self.index {
            Some(index) => index.clone(),
            None if own.is_dir() => own,
            None if self.retrieve.is_none() && self.project.is_none() => bail!(
                "{} was trained to read the {retrieve} nearest captions of a datastore, and has none in its folder: name one with `--index`, or do without by `--retrieve 0`",
                folder.path.display()
            ),
            None => bail!(
                "{} has no datastore in its folder: name one with `--index`; `clipcap index` builds it",
                folder.path.display()
            ),
        };
        if self.project.is_some() && !config.normalize_embedding {
            bail!(
                "memory projection gives embeddings of length 1, and {} was trained on others: train it without `--no-normalize`",
                folder.path.display()
            );
        }
        let datastore = Datastore::open(&path)?;
        datastore.check_encoder(&folder.encoder_identity()?)?;
        Memory::new(Arc::new(datastore), retrieve, self.project).map(Some)
    }
}

impl Memory {
    /// A datastore of captions, how many of them GPT-2 is shown, and the temperature of the projection.
    ///
    /// # Errors
    /// When the datastore holds no captions.
    pub fn new(datastore: Arc<Datastore>, retrieve: usize, project: Option<f32>) -> Result<Self> {
        datastore.check_kind(Kind::Captions, "retrieval for captions")?;
        Ok(Self {
            datastore,
            retrieve,
            project,
        })
    }

    /// Whether GPT-2 is shown captions.
    pub fn has_prompts(&self) -> bool {
        self.retrieve > 0
    }

    /// Whether embeddings are projected on the captions'.
    pub fn projects(&self) -> bool {
        self.project.is_some()
    }

    /// Embeddings as the mapper is to read them.
    ///
    /// # Errors
    /// As [`Datastore::project`].
    pub fn embeddings(&self, embeddings: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        match self.project {
            Some(temperature) => self.datastore.project(embeddings, temperature),
            None => Ok(embeddings.to_vec()),
        }
    }

    /// The captions nearest to each embedding, nearest first, some more than GPT-2 is shown. Those of an image itself are left
    /// out where `own` says which it is: none, or one an embedding.
    ///
    /// # Errors
    /// As [`Datastore::nearest`].
    pub fn captions(&self, embeddings: &[Vec<f32>], own: &[Own]) -> Result<Vec<Vec<&str>>> {
        let keep = |query: usize, row: usize| {
            (own.get(query)).is_none_or(|own| own.allows(self.datastore.entry(row)))
        };
        let wanted = self.retrieve + SPARE;
        let hits = self.datastore.nearest(embeddings, wanted, &keep)?;
        let texts = hits.into_iter().map(|hits| {
            let texts = hits.into_iter();
            texts
                .map(|hit| self.datastore.entry(hit.row).entry.as_str())
                .collect()
        });
        Ok(texts.collect())
    }

    /// The tokens that GPT-2 reads before the caption of each embedding, at most `room` of them.
    ///
    /// # Errors
    /// As [`Self::captions`], or when not one caption fits.
    pub fn prompts(
        &self,
        embeddings: &[Vec<f32>],
        own: &[Own],
        tokenizer: &Tokenizer,
        room: usize,
    ) -> Result<Vec<Vec<u32>>> {
        (self.captions(embeddings, own)?.iter())
            .map(|captions| prompt::tokens(tokenizer, captions, self.retrieve, room))
            .collect()
    }
}
