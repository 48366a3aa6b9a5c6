//! A checkpoint's tensors on their way into one of a model folder's weight files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use burn::store::burn_pack::{self, Bytes, DType as PackDType, Writer};
use half::{bf16, f16};

use super::parameters::{Foreign, Parameter, Rows};
use crate::guard::guarded;
use torch_checkpoint::{Checkpoint, DType, StoredTensor};

/// Names listed in a message before it says "and so many more".
const LISTED: usize = 4;
/// Side of the squares in which a matrix is transposed, so that both sides stay in the cache.
const SQUARE: usize = 32;

/// What a weight file will hold. Values are read one tensor at a time, when it is written.
#[derive(Debug, Default)]
pub struct Weights {
    entries: Vec<Entry>,
    /// Names in the checkpoint that went into it.
    used: BTreeSet<String>,
    /// The checkpoint, for messages.
    origin: PathBuf,
}

#[derive(Clone, Debug)]
struct Entry {
    parameter: Parameter,
    foreign: Foreign,
    tensor: StoredTensor,
}

impl Weights {
    /// Finds every parameter of a network in a checkpoint.
    ///
    /// # Errors
    /// When tensors are missing, of another shape, or no float32 values; the message names the checkpoint and them.
    pub fn find(
        checkpoint: &Checkpoint,
        origin: &Path,
        parameters: Vec<Parameter>,
        naming: impl Fn(&Parameter) -> Foreign,
    ) -> Result<Self> {
        let mut weights = Self {
            origin: origin.to_path_buf(),
            ..Self::default()
        };
        let (mut missing, mut wrong) = (Vec::new(), Vec::new());
        for parameter in parameters {
            let foreign = naming(&parameter);
            let Some(tensor) = checkpoint.tensors.get(&foreign.name) else {
                missing.push(format!("`{}`", foreign.name));
                continue;
            };
            let expected = parameter.foreign_shape(&foreign);
            if !same_shape(&tensor.shape, &expected) || pack_dtype(tensor.dtype).is_none() {
                let name = &foreign.name;
                wrong.push(format!(
                    "`{name}` is {} {:?} where float {expected:?} goes",
                    tensor.dtype, tensor.shape
                ));
                continue;
            }
            weights.used.insert(foreign.name.clone());
            weights.entries.push(Entry {
                parameter,
                foreign,
                tensor: tensor.clone(),
            });
        }
        if !missing.is_empty() {
            bail!(
                "{} lacks {}: it may be a part of the network, or of another architecture",
                origin.display(),
                list(&missing)
            );
        }
        if !wrong.is_empty() {
            bail!(
                "{} does not fit its own configuration: {}",
                origin.display(),
                list(&wrong)
            );
        }
        Ok(weights)
    }

    /// The checkpoint's names that did not go in, and are not known to be superfluous.
    ///
    /// # Errors
    /// When there are any.
    pub fn check_leftover(
        used: &[&Self],
        checkpoint: &Checkpoint,
        origin: &Path,
        is_superfluous: impl Fn(&str, &StoredTensor) -> bool,
    ) -> Result<Vec<String>> {
        let is_used = |name: &String| used.iter().any(|weights| weights.used.contains(name));
        let (mut dropped, mut leftover) = (Vec::new(), Vec::new());
        for (name, tensor) in &checkpoint.tensors {
            if is_used(name) {
                continue;
            }
            if is_superfluous(name, tensor) {
                dropped.push(name.clone());
            } else {
                leftover.push(format!("`{name}` {:?}", tensor.shape));
            }
        }
        ensure!(
            leftover.is_empty(),
            "{} holds what this network has no place for: {}",
            origin.display(),
            list(&leftover)
        );
        Ok(dropped)
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.entries.len()
    }

    /// Number of values.
    pub fn parameters(&self) -> usize {
        let count = |entry: &Entry| entry.parameter.shape.iter().product::<usize>();
        self.entries.iter().map(count).sum()
    }

    /// The element types on disk, each once.
    pub fn dtypes(&self) -> Vec<String> {
        let names = self.entries.iter().map(|entry| kept(entry.tensor.dtype));
        let names: BTreeSet<String> = names.map(|dtype| dtype.to_string()).collect();
        names.into_iter().collect()
    }

    /// Writes a burnpack file, a tensor at a time.
    ///
    /// # Errors
    /// When a tensor cannot be read or has values that are no numbers, and when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let unread = Unread::default();
        let deferred = |entry: &Entry| entry.deferred(unread.clone());
        let tensors = (self.entries.iter().map(deferred)).collect::<Result<Vec<_>>>()?;
        let written = Writer::new(tensors).write_to_file_in_place(path);
        let unread = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = unread {
            return Err(error).with_context(|| self.origin.display().to_string());
        }
        written.map_err(|error| {
            anyhow::anyhow!(
                "cannot write {}: {error}: check permissions and free space",
                path.display()
            )
        })
    }
}

