//! Any bytes as a table, as Flickr's tokens, or as captions alone. No line may be lost without a word: each row is read
//! or named.

#![no_main]
#![allow(dead_code)] // parts of the program are included that are not all used here

use libfuzzer_sys::fuzz_target;

include!("data/modules.rs");

fuzz_target!(|bytes: &[u8]| {
    if let Some((_folder, path)) = write(bytes, &["a.csv", "a.tsv", "a.txt"]) {
        load(&path);
    }
    let text = data::text::reader(bytes);
    let lines = data::text::Lines::new(data::text::reader(bytes)).count();
    if let Ok(Some(mut rows)) = data::text::table::open(text, |_| true) {
        let mut count = 0;
        while let Ok(Some(row)) = rows.next_row() {
            assert!(!row.place.is_empty());
            count += 1;
        }
        assert!(count < lines.max(1));
    }
});
