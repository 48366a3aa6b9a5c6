//! A model, and what it is asked.

use std::path::PathBuf;

use anyhow::Result;
use clipcap::captioner::{self, Caption};
use clipcap::device::{self, DeviceChoice, Precision};
use clipcap::{Catalog, captioner::Captioner as Model};
use cpu_kernels::simd::Isa;
use image::RgbImage;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};

use crate::error::{error, refused};
use crate::settings::Settings;
use crate::source::{Named, open_crops};
use crate::work::compute;

/// Every precision.
const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::F16,
    Precision::Bf16,
    Precision::Int8,
];

/// A caption: its text, tokens, log-probability, score, similarity and consensus.
type Told = (String, Vec<u32>, f32, f32, Option<f32>, Option<f32>);

/// A model that is loaded.
#[pyclass(frozen, module = "clipcap._native")]
pub struct Captioner {
    model: Model,
    folder: PathBuf,
    device: String,
}

/// What is asked of a model, in its tokens.
#[pyclass(frozen, module = "clipcap._native")]
pub struct Search(captioner::Search);

/// What CLIP looks at of images that could be read.
#[pyclass(frozen, module = "clipcap._native")]
pub struct Crops {
    crops: Vec<RgbImage>,
    /// Of each image, whether it could be read or not, why not.
    #[pyo3(get)]
    failed: Vec<Option<String>>,
}

#[pymethods]
impl Captioner {
    /// Loads a model; without a name the sample model.
    #[new]
    #[pyo3(signature = (model, device, precision))]
    fn new(
        py: Python<'_>,
        model: Option<PathBuf>,
        device: &str,
        precision: Option<&str>,
    ) -> PyResult<Self> {
        compute(py, || {
            let choice: DeviceChoice = device.parse()?;
            let precision = precision.map(precision_called).transpose()?;
            Isa::chosen()?;
            let catalog = Catalog::default();
            let folder = match model {
                Some(name) => catalog.find(name)?,
                None => catalog.sample()?,
            };
            let device = choice.resolve()?;
            let mut builder = Model::builder().device(&device);
            if let Some(precision) = precision {
                builder = builder.precision(precision);
            }
            let model = builder.load(&folder)?;
            let device = match choice {
                DeviceChoice::Auto if device == DeviceChoice::Cpu.resolve()? => "cpu".to_string(),
                DeviceChoice::Auto => auto_name(),
                named => named.to_string(),
            };
            Ok(Self {
                model,
                folder,
                device,
            })
        })
    }

    /// The model's folder.
    #[getter]
    fn model(&self) -> &PathBuf {
        &self.folder
    }

    /// The device's name.
    #[getter]
    fn device(&self) -> &str {
        &self.device
    }

    /// The precision's name.
    #[getter]
    fn precision(&self) -> &'static str {
        self.model.encoder.precision().name()
    }

    /// Width of an embedding.
    #[getter]
    fn embedding_dim(&self) -> PyResult<usize> {
        self.model.encoder.dim().map_err(|failed| error(&failed))
    }

    /// Settings, by their names, as this model understands them.
    fn search(&self, settings: &Bound<'_, PyDict>) -> PyResult<Search> {
        let search = Settings(settings).options()?.search(&self.model);
        search.map(Search).map_err(|failed| error(&failed))
    }

    /// Opens images. One that cannot be read is an error, or has its message where `strict` is false.
    fn open(&self, py: Python<'_>, images: Vec<Named>, strict: bool) -> PyResult<Crops> {
        let preprocessing = self.model.encoder.preprocessing();
        let opened = compute(py, || Ok(open_crops(&images, preprocessing)))?;
        let (mut crops, mut failed) = (Vec::new(), Vec::new());
        for image in opened {
            match image {
                Ok(crop) => {
                    crops.push(crop);
                    failed.push(None);
                }
                Err(message) if strict => return Err(refused(&message)),
                Err(message) => failed.push(Some(message)),
            }
        }
        Ok(Crops { crops, failed })
    }

    /// Captions images together: of each that could be read its captions, best first.
    fn caption(&self, py: Python<'_>, images: &Crops, search: &Search) -> PyResult<Vec<Vec<Told>>> {
        let captions = compute(py, || self.model.caption_crops(&images.crops, &search.0))?;
        let captions = captions.into_iter();
        Ok(captions
            .map(|all| all.into_iter().map(told).collect())
            .collect())
    }

    /// Embeds images: the values of those that could be read, as float32.
    fn embed<'py>(&self, py: Python<'py>, images: &Crops) -> PyResult<Bound<'py, PyByteArray>> {
        let embeddings = compute(py, || self.model.encoder.embed(&images.crops))?;
        Ok(floats(py, &embeddings))
    }

    /// Embeds sentences: their values as float32.
    fn embed_texts<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let embeddings = compute(py, || self.model.encoder.embed_texts(&texts))?;
        Ok(floats(py, &embeddings))
    }
}

fn precision_called(name: &str) -> Result<Precision> {
    let found = PRECISIONS.into_iter().find(|one| one.name() == name);
    found.ok_or_else(|| {
        let known = PRECISIONS.map(Precision::name).join(", ");
        anyhow::anyhow!("precision is {name:?}: give one of {known}")
    })
}

/// What the GPU that `auto` found is called.
fn auto_name() -> String {
    let found = device::list().into_iter().find(|device| device.is_auto);
    found.map_or_else(|| DeviceChoice::Auto.to_string(), |device| device.name)
}

fn told(caption: Caption) -> Told {
    let Caption {
        caption,
        tokens,
        log_prob,
        score,
        similarity,
        consensus,
    } = caption;
    (caption, tokens, log_prob, score, similarity, consensus)
}

/// `[B, D]`, a row after the other, in this machine's byte order.
fn floats<'py>(py: Python<'py>, rows: &[Vec<f32>]) -> Bound<'py, PyByteArray> {
    let values = rows.iter().flatten();
    let bytes: Vec<u8> = values.flat_map(|value| value.to_ne_bytes()).collect();
    PyByteArray::new(py, &bytes)
}
