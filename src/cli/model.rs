//! Which model captions, and in which precision, as flags.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use clipcap::captioner::{Captioner, Search};
use clipcap::device::Precision;
use clipcap::trainer::run;

use super::common::{DeviceArg, SAMPLE_MODEL};
use super::decoding::DecodeArgs;
use super::out;
use super::values::values;

#[derive(Args)]
pub struct ModelArgs {
    /// Model folder [default: the last run's, else the shipped sample model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Images captioned together
    #[arg(long, value_name = "N", default_value = "16")]
    pub batch_size: std::num::NonZeroUsize,
    /// Type of weights and matrix products [default: f16, where the device has it]
    #[arg(long, value_enum, alias = "weights")]
    precision: Option<PrecisionArg>,
    #[command(flatten)]
    device: DeviceArg,
}

values! {
    /// What networks compute in.
    pub PrecisionArg for Precision {
        /// float32; the tensor cores of CUDA cards may round factors to TF32
        F32,
        /// float16 on GPUs; on the CPU weights are kept as float16 and computed with in float32
        F16,
        /// bfloat16, on the CPU and on GPUs that have it
        Bf16,
        /// int8 products with dynamic scales, on the CPU, where nothing is trained
        Int8,
    }
}

impl ModelArgs {
    /// The model's folder, the model, and what it is asked for.
    pub fn load(&self, decoding: &DecodeArgs) -> Result<(PathBuf, Captioner, Search)> {
        let options = decoding.options();
        let device = self.device.resolve()?;
        let model = self.choose()?;
        let mut builder = Captioner::builder().device(&device);
        if let Some(precision) = self.precision {
            builder = builder.precision(precision.into());
        }
        let captioner = builder.load(&model)?;
        let search = options.search(&captioner)?;
        Ok((model, captioner, search))
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
