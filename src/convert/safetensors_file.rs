//! Writes a safetensors file from a model folder's weights, a tensor at a time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::store::burn_pack::{self, DType};
use serde_json::{Map, Value, json};

use super::parameters::{Foreign, Parameter};
use super::weights::transpose;
use crate::files;

/// A tensor to write, made of one or several of ours.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    shape: Vec<usize>,
    parts: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    tensor: burn_pack::Tensor,
    transposed: bool,
}

impl Tensor {
    /// The foreign tensor that a parameter belongs to, still empty.
    pub fn new(foreign: &Foreign, parameter: &Parameter) -> Self {
        let mut shape = parameter.foreign_shape(foreign);
        if foreign.name.ends_with("logit_scale") {
            shape = Vec::new(); // a number without dimensions in PyTorch
        }
        Self {
            name: foreign.name.clone(),
            shape,
            parts: Vec::new(),
        }
    }

    /// Adds one of ours below what is there already.
    ///
    /// # Errors
    /// When it is of another type than that.
    pub fn add(&mut self, tensor: burn_pack::Tensor, transposed: bool) -> Result<()> {
        if let Some(first) = self.parts.first() {
            ensure!(
                first.tensor.dtype == tensor.dtype,
                "`{}` is {:?}, but `{}`, with which it would be one tensor, is {:?}",
                tensor.name,
                tensor.dtype,
                first.tensor.name,
                first.tensor.dtype
            );
        }
        self.parts.push(Part { tensor, transposed });
        Ok(())
    }

    fn dtype(&self) -> Result<&'static str> {
        let first = self.parts.first().context("a tensor without values")?;
        Ok(match first.tensor.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            other => bail!("`{}` is {other:?}, not a float", first.tensor.name),
        })
    }

    fn byte_len(&self) -> usize {
        self.parts.iter().map(|part| part.tensor.byte_len()).sum()
    }
}

impl Part {
    fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        let bytes = self.tensor.to_bytes().map_err(|error| {
            io::Error::other(format!("`{}` cannot be read: {error}", self.tensor.name))
        })?;
        match (self.transposed, &self.tensor.shape.to_vec()[..]) {
            (true, &[rows, columns]) => {
                let size = bytes.len() / (rows * columns).max(1);
                writer.write_all(&transpose(&bytes, rows, columns, size))
            }
            _ => writer.write_all(&bytes),
        }
    }
}

/// Writes tensors, and notes on them.
pub fn write(path: &Path, tensors: Vec<Tensor>, notes: &BTreeMap<&str, String>) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(notes));
    let mut at = 0;
    for tensor in &tensors {
        let end = at + tensor.byte_len();
        let entry: Value = json!({
            "dtype": tensor.dtype()?, "shape": tensor.shape, "data_offsets": [at, end],
        });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The values begin at a multiple of 8 bytes, for those that map the file into memory.
    header.resize(header.len().next_multiple_of(8), b' ');
    files::write_atomic(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        tensors
            .iter()
            .flat_map(|tensor| &tensor.parts)
            .try_for_each(|part| part.write(writer))
    })
}
