//! Any bytes as a WebDataset shard, plain or compressed: what is found in it can be read where it is said to be.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use libfuzzer_sys::fuzz_target;

include!("data/modules.rs");

fuzz_target!(|bytes: &[u8]| {
    let Some((_folder, path)) = write(bytes, &["a.tar"]) else {
        return;
    };
    load(&path);
    if let Ok(data) = data::source::load(&path, &[]) {
        for image in &data.images {
            let Some(data::image_source::ImageSource::Member {
                shard,
                offset,
                size,
                ..
            }) = &image.source
            else {
                continue;
            };
            let part = data::shard_file::read_part(shard, *offset, *size).unwrap();
            assert_eq!(part.len() as u64, *size);
        }
    }
});
