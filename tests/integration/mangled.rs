//! Model folders with damaged files are refused or load; they never make the program panic. The same is asked of
//! coverage-guided inputs by `fuzz/`; here damage is random, seeded, and done in seconds. `MANGLE_SECONDS` makes it longer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::fixture;
use burn::tensor::Device;
use clipcap::captioner::Captioner;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::convert::{ConvertConfig, convert};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers that sizes are wrong at.
const NUMBERS: [&str; 9] = [
    "0",
    "1",
    "-1",
    "3",
    "65536",
    "4294967296",
    "18446744073709551615",
    "1e308",
    "null",
];

fn budget() -> Duration {
    let seconds = std::env::var("MANGLE_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(2))
}

/// Flips, cuts, repeats or overwrites a part of some bytes.
fn mangle(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = match rng.random_range(0..3) {
            // What a file begins with tells the rest apart.
            0 => rng.random_range(0..bytes.len().min(400)),
            _ => rng.random_range(0..bytes.len()),
        };
        let until = bytes.len().min(at + rng.random_range(1..9));
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..until)),
            3 => {
                let part = bytes[at..until].to_vec();
                let target = rng.random_range(0..bytes.len());
                bytes.splice(target..target, part);
            }
            4 => bytes[at..until].fill([0, 0xff, 0x7f, b'9'][rng.random_range(0..4)]),
            _ => replace_number(bytes, at, rng),
        }
    }
}

/// Puts a troublesome number in the place of the next one.
fn replace_number(bytes: &mut Vec<u8>, at: usize, rng: &mut ChaCha8Rng) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[at..]
        .iter()
        .position(is_digit)
        .map(|found| at + found)
    else {
        return;
    };
    let len = bytes[start..].iter().position(|byte| !is_digit(byte));
    let end = len.map_or(bytes.len(), |len| start + len);
    let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
    bytes.splice(start..end, number.bytes());
}

/// Damages one file of a folder at a time and calls `load` on it, for a while.
fn with_damage(folder: &Path, seed: u64, load: impl Fn() + std::panic::RefUnwindSafe) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let end = Instant::now() + budget();
    let mut rounds = 0;
    while Instant::now() < end {
        // Settings are short, and every key in them matters.
        let settings: Vec<_> = files
            .iter()
            .filter(|file| file.ends_with("config.json"))
            .collect();
        let file = match settings.first() {
            Some(file) if rng.random_bool(0.5) => *file,
            _ => &files[rng.random_range(0..files.len())],
        };
        let whole = fs::read(file).unwrap();
        let mut damaged = whole.clone();
        mangle(&mut damaged, &mut rng);
        fs::write(file, &damaged).unwrap();
        if std::panic::catch_unwind(&load).is_err() {
            let kept = std::env::temp_dir().join("mangled");
            fs::write(&kept, &damaged).unwrap();
            panic!(
                "round {rounds}: {} as in {}",
                file.display(),
                kept.display()
            );
        }
        fs::write(file, whole).unwrap();
        rounds += 1;
    }
    println!("{rounds} rounds");
}

#[test]
fn a_damaged_model_folder_is_refused_or_loads() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    crate::common::model::write_model(&folder);
    let device = Device::flex();
    with_damage(&folder, 1, || {
        let _ = Captioner::builder().device(&device).load(&folder);
        if let Ok(model) = ModelFolder::open(&folder) {
            let _ = model.load_clip(&device);
        }
    });
}

/// The fuzz target found this one: burn panics at it.
#[test]
fn weights_that_are_no_floats_are_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    crate::common::model::write_model(&folder);
    let path = folder.join("mapper.bpk");
    let mut bytes = fs::read(&path).unwrap();
    let kind = bytes.windows(3).position(|part| part == b"F32").unwrap();
    bytes[kind] = b'I';
    fs::write(&path, bytes).unwrap();
    let error = ModelFolder::open(&folder)
        .and_then(|model| model.load_mapper(&Device::flex()))
        .unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("mapper.bpk cannot be read") && error.contains("is of type I32"),
        "{error}"
    );
}

#[test]
fn a_damaged_checkpoint_is_refused_or_converts() {
    let place = tempfile::tempdir().unwrap();
    let (clip, gpt2) = (place.path().join("clip"), place.path().join("gpt2"));
    for (name, folder) in [("clip_open_clip", &clip), ("gpt2_untied", &gpt2)] {
        fs::create_dir(folder).unwrap();
        for entry in fs::read_dir(fixture("convert").join(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let output = place.path().join("model");
    let load = || {
        let _ = convert(&ConvertConfig {
            clip: Some(clip.clone()),
            gpt2: Some(gpt2.clone()),
            output: output.clone(),
            ..ConvertConfig::default()
        });
        let _ = fs::remove_dir_all(&output);
    };
    with_damage(&clip, 2, load);
    with_damage(&gpt2, 3, load);
}
