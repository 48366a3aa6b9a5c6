//! Which model captions, and how its weights are kept, as flags.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use clipcap::captioner::{Captioner, Captioning};
use clipcap::engine::WeightType;
use clipcap::train::run;

use super::common::{DeviceArg, SAMPLE_MODEL};
use super::decoding::DecodeArgs;
use super::out;

#[derive(Args)]
pub struct ModelArgs {
    /// Model folder [default: the last run's, else the shipped sample model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Pictures captioned together
    #[arg(long, value_name = "N", default_value = "16")]
    pub batch_size: std::num::NonZeroUsize,
    /// How weights are kept in memory [default: f16 on the CPU, which computes in f32 always; f32 on GPUs, which compute in the
    /// weights' type]
    #[arg(long, value_enum)]
    weights: Option<WeightsArg>,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum WeightsArg {
    /// As they are
    F32,
    /// In halves: half the memory, faster
    F16,
    /// In bytes, on the CPU: a quarter of the memory, and small differences in the numbers
    Int8,
}

impl From<WeightsArg> for WeightType {
    fn from(weights: WeightsArg) -> Self {
        match weights {
            WeightsArg::F32 => Self::F32,
            WeightsArg::F16 => Self::F16,
            WeightsArg::Int8 => Self::Int8,
        }
    }
}

impl ModelArgs {
    /// The model's folder and the model, with what it is asked for.
    pub fn load(&self, decoding: &DecodeArgs) -> Result<(PathBuf, Captioning)> {
        let strategy = decoding.strategy();
        let device = self.device.resolve()?;
        let model = self.choose()?;
        let weights = match self.weights {
            Some(weights) => weights.into(),
            None => WeightType::default_for(&device),
        };
        let captioner = Captioner::load_as(&model, &device, weights)?;
        if decoding.rerank_by_clip() {
            captioner.encoder.check_texts()?;
        }
        let captioning = Captioning {
            config: decoding.config(strategy, &captioner.reader)?,
            num_captions: decoding.num_captions(),
            rerank_by_clip: decoding.rerank_by_clip(),
            captioner,
        };
        Ok((model, captioning))
    }

    fn choose(&self) -> Result<PathBuf> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        let (model, which) = match run::latest_model(Path::new(run::ARTIFACTS)) {
            Some(model) => (model, "the last run"),
            None => (PathBuf::from(SAMPLE_MODEL), "the shipped sample model"),
        };
        out::note(format_args!("model: {} ({which})", model.display()));
        Ok(model)
    }
}
