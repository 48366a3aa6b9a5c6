//! Any bytes as the texts and the metadata of a folder of images: the parts between bytes of 0xff are a text beside an
//! image, `metadata.jsonl` and `metadata.csv`.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use libfuzzer_sys::fuzz_target;

include!("data/modules.rs");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = bytes.split(|&byte| byte == 0xff);
    for name in ["a.txt", "metadata.jsonl", "metadata.csv", "b.jpg.caption"] {
        if let Some(part) = parts.next() {
            std::fs::write(folder.path().join(name), part).unwrap();
        }
    }
    for name in ["a.png", "b.jpg", "c.gif"] {
        std::fs::write(folder.path().join(name), b"").unwrap();
    }
    load(folder.path());
});
