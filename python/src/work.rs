//! Computing without Python's lock.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use clipcap::guard::guarded;
use pyo3::prelude::*;

use crate::error::{error, refused};

/// The process that computed first; 0: none has.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Computes while other threads of Python run. A panic becomes an error.
///
/// # Errors
/// What `work` gives; or that this process was forked from one that had computed already, whose threads it has not.
pub fn compute<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    check_process()?;
    match py.detach(|| guarded(work)) {
        Ok(done) => done.map_err(|failed| error(&failed)),
        Err(panicked) => Err(refused(&format!(
            "computing broke off, which is a fault of clipcap: {}",
            panicked.message
        ))),
    }
}

/// A pool of threads does not outlive a fork: whoever waits for it would wait forever.
fn check_process() -> PyResult<()> {
    let here = process::id();
    match PROCESS.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Err(first) if first != here => Err(refused(
            "this process was forked from one that had used clipcap already: start processes by \
             multiprocessing.get_context(\"spawn\"), or use clipcap in the children alone",
        )),
        _ => Ok(()),
    }
}
