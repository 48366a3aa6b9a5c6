//! Linear layers and norms with packed weights.

use std::ops::Deref;

use anyhow::{Result, anyhow};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};

use crate::device::Precision;
use crate::nn::{Activation, LayerNorm};
use cpu_kernels::matrix::{Epilogue, Packed, View};
use cpu_kernels::norm;

/// A weight `[K, N]` in one of the precisions.
#[derive(Debug)]
pub enum Matrix {
    F32(Packed<f32>),
    F16(Packed<f16>),
    Bf16(Packed<bf16>),
    Int8(Packed<i8>),
}

/// `x weight + bias`
#[derive(Debug)]
pub struct Layer {
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

/// Layer normalization.
#[derive(Debug)]
pub struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

/// The same of a weight in every precision.
macro_rules! of_any {
    ($matrix:expr, $weight:ident => $what:expr) => {
        match $matrix {
            Matrix::F32($weight) => $what,
            Matrix::F16($weight) => $what,
            Matrix::Bf16($weight) => $what,
            Matrix::Int8($weight) => $what,
        }
    };
}

impl Matrix {
    pub fn new(weight: View, kind: Precision) -> Self {
        match kind {
            Precision::F32 => Self::F32(Packed::new(weight)),
            Precision::F16 => Self::F16(Packed::new(weight)),
            Precision::Bf16 => Self::Bf16(Packed::new(weight)),
            Precision::Int8 => Self::Int8(Packed::new(weight)),
        }
    }

    /// `[K, N]`
    pub fn shape(&self) -> [usize; 2] {
        of_any!(self, weight => weight.shape())
    }

    /// `out = x self`, and what the epilogue says.
    pub fn product(&self, x: &[f32], out: &mut [f32], epilogue: Epilogue) {
        let [width, _] = self.shape();
        let x = View::new(x, x.len() / width.max(1), width);
        of_any!(self, weight => weight.product(x, out, epilogue))
    }

    /// One column, `[K]`.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        of_any!(self, weight => weight.column(column, out))
    }
}

impl Layer {
    /// Packs burn's layer and gives up its own weights.
    pub fn new(layer: Linear, weights: Precision) -> Result<Self> {
        let bias = layer.bias.map(take).transpose()?;
        Self::from_parts(layer.weight, bias, weights)
    }

    /// Packs `[K, N]` and `[N]`.
    pub fn from_parts(
        weight: Param<Tensor<2>>,
        bias: Option<Vec<f32>>,
        weights: Precision,
    ) -> Result<Self> {
        let (weight, [rows, cols]) = take_matrix(weight)?;
        Ok(Self {
            weight: Matrix::new(View::new(&weight, rows, cols), weights),
            bias,
        })
    }

    /// Layers that read the same input, side by side as one.
    pub fn joined(layers: Vec<Linear>, kind: Precision) -> Result<Self> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for layer in layers {
            weights.push(take_matrix(layer.weight)?);
            if let Some(part) = layer.bias {
                bias.extend(take(part)?);
            }
        }
        let rows = weights[0].1[0];
        let mut joined = Vec::with_capacity(weights.iter().map(|(weight, _)| weight.len()).sum());
        for row in 0..rows {
            for (weight, [_, cols]) in &weights {
                joined.extend_from_slice(&weight[row * cols..(row + 1) * cols]);
            }
        }
        drop(weights);
        let cols = joined.len() / rows.max(1);
        Ok(Self {
            weight: Matrix::new(View::new(&joined, rows, cols), kind),
            bias: (!bias.is_empty()).then_some(bias),
        })
    }

    /// Width of the output.
    pub fn width(&self) -> usize {
        self.weight.shape()[1]
    }

    /// `[.., K] -> [.., N]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.write(x, None, &mut out);
        out
    }

    /// `out = activation(x weight + bias)`; what was in `out` is lost, its memory used.
    pub fn write(&self, x: &[f32], activation: Option<Activation>, out: &mut Vec<f32>) {
        let [rows, cols] = self.weight.shape();
        out.resize(x.len() / rows.max(1) * cols, 0.0);
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            activation,
            accumulate: false,
        };
        self.weight.product(x, out, epilogue);
    }

    /// `out += x weight + bias`
    pub fn add_to(&self, x: &[f32], out: &mut [f32]) {
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            activation: None,
            accumulate: true,
        };
        self.weight.product(x, out, epilogue);
    }
}

impl Norm {
    pub fn new(norm: LayerNorm) -> Result<Self> {
        let epsilon = norm.epsilon() as f32;
        Ok(Self {
            gamma: take(norm.gamma)?,
            beta: take(norm.beta)?,
            epsilon,
        })
    }

    /// `C`
    pub fn width(&self) -> usize {
        self.gamma.len()
    }

    /// `[.., C] -> [.., C]`
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.write(x, &mut out);
        out
    }

    /// [`forward`](Self::forward) into memory that is there.
    pub fn write(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        let norm = norm::Norm {
            gamma: &self.gamma,
            beta: &self.beta,
            epsilon: self.epsilon,
        };
        norm.forward(x, out);
    }
}

/// A parameter's values, read from their file if that was not done yet, and given up by the module.
#[derive(Debug)]
pub struct Values(TensorData);

impl Values {
    pub fn of<const D: usize>(param: Param<Tensor<D>>) -> Result<Self> {
        let tensor = param.val();
        drop(param);
        let data = (tensor.try_into_data_as::<f32>())
            .map_err(|error| anyhow!("the device failed: {error}"))?;
        data.as_slice::<f32>()
            .map_err(|error| anyhow!("a weight cannot be read: {error}"))?;
        Ok(Self(data))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("it was read before")
    }
}

/// A copy of a parameter's values.
pub fn take<const D: usize>(param: Param<Tensor<D>>) -> Result<Vec<f32>> {
    Ok(Values::of(param)?.to_vec())
}

fn take_matrix(param: Param<Tensor<2>>) -> Result<(Values, [usize; 2])> {
    let shape = param.val().dims();
    Ok((Values::of(param)?, shape))
}
