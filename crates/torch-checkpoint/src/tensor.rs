//! A tensor of a checkpoint: what it is, and where its bytes lie.

use std::fmt;

use anyhow::{Context, Result, ensure};

use super::source::Section;

/// Most dimensions a tensor may have.
const MOST_DIMENSIONS: usize = 16;

/// Type of a tensor's elements, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// By its name in a safetensors header.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U8" => Self::U8,
            "BOOL" => Self::Bool,
            _ => return None,
        })
    }

    /// By the name of PyTorch's storage class.
    pub fn from_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" | "UntypedStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// A tensor whose values are still in the file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Elements from one index to the next, a dimension each.
    strides: Vec<usize>,
    /// First element in the storage.
    offset: usize,
    storage: Section,
}

impl StoredTensor {
    /// A tensor that fills `storage`, row by row.
    ///
    /// # Errors
    /// When the number of bytes is not what the shape asks for.
    pub fn whole(dtype: DType, shape: Vec<usize>, storage: Section) -> Result<Self> {
        let bytes = element_count(&shape)?.checked_mul(dtype.size());
        ensure!(
            bytes.is_some_and(|bytes| bytes as u64 == storage.byte_len()),
            "its shape {shape:?} of {dtype} does not go with {} bytes",
            storage.byte_len()
        );
        let strides = row_major(&shape);
        Ok(Self {
            dtype,
            shape,
            strides,
            offset: 0,
            storage,
        })
    }

    /// A view of a storage, as PyTorch describes it.
    ///
    /// # Errors
    /// When any element lies outside the storage.
    pub fn view(
        dtype: DType,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Section,
    ) -> Result<Self> {
        ensure!(
            shape.len() == strides.len(),
            "it has {} sizes and {} strides",
            shape.len(),
            strides.len()
        );
        let count = element_count(&shape)?;
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |at, (&size, &stride)| {
                size.saturating_sub(1).checked_mul(stride)?.checked_add(at)
            });
        let held = storage.byte_len() / dtype.size() as u64;
        ensure!(
            count == 0 || last.is_some_and(|last| (last as u64) < held),
            "its shape {shape:?} with strides {strides:?} from element {offset} reaches outside its {held} elements"
        );
        Ok(Self {
            dtype,
            shape,
            strides,
            offset,
            storage,
        })
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The rows of one of three equal parts.
    ///
    /// # Errors
    /// When the number of rows is no multiple of three.
    pub fn third(&self, index: usize) -> Result<Self> {
        let rows = self.shape.first().copied().unwrap_or(1);
        ensure!(
            index < 3 && rows.is_multiple_of(3),
            "its {rows} rows are not three equal parts"
        );
        let mut part = self.clone();
        part.shape[0] = rows / 3;
        part.offset += index * part.shape[0] * part.strides[0];
        Ok(part)
    }

    /// Its bytes, row by row.
    ///
    /// # Errors
    /// When the file cannot be read, or one element is to be repeated into many.
    pub fn read(&self) -> Result<Vec<u8>> {
        let size = self.dtype.size();
        if self.count() == 0 {
            return Ok(Vec::new());
        }
        if self.is_row_major() {
            let part = self
                .storage
                .part((self.offset * size) as u64, (self.count() * size) as u64)?;
            return part.read();
        }
        // A view cannot ask for more than what is stored, so that a small file does not become a large tensor.
        let held = self.storage.byte_len() / size as u64;
        ensure!(
            self.count() as u64 <= held,
            "it repeats {held} stored elements into {}",
            self.count()
        );
        let bytes = self.storage.read()?;
        let mut out = Vec::with_capacity(self.count() * size);
        self.gather(&bytes, self.offset, 0, &mut out);
        Ok(out)
    }

    fn gather(&self, bytes: &[u8], at: usize, dimension: usize, out: &mut Vec<u8>) {
        let size = self.dtype.size();
        let Some((&count, &stride)) = self.shape.get(dimension).zip(self.strides.get(dimension))
        else {
            out.extend_from_slice(&bytes[at * size..][..size]);
            return;
        };
        for index in 0..count {
            self.gather(bytes, at + index * stride, dimension + 1, out);
        }
    }

    fn is_row_major(&self) -> bool {
        // The stride of a dimension of size 1 is never taken.
        (self.shape.iter().zip(&self.strides))
            .zip(row_major(&self.shape))
            .all(|((&size, &stride), expected)| size == 1 || stride == expected)
    }

    /// Whether both hold the same values, bit for bit.
    pub fn equals(&self, other: &Self) -> Result<bool> {
        if self.dtype != other.dtype || self.shape != other.shape {
            return Ok(false);
        }
        let same = self.storage.is(&other.storage)
            && self.offset == other.offset
            && self.strides == other.strides;
        Ok(same || self.read()? == other.read()?)
    }
}

fn element_count(shape: &[usize]) -> Result<usize> {
    ensure!(
        shape.len() <= MOST_DIMENSIONS,
        "it has {} dimensions",
        shape.len()
    );
    // Also without the zeros, so that no stride overflows.
    let nonzero = shape
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size.max(1)))
        .filter(|&count| count <= isize::MAX as usize / 8)
        .with_context(|| format!("its shape {shape:?} is too large"))?;
    Ok(if shape.contains(&0) { 0 } else { nonzero })
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}
