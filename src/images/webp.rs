//! What WebP's decoder does not check: that chunks are in the file. It makes room for metadata of any size they claim.

/// Whether each chunk of a WebP file ends in it. `bytes`: the file, which begins with `RIFF`, its size and `WEBP`.
pub fn chunks_fit(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if size > body.len() {
            return false;
        }
        // Of an odd size, it is followed by a byte that belongs to none.
        rest = body.get(size + size % 2..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::images::decode;

    /// An extended WebP of 3 x 2 pixels with EXIF that claims to be of this size.
    fn with_exif(size: u32) -> Vec<u8> {
        let mut plain = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::new(3, 2);
        image
            .write_to(&mut plain, image::ImageFormat::WebP)
            .unwrap();
        let pixels = &plain.get_ref()[12..];
        let head = *b"VP8X\x0a\0\0\0\x08\0\0\0\x02\0\0\x01\0\0";
        let chunks = [&head[..], pixels, b"EXIF", &size.to_le_bytes(), b"II*\0"].concat();
        let total = (chunks.len() as u32 + 4).to_le_bytes();
        [b"RIFF", &total[..], b"WEBP", &chunks].concat()
    }

    #[test]
    fn metadata_larger_than_the_file_is_not_read() {
        assert!(chunks_fit(&with_exif(4)));
        let lying = with_exif(u32::MAX - 28);
        assert!(!chunks_fit(&lying));
        let image = decode(&lying, Path::new("a.webp")).unwrap();
        assert_eq!(image.dimensions(), (3, 2));
        assert!(chunks_fit(b"RIFF") && chunks_fit(b""));
    }
}
