//! Any bytes as a checkpoint: pickle, zip archive, legacy stream or safetensors. It must end, in little memory, with
//! tensors or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torch_checkpoint::{Checkpoint, Section};

fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = Checkpoint::read(&Section::memory(bytes.to_vec())) else {
        return;
    };
    for tensor in found.tensors.values() {
        if let Ok(values) = tensor.read() {
            assert!(values.len() <= bytes.len(), "more values than bytes");
        }
        let _ = tensor.third(1).and_then(|part| part.read());
    }
});
