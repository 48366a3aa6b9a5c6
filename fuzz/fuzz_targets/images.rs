//! Any bytes are either an image that can be cropped or refused with one line.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use std::path::Path;

use libfuzzer_sys::fuzz_target;

#[path = "../../src"]
mod clipcap {
    pub mod guard;
    pub mod path_text;
    pub mod images;

    pub mod models {
        pub mod clip {
            pub mod preprocess;
            mod resample;
        }
    }
}

// As the parts call each other.
use clipcap::{guard, images, models, path_text};

fuzz_target!(|bytes: &[u8]| {
    match images::decode(bytes, Path::new("image")) {
        Ok(image) => {
            let crop = models::clip::preprocess::Preprocessing::openai(32).crop(&image);
            assert_eq!(crop.dimensions(), (32, 32));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
