//! The native half of the Python module `clipcap`. Its Python half, in `package/clipcap`, is what users call: it tells one
//! image from several, and brings arrays and Pillow's images into the form that is taken here.

// burn's generic types nest deeply.
#![recursion_limit = "256"]

mod captioner;
mod devices;
mod error;
mod evaluate;
mod settings;
mod source;
mod work;

use pyo3::prelude::*;

/// Captions, embeddings and scores; `clipcap` has it all in a form that is nicer to call.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::captioner::{Captioner, Crops, Search};
    #[pymodule_export]
    use super::devices::devices;
    #[pymodule_export]
    use super::error::Error;
    #[pymodule_export]
    use super::evaluate::evaluate;
    #[pymodule_export]
    use super::source::{allow_truncated, allows_truncated};

    /// The version of clipcap-burn.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
