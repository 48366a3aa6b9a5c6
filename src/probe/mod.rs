//! Frozen embeddings read out as labels: how good an encoder is, told by how well a simple classifier on its embeddings
//! does, as in SimCLR's evaluation (Chen et al. 2020, <https://arxiv.org/abs/2002.05709>, section 4).

pub mod ablation;
pub mod knn;
pub mod linear;
mod outcome;
pub mod report;
pub mod table;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::captioner::ImageEncoder;
use crate::captioner::model_folder::ModelFolder;
use crate::datasets::classes::{ClassSet, Images, Labeled};
use crate::models::encoder::{Pixels, preprocessing};
use crate::pretrain::encoder::fit_pca;
use crate::trainer::dashboard::LogFn;
use knn::KnnConfig;

pub use outcome::{ClassScore, Outcome};

/// Images embedded together.
const BATCH: usize = 64;
/// Components of PCA, as in the paper's baseline.
pub const PCA_DIM: usize = 128;

/// How a label is read out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A linear classifier on standardized embeddings, its penalty chosen on folds of the training part.
    Linear,
    /// A vote of the nearest training embeddings.
    Knn,
}

/// Which encoder is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncoderChoice {
    /// That of a model folder.
    Folder(PathBuf),
    /// The pixels.
    Pixels,
    /// Principal components of the training part's pixels.
    Pca,
}

/// Embeddings with their classes.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// `[n, d]`, on the CPU.
    pub rows: Tensor<2>,
    pub labels: Vec<usize>,
}

/// The embeddings of a data set.
#[derive(Clone, Debug)]
pub struct EmbeddedSet {
    pub classes: Vec<String>,
    pub train: Embedded,
    pub test: Embedded,
    /// See [`ClassSet::folds`].
    pub folds: Vec<Vec<usize>>,
}

/// How the classifiers are set.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    pub knn: KnnConfig,
    /// Penalties to choose from.
    pub linear: linear::Grid,
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            knn: KnnConfig::default(),
            linear: linear::Grid::default(),
            seed: 1,
        }
    }
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Linear, Self::Knn];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Knn => "kNN",
        }
    }
}

impl EncoderChoice {
    /// Makes the encoder ready for a data set; what has no size of its own looks at images of `side` pixels.
    ///
    /// # Errors
    /// When the folder cannot be loaded, or the data has too few images for PCA.
    pub fn load(&self, side: u32, set: &ClassSet, device: &Device) -> Result<ImageEncoder> {
        let cpu = Device::flex();
        match self {
            Self::Folder(path) => ImageEncoder::load(&ModelFolder::open(path)?, device),
            Self::Pixels => Ok(ImageEncoder::new(
                Box::new(Pixels),
                preprocessing(side),
                &cpu,
            )),
            Self::Pca => {
                let pca = fit_pca(&set.train.images, side, PCA_DIM, 1)?;
                Ok(ImageEncoder::new(Box::new(pca), preprocessing(side), &cpu))
            }
        }
    }
}

impl From<&str> for EncoderChoice {
    fn from(name: &str) -> Self {
        match name {
            "pixels" => Self::Pixels,
            "pca" => Self::Pca,
            path => Self::Folder(Path::new(path).to_path_buf()),
        }
    }
}

impl Embedded {
    /// Some of them.
    fn choose(&self, which: &[usize]) -> Self {
        let indices: Vec<i32> = which.iter().map(|&index| index as i32).collect();
        let indices = Tensor::<1, Int>::from_ints(indices.as_slice(), &self.rows.device());
        Self {
            rows: self.rows.clone().select(0, indices),
            labels: which.iter().map(|&index| self.labels[index]).collect(),
        }
    }
}

/// Embeds both parts of a data set.
///
/// # Errors
/// When an image cannot be read, or an embedding is not a number.
pub fn embed(encoder: &ImageEncoder, set: &ClassSet, report: &LogFn) -> Result<EmbeddedSet> {
    let part = |part: &Labeled, name: &str| -> Result<Embedded> {
        let total = part.len();
        let progress = |done: usize| {
            if done == total || done.is_multiple_of(2048) {
                report(&format!("embedded {done}/{total} images to {name} on"));
            }
        };
        let rows = rows_of(encoder, &part.images, &progress)?;
        ensure!(
            rows.clone().sum().into_scalar::<f32>().is_finite(),
            "the encoder's embeddings are not numbers: its weights are damaged"
        );
        Ok(Embedded {
            rows,
            labels: part.labels.clone(),
        })
    };
    Ok(EmbeddedSet {
        classes: set.classes.clone(),
        train: part(&set.train, "train")?,
        test: part(&set.test, "test")?,
        folds: set.folds.clone(),
    })
}

/// The embeddings of all images on the CPU, `[n, d]`. `progress` is told how many are done.
fn rows_of(encoder: &ImageEncoder, images: &Images, progress: &dyn Fn(usize)) -> Result<Tensor<2>> {
    let mut rows: Vec<f32> = Vec::new();
    let count = images.len();
    for first in (0..count).step_by(BATCH) {
        let end = count.min(first + BATCH);
        let crops: Vec<RgbImage> = (first..end)
            .into_par_iter()
            .map(|index| Ok(encoder.crop(&images.get(index)?)))
            .collect::<Result<_>>()?;
        rows.extend(encoder.embed(&crops)?.into_iter().flatten());
        progress(end);
    }
    let width = rows.len() / count.max(1);
    let data = TensorData::new(rows, [count, width]);
    Ok(Tensor::from_data(data, &Device::flex()))
}

/// Reads labels out.
///
/// # Errors
/// When the embeddings of the two parts differ in width, or there are too few to choose a penalty on.
pub fn evaluate(set: &EmbeddedSet, protocol: Protocol, config: &ProbeConfig) -> Result<Outcome> {
    evaluate_on(set, &set.train, protocol, config)
}

/// [`evaluate`], trained on each of the data set's folds alone (STL-10's protocol).
///
/// # Errors
/// When the data set has no folds; see [`evaluate`] too.
pub fn evaluate_folds(
    set: &EmbeddedSet,
    protocol: Protocol,
    config: &ProbeConfig,
) -> Result<Vec<Outcome>> {
    ensure!(
        !set.folds.is_empty(),
        "the data set has no folds of its own: leave out --folds"
    );
    set.folds
        .iter()
        .map(|fold| evaluate_on(set, &set.train.choose(fold), protocol, config))
        .collect()
}

fn evaluate_on(
    set: &EmbeddedSet,
    train: &Embedded,
    protocol: Protocol,
    config: &ProbeConfig,
) -> Result<Outcome> {
    let ([_, width], [_, test_width]) = (train.rows.dims(), set.test.rows.dims());
    ensure!(
        width == test_width,
        "embeddings to train on have {width} values and those to test on {test_width}: they are of different encoders"
    );
    let classes = set.classes.len();
    let (predictions, settings) = match protocol {
        Protocol::Knn => (
            knn::predict(train, &set.test.rows, classes, &config.knn),
            config.knn.describe(train.labels.len()),
        ),
        Protocol::Linear => {
            let strength = linear::choose(train, classes, &config.linear, config.seed)?;
            let classifier = linear::Classifier::fit(train, classes, strength);
            (
                classifier.predict(set.test.rows.clone()),
                format!(
                    "C = {strength}, chosen on {} folds of the training part",
                    config.linear.folds
                ),
            )
        }
    };
    Ok(Outcome::new(
        protocol,
        settings,
        &set.classes,
        &set.test.labels,
        predictions,
    ))
}
