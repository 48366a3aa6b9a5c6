//! Choosing and comparing settings of training: cross-validation and ablations.

pub mod ablate;
pub mod space;
pub mod spread;
pub mod tune;
