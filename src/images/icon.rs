//! Icons and cursors: files of several images, of which the largest is taken, as Pillow does.

use std::borrow::Cow;

use image::ImageFormat;

/// Bytes before the list of images, and of an entry of it.
const HEADER: usize = 6;
const ENTRY: usize = 16;

/// What is to be decoded: the largest image where that is a PNG, which an icon may hold in any form, else the icon. A
/// cursor is taken for an icon: it has a hot spot where an icon says how many colors it has.
pub fn largest(bytes: &[u8]) -> (Cow<'_, [u8]>, ImageFormat) {
    match png(bytes) {
        Some(png) => (Cow::Borrowed(png), ImageFormat::Png),
        None => match bytes {
            [0, 0, 2, 0, rest @ ..] => {
                let icon = [&[0, 0, 1, 0], rest].concat();
                (Cow::Owned(icon), ImageFormat::Ico)
            }
            _ => (Cow::Borrowed(bytes), ImageFormat::Ico),
        },
    }
}

/// The largest image, if it is a PNG.
fn png(bytes: &[u8]) -> Option<&[u8]> {
    let count = u16::from_le_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let (entries, _) = bytes.get(HEADER..)?.as_chunks::<ENTRY>();
    // 0 stands for 256.
    let side = |side: u8| u32::from(side.wrapping_sub(1)) + 1;
    // Of several that are as large, the first.
    let largest = entries
        .iter()
        .take(usize::from(count))
        .rev()
        .max_by_key(|entry| side(entry[0]) * side(entry[1]))?;
    let number = |at: usize| {
        let four: [u8; 4] = largest[at..at + 4].try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    let image = bytes.get(number(12)?..)?;
    let image = image.get(..number(8)?).unwrap_or(image);
    image.starts_with(b"\x89PNG\r\n\x1a\n").then_some(image)
}
