//! What `--device` can name on this machine.

use burn::tensor::Device;

use super::{DeviceChoice, GpuBackend, first_gpu};
use crate::device::Precision;
use cpu_kernels::simd::Isa;

/// A device that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// As `--device` takes it: `cpu`, `cuda:0`.
    pub name: String,
    /// What the device calls itself, such as `NVIDIA H100 80GB HBM3`; for the CPU the instruction set of its kernels.
    pub description: String,
    /// The precisions it captions in.
    pub precisions: Vec<Precision>,
    /// Whether it is what `auto` stands for.
    pub is_auto: bool,
}

/// Every device of every backend that is compiled in, the CPU first. Opens all of them.
pub fn list() -> Vec<DeviceInfo> {
    let auto = first_gpu();
    let mut all = vec![DeviceInfo {
        name: "cpu".into(),
        description: format!("{} kernels", Isa::best().name()),
        precisions: vec![
            Precision::F32,
            Precision::F16,
            Precision::Bf16,
            Precision::Int8,
        ],
        is_auto: auto.is_none(),
    }];
    for backend in GpuBackend::ALL {
        for (index, card) in backend.cards().unwrap_or_default().into_iter().enumerate() {
            let has = |precision: &Precision| {
                let dtype = precision.dtype();
                dtype.is_some_and(|dtype| card.supports_dtype(dtype))
            };
            let known = [Precision::F32, Precision::F16, Precision::Bf16];
            all.push(DeviceInfo {
                name: DeviceChoice::Gpu { backend, index }.to_string(),
                description: describe(&card),
                precisions: known.into_iter().filter(has).collect(),
                // A card has several names, and the first that is listed is the one to use.
                is_auto: auto.as_ref() == Some(&card) && !all.iter().any(|other| other.is_auto),
            });
        }
    }
    all
}

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn describe(card: &Device) -> String {
    let identity = card.identity();
    identity.map_or_else(
        || "a device without a name".into(),
        |identity| identity.name,
    )
}

#[cfg(not(any(feature = "wgpu", feature = "cuda", feature = "rocm")))]
fn describe(_: &Device) -> String {
    // A build without GPU backends has no cards.
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_cpu_and_exactly_one_device_that_is_auto() {
        let devices = list();
        assert_eq!(devices[0].name, "cpu");
        assert!(devices[0].precisions.contains(&Precision::F32));
        assert_eq!(devices.iter().filter(|device| device.is_auto).count(), 1);
    }
}
