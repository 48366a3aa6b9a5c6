//! What a training run left.

use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use clipcap::captioner::model_folder::ModelFolder;
use serde_json::Value;

/// All weights of the mapper and GPT-2 that a run kept.
pub fn weights(run: &Path) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let folder = ModelFolder::open(&run.join("best")).unwrap();
    let mut collect = Collect(Vec::new());
    folder
        .load_mapper(&Device::flex())
        .unwrap()
        .visit(&mut collect);
    folder
        .load_gpt2(&Device::flex())
        .unwrap()
        .visit(&mut collect);
    collect.0
}

/// The losses of a run, step by step.
pub fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["Loss"].as_f64()).collect()
}

/// The validation losses of a run, epoch by epoch.
pub fn validation_losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["split"] == "valid")
        .filter_map(|line| line["mean"]["Loss"].as_f64())
        .collect()
}
