//! Which model captions, and in which precision, as flags.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use clipcap::captioner::{Captioner, MemoryOptions, Search};
use clipcap::device::Precision;
use clipcap::path_text;

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
        self.memory.check();
        let device = self.device.resolve()?;
        let model = self.choose()?;
        let mut builder = Captioner::builder()
            .device(&device)
            .memory(self.memory.options_for(&model)?);
        if let Some(precision) = self.precision {
            builder = builder.precision(precision.into());
        }
        let captioner = builder.load(&model)?;
        let search = options.search(&captioner)?;
        Ok((model, captioner, search))
    }

    /// What is looked up in a datastore.
    pub fn memory(&self) -> MemoryOptions {
        self.memory.options()
    }

    fn choose(&self) -> Result<PathBuf> {
        match &self.model {
            Some(model) => find::captioner(model, self.fetch),
            None => find::default_captioner(),
        }
    }
}

/// What others are shown of a model's place: the name of its folder, the run's of its best, and `sample` of the sample model.
pub fn name(model: &Path) -> String {
    let whole = model.canonicalize();
    let model = whole.as_deref().unwrap_or(model);
    let folder = match model.parent() {
        Some(run) if model.ends_with("best") => run,
        _ => model,
    };
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    let name = path_text::one_line(Path::new(name));
    match name.strip_prefix("sample-") {
        // Where the program unpacked it, with its checksum.
        Some(sum) if sum.len() == 16 && sum.bytes().all(|c| c.is_ascii_hexdigit()) => {
            "sample".to_string()
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_its_folder_and_a_run_by_its_name() {
        let called = |path: &str| name(Path::new(path));
        assert_eq!(called("/home/someone/models/coco"), "coco");
        assert_eq!(called("/nowhere/artifacts/first run/best"), "first run");
        assert_eq!(called("/nowhere/sample-0123456789abcdef"), "sample");
        assert_eq!(called("/nowhere/sample-of-mine"), "sample-of-mine");
        assert_eq!(called("model/sample"), "sample");
    }
}
