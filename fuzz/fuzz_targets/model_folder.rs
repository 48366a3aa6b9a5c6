//! Any configuration and any weights as a model folder: it must load, to its last weight, or be refused. The input's
//! first line is the configuration, the rest the weight file of the mapper.

#![no_main]

use burn::tensor::Device;
use clipcap::captioner::model_folder::{ModelFolder, read_now};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let line = bytes.iter().position(|&byte| byte == b'\n');
    let (config, weights) = bytes.split_at(line.unwrap_or(bytes.len()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    std::fs::write(folder.path().join("mapper.bpk"), weights.get(1..).unwrap_or_default()).unwrap();
    if let Ok(folder) = ModelFolder::open(folder.path())
        && let Ok(mapper) = folder.load_mapper(&Device::flex())
    {
        read_now(&mapper);
    }
});
