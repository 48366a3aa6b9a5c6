//! Reading the fixtures that PyTorch made.

#![allow(dead_code)] // each test file uses a part of it

pub mod browser;
pub mod documented;
pub mod entries;
pub mod image_files;
pub mod model;
pub mod place;
pub mod process;
pub mod run;

use std::path::PathBuf;

use burn::module::Module;
use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::SafeTensors;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A fixture of the metrics' crate.
pub fn metric_fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("crates/caption-metrics/tests/fixtures")
        .join(name)
}

/// Fills a module from a fixture in `models/`; see [`load_weights_of`].
pub fn load_weights<M: Module>(module: M, name: &str, renames: &[(&str, &str)]) -> M {
    load_weights_of(module, &format!("models/{name}"), renames)
}

/// Fills a module from a fixture with PyTorch's names: nothing missing, nothing left over. `renames` are regular
/// expressions on PyTorch's names with their replacements.
pub fn load_weights_of<M: Module>(mut module: M, name: &str, renames: &[(&str, &str)]) -> M {
    let mut store = SafetensorsStore::from_file(fixture(&format!("{name}.safetensors")))
        .with_from_adapter(PyTorchToBurnAdapter)
        .skip_enum_variants(true);
    for (from, to) in renames {
        store = store.with_key_remapping(*from, *to);
    }
    let result = module
        .load_from(&mut store)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        result.unused.is_empty(),
        "{name}: left over: {:?}",
        result.unused
    );
    assert!(
        result.missing.is_empty() && result.errors.is_empty(),
        "{name}: {result}"
    );
    module
}

/// Inputs and expected outputs.
pub struct Case {
    bytes: Vec<u8>,
    name: String,
}

impl Case {
    /// One in `models/`.
    pub fn open(name: &str) -> Self {
        Self::at(&format!("models/{name}"))
    }

    pub fn at(name: &str) -> Self {
        let path = fixture(&format!("{name}.safetensors"));
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            bytes,
            name: name.to_string(),
        }
    }

    fn raw(&self, key: &str) -> (Vec<usize>, Vec<[u8; 4]>) {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors
            .tensor(key)
            .unwrap_or_else(|error| panic!("{} {key}: {error}", self.name));
        (
            view.shape().to_vec(),
            view.data().as_chunks::<4>().0.to_vec(),
        )
    }

    pub fn floats(&self, key: &str) -> Vec<f32> {
        self.raw(key)
            .1
            .into_iter()
            .map(f32::from_le_bytes)
            .collect()
    }

    pub fn ints(&self, key: &str) -> Vec<i32> {
        self.raw(key)
            .1
            .into_iter()
            .map(i32::from_le_bytes)
            .collect()
    }

    pub fn tensor<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.floats(key), self.raw(key).0), device)
    }

    pub fn int_tensor<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D, Int> {
        Tensor::from_data(TensorData::new(self.ints(key), self.raw(key).0), device)
    }
}

/// Every value within `tolerance` times the largest expected magnitude.
pub fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of values");
    let largest = expected
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs();
        assert!(
            error <= tolerance * largest,
            "{what}: value {i} is {a}, expected {e}: off by {error}, of a largest magnitude of {largest}"
        );
    }
}

/// float32 through a few layers, in another order of summation.
pub const FLOAT32: f32 = 1e-4;

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
