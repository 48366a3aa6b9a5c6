//! Which model captions, and in which precision, as flags.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clipcap::captioner::{Captioner, Search};
use clipcap::device::Precision;

use super::common::DeviceArg;
use super::complete;
use super::decoding::DecodeArgs;
use super::find::{self, FetchArg};
use super::memory::MemoryArgs;
use super::values::values;

#[derive(Args)]
pub struct ModelArgs {
    /// Model: a folder, a run, or a name that `clipcap models` lists [default: the last run that finished, else the sample
    /// model]
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    model: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArg,
    /// Images captioned together
    #[arg(long, value_name = "N", default_value = "16")]
    pub batch_size: std::num::NonZeroUsize,
    /// Type of weights and matrix products [default: f16, where the device has it]
    #[arg(long, value_enum, alias = "weights")]
    precision: Option<PrecisionArg>,
    #[command(flatten)]
    memory: MemoryArgs,
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
        let mut builder = Captioner::builder()
            .device(&device)
            .memory(self.memory.options());
        if let Some(precision) = self.precision {
            builder = builder.precision(precision.into());
        }
        let captioner = builder.load(&model)?;
        let search = options.search(&captioner)?;
        Ok((model, captioner, search))
    }

    fn choose(&self) -> Result<PathBuf> {
        match &self.model {
            Some(model) => find::captioner(model, self.fetch),
            None => find::default_captioner(),
        }
    }
}
