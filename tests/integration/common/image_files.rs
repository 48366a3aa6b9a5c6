//! Image files, whole and otherwise.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

/// A small image with something to see.
pub fn image(seed: u32) -> RgbImage {
    RgbImage::from_fn(24, 20, |x, y| {
        let value = |k: u32| (x * 9 * k + y * 5 + seed * 31) as u8;
        Rgb([value(1), value(2), value(3)])
    })
}

pub fn encoded(seed: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image(seed).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn png(seed: u32) -> Vec<u8> {
    encoded(seed, ImageFormat::Png)
}

pub fn jpeg(seed: u32) -> Vec<u8> {
    encoded(seed, ImageFormat::Jpeg)
}

/// Without the last of its image data.
pub fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 40);
    bytes
}

/// Writes a file, and the folders that it is in.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A HEIC that ends after its first box.
pub fn heic() -> Vec<u8> {
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()
}

/// Tags of TIFF.
pub mod tag {
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const STRIPS: u16 = 273;
    pub const SAMPLES: u16 = 277;
    pub const ROWS: u16 = 278;
    pub const STRIP_BYTES: u16 = 279;
    pub const PLANAR: u16 = 284;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILES: u16 = 324;
    pub const TILE_BYTES: u16 = 325;
}

/// A TIFF of these tags, in ascending order, and image data, which offsets are counted from.
pub fn tiff(tags: &[(u16, Vec<u32>)], data: &[u8]) -> Vec<u8> {
    let is_offset = |tag| matches!(tag, tag::STRIPS | tag::TILES);
    let is_long = |tag| is_offset(tag) || matches!(tag, tag::STRIP_BYTES | tag::TILE_BYTES);
    let width = |tag| if is_long(tag) { 4 } else { 2 };
    let list = 8 + 2 + 12 * tags.len() + 4;
    let outside = |(tag, values): &(u16, Vec<u32>)| match width(*tag) * values.len() {
        0..=4 => 0,
        bytes => bytes,
    };
    let start = list + tags.iter().map(outside).sum::<usize>();
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    let mut values_outside = Vec::new();
    for entry @ (tag, values) in tags {
        let kind: u16 = if is_long(*tag) { 4 } else { 3 };
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((values.len() as u32).to_le_bytes());
        let base = if is_offset(*tag) { start as u32 } else { 0 };
        let encode = |value: &u32| (value + base).to_le_bytes()[..width(*tag)].to_vec();
        let mut encoded: Vec<u8> = values.iter().flat_map(encode).collect();
        if outside(entry) > 0 {
            bytes.extend(((list + values_outside.len()) as u32).to_le_bytes());
            values_outside.extend(encoded);
        } else {
            encoded.resize(4, 0);
            bytes.extend(encoded);
        }
    }
    bytes.extend([0; 4]);
    [bytes, values_outside, data.to_vec()].concat()
}

/// A valid TIFF on which the `tiff` crate panics: tiles, and a plane for each channel.
pub fn panicking_tiff() -> Vec<u8> {
    let tile = 32 * 32_u32;
    let tiles = 3 * 4;
    tiff(
        &[
            (tag::WIDTH, vec![50]),
            (tag::HEIGHT, vec![50]),
            (tag::BITS, vec![8, 8, 8]),
            (tag::COMPRESSION, vec![1]),
            (tag::PHOTOMETRIC, vec![2]),
            (tag::SAMPLES, vec![3]),
            (tag::PLANAR, vec![2]),
            (tag::TILE_WIDTH, vec![32]),
            (tag::TILE_HEIGHT, vec![32]),
            (tag::TILES, (0..tiles).map(|i| i * tile).collect()),
            (tag::TILE_BYTES, vec![tile; tiles as usize]),
        ],
        &vec![128; (tiles * tile) as usize],
    )
}

/// A PNG whose header says that it is enormous.
pub fn huge_png() -> Vec<u8> {
    let mut png = png(0);
    png[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}