/// Why a tensor could not be read, for whoever has it written.
type Unread = Arc<Mutex<Option<anyhow::Error>>>;

impl Entry {
    fn deferred(&self, unread: Unread) -> Result<burn_pack::Tensor> {
        let dtype = kept(self.tensor.dtype);
        let shape = self.parameter.shape.clone();
        let count: usize = shape.iter().product();
        let entry = self.clone();
        Ok(burn_pack::Tensor::deferred(
            self.parameter.path.clone(),
            pack_dtype(dtype).context("not a float")?,
            shape,
            None,
            count * dtype.size(),
            move || {
                let read = guarded(|| entry.read()).unwrap_or_else(|panic| Err(panic.into()));
                match read.with_context(|| format!("tensor `{}`", entry.foreign.name)) {
                    Ok(bytes) => Ok(Bytes::from_bytes_vec(bytes)),
                    Err(error) => {
                        let told = burn_pack::Error::IoError(error.to_string());
                        unread
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                        Err(told)
                    }
                }
            },
        ))
    }

    /// The values as this crate lays them out.
    fn read(&self) -> Result<Vec<u8>> {
        let tensor = match self.foreign.rows {
            Rows::All => self.tensor.clone(),
            Rows::Third(third) => self.tensor.third(third)?,
        };
        let mut bytes = tensor.read()?;
        if tensor.dtype == DType::F64 {
            bytes = to_single(&bytes);
        }
        let dtype = kept(tensor.dtype);
        check_finite(&bytes, dtype)?;
        Ok(match (self.foreign.transposed, &tensor.shape[..]) {
            (true, &[rows, columns]) => transpose(&bytes, rows, columns, dtype.size()),
            _ => bytes,
        })
    }
}

/// # Errors
/// When there are values that no network computes with; the message says how many.
fn check_finite(bytes: &[u8], dtype: DType) -> Result<()> {
    let (mut nan, mut infinite) = (0_usize, 0_usize);
    let mut count = |is_finite: bool, is_nan: bool| {
        nan += usize::from(is_nan);
        infinite += usize::from(!is_finite && !is_nan);
    };
    let total = bytes.len() / dtype.size();
    match dtype {
        DType::F16 => (bytes.as_chunks::<2>().0.iter())
            .map(|bytes| f16::from_le_bytes(*bytes))
            .for_each(|value| count(value.is_finite(), value.is_nan())),
        DType::BF16 => (bytes.as_chunks::<2>().0.iter())
            .map(|bytes| bf16::from_le_bytes(*bytes))
            .for_each(|value| count(value.is_finite(), value.is_nan())),
        _ => (bytes.as_chunks::<4>().0.iter())
            .map(|bytes| f32::from_le_bytes(*bytes))
            .for_each(|value| count(value.is_finite(), value.is_nan())),
    }
    ensure!(
        nan + infinite == 0,
        "{} of its {total} values are not finite ({nan} NaN, {infinite} infinite): the file is damaged, or the training that made it diverged; give an earlier checkpoint",
        nan + infinite
    );
    Ok(())
}

/// The type that values have in a model folder: float16 stays float16, float64 becomes float32.
fn kept(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F32,
        other => other,
    }
}

fn pack_dtype(dtype: DType) -> Option<PackDType> {
    match dtype {
        DType::F64 | DType::F32 => Some(PackDType::F32),
        DType::F16 => Some(PackDType::F16),
        DType::BF16 => Some(PackDType::BF16),
        _ => None,
    }
}

/// Equal, but for a single number, which has no dimension in PyTorch and one in burn.
fn same_shape(shape: &[usize], expected: &[usize]) -> bool {
    shape == expected || (shape.is_empty() && expected == [1])
}

fn to_single(doubles: &[u8]) -> Vec<u8> {
    let (doubles, _) = doubles.as_chunks::<8>();
    doubles
        .iter()
        .flat_map(|bytes| (f64::from_le_bytes(*bytes) as f32).to_le_bytes())
        .collect()
}

/// `[rows, columns] -> [columns, rows]`, of elements of `size` bytes.
pub fn transpose(bytes: &[u8], rows: usize, columns: usize, size: usize) -> Vec<u8> {
    match size {
        2 => transpose_elements::<2>(bytes, rows, columns),
        _ => transpose_elements::<4>(bytes, rows, columns),
    }
}

fn transpose_elements<const SIZE: usize>(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let (elements, _) = bytes.as_chunks::<SIZE>();
    let mut out = vec![[0; SIZE]; elements.len()];
    for top in (0..rows).step_by(SQUARE) {
        for left in (0..columns).step_by(SQUARE) {
            for row in top..rows.min(top + SQUARE) {
                for column in left..columns.min(left + SQUARE) {
                    out[column * rows + row] = elements[row * columns + column];
                }
            }
        }
    }
    out.into_flattened()
}

fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
