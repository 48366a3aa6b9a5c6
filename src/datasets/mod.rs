//! Data sets that are known by name: the generated scenes, CIFAR-10, STL-10, and folders of classes.

pub mod classes;
pub mod scenes;

/// The folder that data sets are put in, and what is derived from them once.
pub const FOLDER: &str = "dataset";
