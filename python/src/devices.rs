//! The devices of this build and machine.

use clipcap::device;
use pyo3::prelude::*;

use crate::work::compute;

/// A device's name, what it calls itself, the names of its precisions, and whether it is what `auto` stands for.
type Device = (String, String, Vec<&'static str>, bool);

/// Every device that can be named, the CPU first.
#[pyfunction]
pub fn devices(py: Python<'_>) -> PyResult<Vec<Device>> {
    compute(py, || {
        let all = device::list().into_iter().map(|device| {
            let precisions = device.precisions.iter().map(|one| one.name()).collect();
            (device.name, device.description, precisions, device.is_auto)
        });
        Ok(all.collect())
    })
}
