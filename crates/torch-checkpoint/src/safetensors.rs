//! The safetensors header: names, types, shapes and places. Values are left in the file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::source::{Cursor, Section};
use super::tensor::{DType, StoredTensor};

/// The format's own limit on its header, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Tensors by name, and the file's free-form notes.
pub type Contents = (BTreeMap<String, StoredTensor>, BTreeMap<String, String>);

/// Whether a file begins as a safetensors file does: a length, then a JSON object. Eight bytes of text are no length: that
/// would be a header beyond any disk.
pub fn is_safetensors(first: &[u8]) -> bool {
    first.get(8) == Some(&b'{') && first[7] == 0
}

/// Reads the header.
pub fn read(section: &Section) -> Result<Contents> {
    let mut cursor = Cursor::new(section.clone(), 0);
    let len = u64::from_le_bytes(cursor.array()?);
    ensure!(
        len <= LONGEST_HEADER,
        "its header would be {len} bytes long"
    );
    let header = cursor.bytes(len).context("its header")?;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&header).context("its header is no JSON object")?;
    let data = cursor.skip(cursor.remaining())?;
    let mut tensors = BTreeMap::new();
    let mut notes = BTreeMap::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            for (key, value) in entry.as_object().into_iter().flatten() {
                notes.insert(key.clone(), value.as_str().unwrap_or_default().to_string());
            }
            continue;
        }
        let tensor = tensor(&entry, &data).with_context(|| format!("tensor `{name}`"))?;
        tensors.insert(name, tensor);
    }
    Ok((tensors, notes))
}

fn tensor(entry: &Value, data: &Section) -> Result<StoredTensor> {
    let dtype = entry["dtype"].as_str().unwrap_or_default();
    let dtype =
        DType::from_safetensors(dtype).with_context(|| format!("type `{dtype}` is not known"))?;
    let numbers = |key: &str| -> Result<Vec<u64>> {
        let numbers = entry[key]
            .as_array()
            .with_context(|| format!("it has no {key}"))?;
        numbers
            .iter()
            .map(|number| {
                number
                    .as_u64()
                    .with_context(|| format!("its {key} are not sizes"))
            })
            .collect()
    };
    let shape = numbers("shape")?
        .into_iter()
        .map(|size| Ok(usize::try_from(size)?))
        .collect::<Result<Vec<_>>>()?;
    let [start, end] = numbers("data_offsets")?[..] else {
        bail!("its data_offsets are not two numbers");
    };
    let len = end.checked_sub(start).context("it ends before it begins")?;
    StoredTensor::whole(dtype, shape, data.part(start, len)?)
}
