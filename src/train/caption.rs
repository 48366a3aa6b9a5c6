//! Training a captioner, from a configuration to a run folder with a model and captions of the test part.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::optim::AdamWConfig;
use burn::tensor::Device;
use burn::train::Interrupter;
use serde::Serialize;
use serde_json::json;

use super::config::{CaptionChoice, TrainConfig, TrainData};
use super::dashboard::{Report, Ui};
use super::fit::{FitConfig, Fitted, fit};
use super::learner::CaptionLearner;
use crate::caption_model::CaptionModel;
use crate::captioner::{CaptionReader, ImageEncoder};
use crate::data::batcher::{CaptionBatch, CaptionBatcher, CaptionItem};
use crate::data::coco::{CaptionResult, CaptionedImage, CocoCaptions, write_results};
use crate::data::noise::normalize;
use crate::data::split::Splits;
use crate::data::{embeddings, scenes};
use crate::decode::Strategy;
use crate::evaluate::score::validate;
use crate::files;
use crate::mapper::MapperConfig;
use crate::metrics::Sample;
use crate::model_folder::{self, CaptionerConfig, ModelFolder, Part};
use crate::tokenizer::{Tokenizer, TokenizerKind};

/// Where the sample and what is derived from data is kept.
pub const DATASET: &str = "dataset";
/// Above this share of unreadable pictures a run does not begin.
const MAX_UNREADABLE: f64 = 0.1;
/// Captions of the test part decoded together.
const TEST_BATCH: usize = 64;

/// Where a run happens and how it is seen.
pub struct TrainContext<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The folder for the sample and cached embeddings.
    pub dataset: &'a Path,
    pub device: &'a Device,
    pub ui: Ui,
    pub report: Report,
    pub interrupter: Interrupter,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model folder with the best weights.
    pub model: PathBuf,
    /// The epoch they are from and its validation loss.
    pub best: Option<(usize, f64)>,
    /// Captions of the test part beside their references.
    pub test: Vec<Captioned>,
    /// Of the test images whose content is known, the share whose caption names the main object's colour and shape.
    pub main_object_accuracy: Option<f64>,
    pub interrupted: bool,
}

/// An image of the test part.
#[derive(Clone, Debug, Serialize)]
pub struct Captioned {
    pub file_name: String,
    pub caption: String,
    pub references: Vec<String>,
}

/// Images that could be read, with their embeddings, in three parts.
struct Dataset {
    images: Vec<CaptionedImage>,
    /// As CLIP gave them.
    embeddings: Vec<Vec<f32>>,
    splits: Splits,
}

/// Trains a mapper (and, if asked, GPT-2) and captions the test part.
///
/// # Errors
/// When the data or the model cannot be read, too many pictures are unreadable, or the run fails. What was learnt up to
/// the last whole epoch stays in the run's `checkpoint` folder.
pub fn train(config: &TrainConfig, context: &TrainContext) -> Result<Trained> {
    files::write_json(&context.folder.join("config.json"), config)?;
    let folder = ModelFolder::open(&config.model)?;
    let tokenizer = folder.load_tokenizer(TokenizerKind::Gpt2)?;
    let mapper = MapperConfig {
        kind: config.mapper.clone(),
        clip_dim: folder.encoder_config()?.sizes.projection_dim,
        n_embd: folder.gpt2_config()?.n_embd,
        prefix_length: config.prefix_length,
    };
    mapper.check(mapper.clip_dim, folder.gpt2_config()?)?;
    let dataset = load_data(config, context, &folder)?;

    context.device.seed(config.seed);
    let model = CaptionModel {
        prefix_mapper: mapper.init(context.device),
        gpt2: folder.load_gpt2(context.device)?,
    };
    let longest = folder.gpt2_config()?.n_positions - config.prefix_length;
    let fitted = fit_model(config, context, model, &dataset, &tokenizer, longest)?;

    let captioner = CaptionerConfig {
        sizes: mapper,
        normalize_embedding: config.normalize_embedding,
        stop_tokens: vec![stop_token(&tokenizer)?],
    };
    let model = fitted.model.clone().into_model();
    let path = save_model(context, &folder, &captioner, &model, config, fitted.best)?;
    let reader = CaptionReader::new(
        model,
        tokenizer,
        captioner,
        folder.gpt2_config()?,
        context.device,
    );
    let test = caption_test(&reader, &dataset)?;
    let accuracy = main_object_accuracy(&dataset, &test);
    write_test(context.folder, &dataset, &test, accuracy)?;
    Ok(Trained {
        model: path,
        best: fitted.best,
        test,
        main_object_accuracy: accuracy,
        interrupted: fitted.interrupted,
    })
}

