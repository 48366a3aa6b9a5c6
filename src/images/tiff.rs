//! Forms of TIFF that the `image` crate refuses and the `tiff` crate decodes: palettes, YCbCr (JPEG inside), gray of 2, 4
//! and 32 bits, gray with more channels.

use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffResult};

use super::MAX_PIXELS;

/// Compression by JPEG.
const JPEG: u16 = 7;
/// Photometric interpretations: black is 0, and a palette.
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;

/// An image of one of these forms. `None`: it is of another.
///
/// # Errors
/// When the file is damaged or too large for `max_bytes` of memory.
pub fn decode(bytes: &[u8], max_bytes: u64) -> TiffResult<Option<(RgbImage, Orientation)>> {
    let mut decoder = open(bytes, max_bytes)?;
    let orientation = orientation(&mut decoder);
    let image = if photometric(&mut decoder)? == Some(PALETTE) {
        let palette = decoder.get_tag_u16_vec(Tag::ColorMap)?;
        // The indices are read as if they were gray.
        let Some(gray) = as_gray(bytes) else {
            return Ok(None);
        };
        read(&mut open(&gray, max_bytes)?, Some(&palette))?
    } else {
        read(&mut decoder, None)?
    };
    Ok(image.map(|image| (image, orientation)))
}

fn open(bytes: &[u8], max_bytes: u64) -> TiffResult<Decoder<Cursor<&[u8]>>> {
    let mut limits = Limits::default();
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    Ok(Decoder::new(Cursor::new(bytes))?.with_limits(limits))
}

fn orientation(decoder: &mut Decoder<Cursor<&[u8]>>) -> Orientation {
    let value = decoder.find_tag_unsigned::<u8>(Tag::Orientation);
    let value = value.ok().flatten();
    value
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

fn photometric(decoder: &mut Decoder<Cursor<&[u8]>>) -> TiffResult<Option<u16>> {
    decoder.find_tag_unsigned(Tag::PhotometricInterpretation)
}

fn read(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    palette: Option<&[u16]>,
) -> TiffResult<Option<RgbImage>> {
    let (width, height) = decoder.dimensions()?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(TiffError::LimitsExceeded);
    }
    let color = decoder.colortype()?;
    let is_jpeg = decoder.find_tag_unsigned::<u16>(Tag::Compression)? == Some(JPEG);
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples)?;
    if layout.planes > 1 {
        return Ok(None);
    }
    let pixel = |gray: u8| [gray; 3];
    let pixels: Vec<u8> = match (color, samples) {
        (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), DecodingResult::U8(rows)) => {
            let values = unpack(&rows, width as usize, u32::from(bits));
            match palette {
                Some(palette) => values.flat_map(|value| color_of(palette, value)).collect(),
                None => {
                    let largest = (1_u32 << bits) - 1;
                    let gray = |value: u8| (u32::from(value) * 255 / largest) as u8;
                    values.flat_map(|value| pixel(gray(value))).collect()
                }
            }
        }
        _ if palette.is_some() => return Ok(None),
        // As Pillow's conversion: what is below or above the range of a byte is cut off.
        (ColorType::Gray(_), DecodingResult::F32(values)) => values
            .into_iter()
            .flat_map(|value| pixel(value as u8))
            .collect(),
        (ColorType::Gray(_), DecodingResult::U32(values)) => {
            let byte = |value: u32| value.min(255) as u8;
            values
                .into_iter()
                .flat_map(|value| pixel(byte(value)))
                .collect()
        }
        (ColorType::Gray(_), DecodingResult::I32(values)) => {
            let byte = |value: i32| value.clamp(0, 255) as u8;
            values
                .into_iter()
                .flat_map(|value| pixel(byte(value)))
                .collect()
        }
        (ColorType::Gray(_), DecodingResult::I16(values)) => {
            let byte = |value: i16| value.clamp(0, 255) as u8;
            values
                .into_iter()
                .flat_map(|value| pixel(byte(value)))
                .collect()
        }
        // A JPEG of two channels is none.
        (ColorType::Multiband { .. }, _) if is_jpeg => return Ok(None),
        // Gray, and alpha or more behind it.
        (
            ColorType::Multiband {
                bit_depth: 8,
                num_samples,
            },
            DecodingResult::U8(values),
        ) => values
            .chunks_exact(usize::from(num_samples.max(1)))
            .flat_map(|values| pixel(values[0]))
            .collect(),
        (ColorType::YCbCr(8), DecodingResult::U8(values)) => {
            values.as_chunks::<3>().0.iter().flat_map(rgb).collect()
        }
        _ => return Ok(None),
    };
    let image = RgbImage::from_raw(width, height, pixels);
    image.map(Some).ok_or_else(too_short)
}

fn too_short() -> TiffError {
    TiffError::IoError(std::io::ErrorKind::UnexpectedEof.into())
}

/// Values of so many bits, from rows that begin with whole bytes.
fn unpack(rows: &[u8], width: usize, bits: u32) -> impl Iterator<Item = u8> + '_ {
    let row_bytes = (width * bits as usize).div_ceil(8).max(1);
    let in_byte = (8 / bits) as usize;
    let mask = u8::MAX >> (8 - bits);
    rows.chunks_exact(row_bytes).flat_map(move |row| {
        (0..width).map(move |x| {
            let shift = 8 - bits * (x % in_byte + 1) as u32;
            (row[x / in_byte] >> shift) & mask
        })
    })
}

/// A palette has all reds, then all greens, then all blues, of 16 bits each.
fn color_of(palette: &[u16], value: u8) -> [u8; 3] {
    let count = palette.len() / 3;
    let channel = |channel: usize| {
        let value = palette.get(channel * count + usize::from(value));
        value.map_or(0, |value| (value >> 8) as u8)
    };
    match usize::from(value) < count {
        true => [0, 1, 2].map(channel),
        false => [0; 3],
    }
}

/// As JPEG has it (JFIF).
fn rgb(&[y, blue, red]: &[u8; 3]) -> [u8; 3] {
    let (y, blue, red) = (
        f32::from(y),
        f32::from(blue) - 128.0,
        f32::from(red) - 128.0,
    );
    [
        y + 1.402 * red,
        y - 0.344_136 * blue - 0.714_136 * red,
        y + 1.772 * blue,
    ]
    .map(|value| value.round() as u8)
}

/// The file with its palette's indices called gray: the decoder gives no indices.
fn as_gray(bytes: &[u8]) -> Option<Vec<u8>> {
    const TAG: u64 = 262;
    let little = bytes.starts_with(b"II");
    let big = bytes.get(2..4)?.contains(&43);
    let number = |at: usize, length: usize| -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, &digit: &u8| (sum << 8) | u64::from(digit);
        Some(match little {
            true => digits.iter().rev().fold(0, add),
            false => digits.iter().fold(0, add),
        })
    };
    let (first, count_length, entry) = match big {
        true => (number(8, 8)?, 8, 20),
        false => (number(4, 4)?, 2, 12),
    };
    let first = usize::try_from(first).ok()?;
    let count = number(first, count_length)?;
    let mut at = first.checked_add(count_length)?;
    for _ in 0..count {
        if number(at, 2)? == TAG {
            let value = at + if big { 12 } else { 8 };
            let mut gray = bytes.to_vec();
            let two = match little {
                true => BLACK_IS_ZERO.to_le_bytes(),
                false => BLACK_IS_ZERO.to_be_bytes(),
            };
            gray.get_mut(value..value + 2)?.copy_from_slice(&two);
            return Some(gray);
        }
        at = at.checked_add(entry)?;
    }
    None
}
