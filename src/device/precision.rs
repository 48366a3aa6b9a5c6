//! What networks compute in, and how their weights are kept: one choice with one meaning for every command.

use std::fmt;

use anyhow::{Result, bail};
use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

use super::is_cpu;

/// The type of weights and activations in matrix products. Norms, softmax and sums of products are in float32 in any case, and
/// so are the logits over the vocabulary but for int8, where all products are summed up in int32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32. CUDA's tensor cores round factors to TF32 (10 bits of mantissa) where burn's kernels choose them.
    #[default]
    F32,
    /// float16 on GPUs. The CPU keeps weights as float16 and computes in float32.
    F16,
    /// bfloat16, on GPUs that have it. The CPU multiplies it by its own instruction, or widened to float32 where it has none.
    Bf16,
    /// int8, on the CPU: weights with a scale for each output, activations with a scale and a zero point for each position.
    Int8,
}

impl Precision {
    /// What captions are made in unless told otherwise: float16, where the device has it.
    pub fn default_for(device: &Device) -> Self {
        match is_cpu(device) || device.supports_dtype(FloatDType::F16) {
            true => Self::F16,
            false => Self::F32,
        }
    }

    /// As in `--precision`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The floating-point type, if it is one.
    pub fn dtype(self) -> Option<FloatDType> {
        match self {
            Self::F32 => Some(FloatDType::F32),
            Self::F16 => Some(FloatDType::F16),
            Self::Bf16 => Some(FloatDType::BF16),
            Self::Int8 => None,
        }
    }

    /// The type that a GPU computes in.
    ///
    /// # Errors
    /// When the GPU does not have it.
    pub(crate) fn on_gpu(self, device: &Device) -> Result<FloatDType> {
        match self.dtype() {
            None => bail!("only the CPU has int8: use `--precision f16` or f32, or `--device cpu`"),
            Some(dtype) if device.supports_dtype(dtype) => Ok(dtype),
            Some(_) => bail!(
                "this GPU does not compute in {self}: use `--precision f32`, or `--device cpu`"
            ),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
