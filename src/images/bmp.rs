//! Bitmaps of OS/2, put into the form that the decoder knows.

use std::borrow::Cow;

/// Bytes of the file's header, before the bitmap's.
const FILE_HEADER: usize = 14;
/// Bytes of the header of Windows 3.
const WINDOWS_HEADER: usize = 40;

/// A bitmap of OS/2 2 with the header of Windows 3, whose fields are the first of its own; another one as it is.
pub fn windows_bitmap(bytes: &[u8]) -> Cow<'_, [u8]> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(four.try_into().ok()?))
    };
    // The long form, and the short one that leaves out what is zero.
    let (Some(size @ (16 | 64)), Some(offset)) = (number(FILE_HEADER), number(10)) else {
        return Cow::Borrowed(bytes);
    };
    let size = size as usize;
    let Some(rest) = bytes.get(FILE_HEADER + size..) else {
        return Cow::Borrowed(bytes);
    };
    let mut header = bytes[FILE_HEADER..FILE_HEADER + size.min(WINDOWS_HEADER)].to_vec();
    header.resize(WINDOWS_HEADER, 0);
    header[..4].copy_from_slice(&(WINDOWS_HEADER as u32).to_le_bytes());
    let mut file = bytes[..FILE_HEADER].to_vec();
    let moved = (u64::from(offset) + WINDOWS_HEADER as u64).saturating_sub(size as u64) as u32;
    file[10..14].copy_from_slice(&moved.to_le_bytes());
    Cow::Owned([&file, &header, rest].concat())
}