fn load_data(
    config: &TrainConfig,
    context: &TrainContext,
    folder: &ModelFolder,
) -> Result<Dataset> {
    let (annotations, pictures) = match &config.data {
        TrainData::Sample => {
            let sample = context.dataset.join("sample");
            let annotations = scenes::ensure(&sample, scenes::SAMPLE_SEED, scenes::SAMPLE_COUNT)?;
            (annotations, sample.join("images"))
        }
        TrainData::Coco { captions, images } => (captions.clone(), images.clone()),
    };
    let coco = CocoCaptions::load(&annotations)?;
    let paths: Vec<PathBuf> = coco
        .images
        .iter()
        .map(|image| pictures.join(&image.file_name))
        .collect();
    let encoder = ImageEncoder::load(folder, context.device)?;
    let total = paths.len();
    let report = &context.report;
    let found = embeddings::cached(
        &context.dataset.join("embeddings"),
        folder,
        &encoder,
        &paths,
        &|done| {
            if done == total || done % 1024 == 0 {
                report(&format!("embedded {done}/{total} images"));
            }
        },
    )?;
    for error in found.unreadable.iter().take(10) {
        report(&format!("skipped {error}"));
    }
    if found.unreadable.len() as f64 > MAX_UNREADABLE * total as f64 {
        bail!(
            "{} of {total} images of {} cannot be read from {} (the first: {}): check --images",
            found.unreadable.len(),
            annotations.display(),
            pictures.display(),
            found.unreadable[0]
        );
    }
    let (images, embeddings): (Vec<_>, Vec<_>) = coco
        .images
        .into_iter()
        .zip(found.rows)
        .filter_map(|(image, row)| Some((image, row?)))
        .unzip();
    let ids: Vec<_> = images.iter().map(|image| image.id.clone()).collect();
    let splits = config.split.split(&ids, config.seed);
    let captions: usize = images.iter().map(|image| image.captions.len()).sum();
    report(&format!(
        "{} images with {captions} captions: {} to train on, {} for validation, {} to test on",
        images.len(),
        splits.train.len(),
        splits.val.len(),
        splits.test.len()
    ));
    Ok(Dataset {
        images,
        embeddings,
        splits,
    })
}

