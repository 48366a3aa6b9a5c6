//! Mapper and GPT-2 as the caption decoder sees them, whatever they run on.

use std::fmt::Debug;

use anyhow::Result;
use burn::tensor::{Device, FloatDType};

use super::model_folder;
use super::step::{Gpt2Step, with_contexts};
use crate::decode::{DecodeConfig, Step};
use crate::device::{Precision, is_cpu};
use crate::engine;
use crate::models::caption_model::CaptionModel;
use crate::nn;

/// A mapper and the GPT-2 that reads what it gives.
pub trait CaptionNetwork: Debug + Send + Sync {
    /// Maps embeddings, `[B, clip_dim]`, to prefixes, and gives what a search goes on from: GPT-2, about to read each
    /// prefix, its context (`contexts`: none, or one an embedding, all of one length) and the prompt.
    fn start<'a>(
        &'a self,
        embeddings: &[Vec<f32>],
        contexts: &[Vec<u32>],
        config: &DecodeConfig,
    ) -> Box<dyn Step<Error = anyhow::Error> + 'a>;
}

/// The network for a device: packed weights on the CPU, burn's modules elsewhere. `n_layer`: layers of GPT-2.
///
/// # Errors
/// When the device does not have the precision.
pub fn network(
    model: CaptionModel,
    n_layer: usize,
    device: &Device,
    precision: Precision,
) -> Result<Box<dyn CaptionNetwork>> {
    if is_cpu(device) {
        return Ok(Box::new(Packed {
            mapper: engine::Mapper::new(model.prefix_mapper, precision)?,
            gpt2: engine::Gpt2::new(model.gpt2, precision)?,
        }));
    }
    let dtype = precision.on_gpu(device)?;
    let model = model.cast(dtype);
    model_folder::read_now(&model);
    Ok(Box::new(Modules {
        model,
        n_layer,
        device: device.clone(),
        dtype,
    }))
}

/// burn's modules.
#[derive(Debug)]
struct Modules {
    model: CaptionModel,
    n_layer: usize,
    device: Device,
    /// The mapper's and the blocks'.
    dtype: FloatDType,
}

impl CaptionNetwork for Modules {
    fn start<'a>(
        &'a self,
        embeddings: &[Vec<f32>],
        contexts: &[Vec<u32>],
        config: &DecodeConfig,
    ) -> Box<dyn Step<Error = anyhow::Error> + 'a> {
        let rows: Vec<&[f32]> = embeddings.iter().map(Vec::as_slice).collect();
        let clip_embedding = nn::rows_to_tensor(&rows, &self.device).cast(self.dtype); // [B, clip_dim]
        let prefix = self.model.prefix_mapper.forward(clip_embedding); // [B, P, C]
        let prefix = with_contexts(&self.model.gpt2, prefix.cast(FloatDType::F32), contexts);
        let step = Gpt2Step::new(&self.model.gpt2, self.n_layer, prefix, config);
        Box::new(step)
    }
}

/// Packed weights, on the CPU.
#[derive(Debug)]
struct Packed {
    mapper: engine::Mapper,
    gpt2: engine::Gpt2,
}

impl CaptionNetwork for Packed {
    fn start<'a>(
        &'a self,
        embeddings: &[Vec<f32>],
        contexts: &[Vec<u32>],
        config: &DecodeConfig,
    ) -> Box<dyn Step<Error = anyhow::Error> + 'a> {
        let batch = embeddings.len();
        let prefix = self.mapper.forward(&embeddings.concat(), batch); // [B, P, C]
        let prefix = self.gpt2.with_contexts(prefix, contexts); // [B, P + T, C]
        let step = engine::Gpt2Step::new(&self.gpt2, &prefix, batch, &config.prompt);
        Box::new(step)
    }
}
