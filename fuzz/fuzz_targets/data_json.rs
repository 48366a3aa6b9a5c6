//! Any bytes as a data set in JSON (COCO, Karpathy, rows) or JSON Lines.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use libfuzzer_sys::fuzz_target;

include!("data/modules.rs");

fuzz_target!(|bytes: &[u8]| {
    if let Some((_folder, path)) = write(bytes, &["a.json", "a.jsonl", "a.txt"]) {
        load(&path);
    }
});
