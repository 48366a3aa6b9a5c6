//! Training with retrieved captions (SmallCap): the datastore, and what GPT-2 reads before each caption that it learns.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::caption::TrainContext;
use super::config::TrainConfig;
use super::dataset::Dataset;
use super::embedder::Embedder;
use super::part::LearnedFrom;
use crate::captioner::model_folder::ModelFolder;
use crate::captioner::{CAPTION_ROOM, Memory, Own};
use crate::data::embedding_file::Embedding;
use crate::data::source::CaptionedImage;
use crate::retrieve::{Builder, Datastore, EXACT_BELOW, Entry, FOLDER, Kind, is_finished};
use crate::tokenizer::Tokenizer;

/// Captions looked up together.
const TOGETHER: usize = 256;
/// Captions added to a datastore together.
const ADDED: usize = 1024;

/// A datastore, and what was looked up in it.
pub struct Retrieval {
    pub datastore: Arc<Datastore>,
    pub memory: Memory,
    pub prompts: Arc<Prompts>,
}

/// The tokens that GPT-2 reads before each caption.
#[derive(Debug)]
pub struct Prompts {
    tokens: Vec<Vec<u32>>,
    /// Where each image's begin, and the end: one for all its captions, or one for each.
    starts: Vec<usize>,
}

impl Prompts {
    /// What stands before one of an image's captions.
    pub fn get(&self, image: usize, caption: usize) -> &[u32] {
        let own = &self.tokens[self.starts[image]..self.starts[image + 1]];
        match own {
            [] => &[],
            own => &own[caption.min(own.len() - 1)],
        }
    }

    /// Tokens of the longest.
    pub fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Opens the datastore, or builds one of the training part's captions in the run's folder, and looks up what every caption of
/// the data set is to be learned after. An image's own captions are never found. `positions`: GPT-2's.
///
/// # Errors
/// When the datastore cannot be had or is another encoder's, or not one caption fits.
pub fn prepare(
    config: &TrainConfig,
    context: &TrainContext,
    encoder: &ModelFolder,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Option<Retrieval>> {
    let Some(retrieve) = &config.retrieve else {
        return Ok(None);
    };
    let path = match &retrieve.index {
        Some(index) => index.clone(),
        None => {
            let path = context.folder.join(FOLDER);
            if !is_finished(&path) {
                build(&path, context, encoder, dataset)?;
            }
            path
        }
    };
    let datastore = Datastore::open(&path)?;
    datastore.check_encoder(&encoder.encoder_identity()?)?;
    let datastore = Arc::new(datastore);
    let memory = Memory::new(datastore.clone(), retrieve.captions, None)?;
    let Some(room) = positions.checked_sub(config.prefix_length + CAPTION_ROOM) else {
        bail!(
            "a prefix of {} leaves no room for retrieved captions in GPT-2's {positions} positions: use a shorter one",
            config.prefix_length
        );
    };
    (context.report)(&format!(
        "looking up {} captions an image among {} of {}",
        retrieve.captions,
        datastore.len(),
        path.display()
    ));
    let prompts = look_up(&memory, dataset, tokenizer, room)?;
    Ok(Some(Retrieval {
        datastore,
        memory,
        prompts: Arc::new(prompts),
    }))
}

/// A datastore of the training part's captions.
fn build(
    path: &std::path::Path,
    context: &TrainContext,
    folder: &ModelFolder,
    dataset: &Dataset,
) -> Result<()> {
    let report = &context.report;
    let note = |line: &str| report(line);
    let identity = folder.encoder_identity()?;
    let mut builder = Builder::open(
        path,
        Kind::Captions,
        identity,
        false,
        "the training part's captions",
        &note,
    )?;
    let images: Vec<CaptionedImage> = (dataset.splits.train.iter())
        .map(|&index| dataset.images[index].clone())
        .collect();
    let embedder = Embedder::new(folder, context.dataset, context.devices.main(), report)?;
    embedder.check_texts()?;
    let embeddings = embedder.captions(&images)?;
    let mut rows = Vec::with_capacity(ADDED);
    for (image, embeddings) in images.iter().zip(&embeddings) {
        for (caption, embedding) in image.captions.iter().zip(embeddings) {
            let entry = Entry {
                entry: caption.clone(),
                image: Some(image.id.to_string()),
            };
            rows.push((entry, embedding.read()?));
        }
        if rows.len() >= ADDED {
            builder.add(rows.drain(..))?;
        }
    }
    builder.add(rows)?;
    builder.finish(EXACT_BELOW, &note)?;
    Ok(())
}

/// The prompts of all captions: by their image's embedding, or by their own where that is learned from.
fn look_up(
    memory: &Memory,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    room: usize,
) -> Result<Prompts> {
    // What is looked up, and for which image.
    let (mut queries, mut starts): (Vec<(&Embedding, usize)>, _) = (Vec::new(), vec![0]);
    let learned_from = dataset.learned_from();
    for image in 0..dataset.images.len() {
        match &learned_from {
            LearnedFrom::Images(rows) => queries.extend(rows[image].iter().map(|row| (row, image))),
            LearnedFrom::Captions(rows) => {
                queries.extend(rows[image].iter().map(|row| (row, image)))
            }
        }
        starts.push(queries.len());
    }
    let ids: Vec<String> = (dataset.images.iter())
        .map(|image| image.id.to_string())
        .collect();
    let mut tokens = Vec::with_capacity(queries.len());
    for queries in queries.chunks(TOGETHER) {
        let rows: Vec<Vec<f32>> = (queries.iter())
            .map(|(row, _)| row.read())
            .collect::<Result<_>>()
            .context("looking up captions")?;
        let own: Vec<Own> = (queries.iter())
            .map(|&(_, image)| Own {
                id: &ids[image],
                captions: &dataset.images[image].captions,
            })
            .collect();
        tokens.extend(memory.prompts(&rows, &own, tokenizer, room)?);
    }
    Ok(Prompts { tokens, starts })
}
