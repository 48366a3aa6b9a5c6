//! Choosing and comparing settings of training: cross-validation, ablations, and the runs that are there.

pub mod ablate;
pub mod runs;
pub mod space;
pub mod spread;
pub mod tune;
