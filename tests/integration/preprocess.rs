//! Images are opened, resized and cropped as Pillow and OpenAI's CLIP do it (`fixtures/make_preprocess.py`), and what
//! is not an image is refused with a sentence.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::fixture;
use crate::common::image_files::huge_png;
use clipcap::images;
use clipcap::models::clip::Preprocessing;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    size: u32,
    expected: String,
    mode: String,
}

/// Largest and mean difference in gray levels between our crop and Pillow's.
fn difference(name: &str, case: &Expected) -> (u8, f64) {
    let folder = fixture("preprocess");
    let image = images::open(folder.join(name)).unwrap();
    let crop = Preprocessing::openai(case.size).crop(&image);
    let expected = image::open(folder.join(&case.expected)).unwrap().to_rgb8();
    assert_eq!(crop.dimensions(), expected.dimensions());
    let differences: Vec<u8> = crop
        .iter()
        .zip(expected.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    (differences.into_iter().max().unwrap(), mean)
}

#[test]
fn crops_are_within_one_gray_level_of_pillows() {
    let text = std::fs::read_to_string(fixture("preprocess/cases.json")).unwrap();
    let cases: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 66);
    for (name, case) in &cases {
        let (largest, mean) = difference(name, case);
        // JPEG leaves the decoder some freedom (inverse transform, how color is spread over its pixels), and Pillow's
        // libjpeg-turbo uses it differently.
        let allowed = if name.ends_with(".jpg") {
            (JPEG_LARGEST, JPEG_MEAN)
        } else {
            (1, 0.01)
        };
        assert!(
            largest <= allowed.0 && mean <= allowed.1,
            "{name} ({}): largest difference {largest}, mean {mean:.3}",
            case.mode
        );
    }
}

const JPEG_LARGEST: u8 = 3;
const JPEG_MEAN: f64 = 0.6;

fn refusal(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let error = images::open(&path).unwrap_err().to_string();
    assert!(error.contains(name) && !error.contains('\n'), "{error}");
    error
}

#[test]
fn what_is_not_an_image_is_refused_by_name_and_reason() {
    let png = std::fs::read(fixture("preprocess/wide.png")).unwrap();
    let jpeg = std::fs::read(fixture("preprocess/photo.jpg")).unwrap();
    assert!(refusal("empty.png", b"").contains("is empty"));
    assert!(
        refusal("text.jpg", b"this is not an image at all").contains("is not an image but text")
    );
    assert!(refusal("cut.png", &png[..png.len() / 2]).contains("is damaged"));
    assert!(refusal("head.jpg", &jpeg[..200]).contains("is damaged"));
    let container = |brands: &str| {
        let brands = brands.as_bytes();
        let size = 8 + brands.len() as u8;
        [&[0, 0, 0, size][..], b"ftyp", brands, &[0; 40]].concat()
    };
    for (name, bytes, format) in [
        ("new.avif", container("avif"), "AVIF"),
        ("apple.heic", container("heic\0\0\0\0mif1heic"), "HEIC"),
        ("shared.avif", container("mif1\0\0\0\0mif1avif"), "AVIF"),
        ("new.jxl", b"\xff\x0a\0\0".to_vec(), "JPEG XL"),
    ] {
        let text = refusal(name, &bytes);
        assert!(
            text.contains(format) && text.contains("is not read: convert it"),
            "{text}"
        );
    }
    assert!(images::open(fixture("preprocess/palette.tiff")).is_ok());
    let missing = images::open(Path::new("no/such.png"))
        .unwrap_err()
        .to_string();
    assert_eq!(missing, "no/such.png: no such file");
    assert!(
        images::open(fixture("preprocess"))
            .unwrap_err()
            .to_string()
            .contains("is a folder")
    );
}

#[test]
fn an_image_that_claims_to_be_enormous_is_refused_before_it_is_read() {
    assert!(refusal("bomb.png", &huge_png()).contains("60000 x 60000 pixels is too large"));
}
