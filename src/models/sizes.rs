//! What must hold of the sizes in a configuration before any network is made of it: within reason, and dividing where
//! they are divided.

use anyhow::{Result, ensure};

/// Widest layer, longest sequence, largest vocabulary.
const LARGEST: usize = 1 << 24;
/// Most layers of a network.
const DEEPEST: usize = 1024;

pub(crate) fn sized(name: &str, value: usize) -> Result<()> {
    ensure!(
        (1..=LARGEST).contains(&value),
        "{name} is {value}, but must be between 1 and {LARGEST}"
    );
    Ok(())
}

pub(crate) fn layers(name: &str, count: usize) -> Result<()> {
    ensure!(
        (1..=DEEPEST).contains(&count),
        "{name} is {count}, but must be between 1 and {DEEPEST}"
    );
    Ok(())
}

pub(crate) fn divides(name: &str, part: usize, whole_name: &str, whole: usize) -> Result<()> {
    ensure!(
        part > 0 && whole.is_multiple_of(part),
        "{name} is {part}, which does not divide {whole_name}, {whole}"
    );
    Ok(())
}

pub(crate) fn positive(name: &str, value: f64) -> Result<()> {
    ensure!(
        value.is_finite() && value > 0.0,
        "{name} is {value}, but must be positive"
    );
    Ok(())
}