fn fit_model(
    config: &TrainConfig,
    context: &TrainContext,
    model: CaptionModel,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<Fitted<CaptionLearner>> {
    let items = |part: &[usize]| dataset.items(part, config, tokenizer, longest);
    let train = items(&dataset.splits.train)?;
    if train.is_empty() {
        bail!("there is no image to train on: give more data, or a larger first share in --split");
    }
    // Without a validation part the loss on the training part, without noise, chooses the best epoch.
    let valid_part = if dataset.splits.val.is_empty() {
        &dataset.splits.train
    } else {
        &dataset.splits.val
    };
    let valid = items(valid_part)?;
    let steps_per_epoch = train.len().div_ceil(config.batch_size);
    let loader = |items: Vec<CaptionItem>,
                  batcher: CaptionBatcher,
                  shuffle: bool|
     -> Arc<dyn DataLoader<CaptionBatch>> {
        let builder = DataLoaderBuilder::new(batcher)
            .batch_size(config.batch_size)
            .set_device(context.device.clone());
        let items = InMemDataset::new(items);
        if shuffle {
            builder.shuffle(config.seed).build(items)
        } else {
            builder.build(items)
        }
    };
    let optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(config.weight_decay as f32)
        .init();
    fit(
        FitConfig {
            folder: context.folder,
            epochs: config.epochs,
            steps_per_epoch,
            schedule: &config.schedule,
            ui: context.ui,
            report: context.report.clone(),
            interrupter: context.interrupter.clone(),
        },
        CaptionLearner::new(model, config.trainable),
        optimizer,
        loader(
            train,
            CaptionBatcher::training(config.noise.clone(), config.seed),
            true,
        ),
        loader(valid, CaptionBatcher::validation(), false),
    )
}

impl Dataset {
    /// What is trained on: tokenised captions with their embedding.
    fn items(
        &self,
        part: &[usize],
        config: &TrainConfig,
        tokenizer: &Tokenizer,
        longest: usize,
    ) -> Result<Vec<CaptionItem>> {
        let mut items = Vec::new();
        for &index in part {
            let mut clip_embedding = self.embeddings[index].clone();
            if config.normalize_embedding {
                normalize(&mut clip_embedding);
            }
            let captions = self.images[index]
                .captions
                .iter()
                .map(|caption| caption_tokens(tokenizer, caption, longest))
                .collect::<Result<Vec<_>>>()?;
            let item = |captions| CaptionItem {
                clip_embedding: clip_embedding.clone(),
                captions,
            };
            match config.captions {
                CaptionChoice::One => items.push(item(captions)),
                CaptionChoice::All => {
                    items.extend(captions.into_iter().map(|caption| item(vec![caption])))
                }
            }
        }
        Ok(items)
    }
}

/// A caption's tokens. It ends with a full stop, which is what ends a caption when it is decoded: one is added where it
/// is missing, as ClipCap does for Conceptual Captions (`parse_conceptual.py` at 1ad805a).
fn caption_tokens(tokenizer: &Tokenizer, caption: &str, longest: usize) -> Result<Vec<u32>> {
    let caption = caption.trim_end_matches([' ', '.']);
    let mut tokens = tokenizer.encode(&format!("{caption}."))?;
    tokens.truncate(longest);
    Ok(tokens)
}

/// The token of the full stop.
fn stop_token(tokenizer: &Tokenizer) -> Result<u32> {
    match tokenizer.encode(".")?[..] {
        [token] => Ok(token),
        ref tokens => bail!(
            "this vocabulary writes a full stop with {} tokens: one is needed to end captions",
            tokens.len()
        ),
    }
}

fn save_model(
    context: &TrainContext,
    source: &ModelFolder,
    captioner: &CaptionerConfig,
    model: &CaptionModel,
    config: &TrainConfig,
    best: Option<(usize, f64)>,
) -> Result<PathBuf> {
    let path = context.folder.join("best");
    files::create_dir(&path)?;
    source.copy_part(Part::Clip, &path)?;
    source.copy_part(Part::Gpt2, &path)?;
    let sources = source.path.join("source.json");
    if sources.is_file() {
        std::fs::copy(&sources, path.join("source.json")).context("copying source.json")?;
    }
    if config.trainable == crate::caption_model::Trainable::MapperAndGpt2 {
        // The copy may share its bytes with the model it came from: it is replaced, not written over.
        std::fs::remove_file(path.join(Part::Gpt2.file_name())).context("replacing gpt2.bpk")?;
        model_folder::save_part(model.gpt2.clone(), &path, Part::Gpt2)?;
    }
    model_folder::save_part(model.prefix_mapper.clone(), &path, Part::Mapper)?;
    let entry = json!({
        "made_by": "clipcap train",
        "version": env!("CARGO_PKG_VERSION"),
        "config": config,
        "best_epoch": best.map(|(epoch, _)| epoch),
        "validation_loss": best.map(|(_, loss)| loss),
        "sha256": files::sha256(&path.join(Part::Mapper.file_name()))?,
    });
    model_folder::update_source(&path, "mapper", entry)?;
    model_folder::update_config(&path, |model| {
        *model = source.config.clone();
        model.mapper = Some(captioner.clone());
    })?;
    Ok(path)
}

fn caption_test(reader: &CaptionReader, dataset: &Dataset) -> Result<Vec<Captioned>> {
    let decode = reader.decode_config(Strategy::Greedy);
    let mut test = Vec::new();
    for chunk in dataset.splits.test.chunks(TEST_BATCH) {
        let embeddings: Vec<Vec<f32>> = chunk
            .iter()
            .map(|&index| dataset.embeddings[index].clone())
            .collect();
        for (&index, captions) in chunk.iter().zip(reader.caption(&embeddings, &decode)?) {
            let image = &dataset.images[index];
            test.push(Captioned {
                file_name: image.file_name.clone(),
                caption: captions
                    .into_iter()
                    .next()
                    .context("decoding gave no caption")?
                    .caption,
                references: image.captions.clone(),
            });
        }
    }
    Ok(test)
}

fn main_object_accuracy(dataset: &Dataset, test: &[Captioned]) -> Option<f64> {
    let right: Vec<bool> = dataset
        .splits
        .test
        .iter()
        .zip(test)
        .filter_map(|(&index, captioned)| {
            Some(scenes::mentions(
                &captioned.caption,
                dataset.images[index].main?,
            ))
        })
        .collect();
    (!right.is_empty())
        .then(|| right.iter().filter(|&&right| right).count() as f64 / right.len() as f64)
}

fn write_test(
    folder: &Path,
    dataset: &Dataset,
    test: &[Captioned],
    accuracy: Option<f64>,
) -> Result<()> {
    if test.is_empty() {
        return Ok(());
    }
    let results: Vec<CaptionResult> = dataset
        .splits
        .test
        .iter()
        .zip(test)
        .map(|(&index, captioned)| CaptionResult {
            image_id: dataset.images[index].id.clone(),
            caption: captioned.caption.clone(),
        })
        .collect();
    write_results(&folder.join("predictions-test.json"), &results)?;
    let samples: Vec<Sample> = test
        .iter()
        .map(|captioned| Sample {
            candidate: captioned.caption.clone(),
            references: captioned.references.clone(),
        })
        .collect();
    files::write_json(
        &folder.join("metrics-test.json"),
        &json!({
            "images": test.len(),
            "main_object_accuracy": accuracy,
            "overall": validate(&samples),
        }),
    )
}
