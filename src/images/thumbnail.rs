//! Small images for pages that need nothing but themselves.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageResult, RgbImage};

const JPEG_QUALITY: u8 = 78;

/// An image as an address that holds it, a JPEG whose longer side is `side` pixels.
///
/// # Errors
/// When it has no pixels.
pub fn data_uri(image: RgbImage, side: u32) -> ImageResult<String> {
    let small = DynamicImage::from(image).thumbnail(side, side);
    let mut jpeg = Cursor::new(Vec::new());
    small
        .to_rgb8()
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY))?;
    let jpeg = STANDARD.encode(jpeg.into_inner());
    Ok(format!("data:image/jpeg;base64,{jpeg}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_of_a_jpeg_of_that_size() {
        let uri = data_uri(RgbImage::new(100, 50), 20).unwrap();
        let (kind, jpeg) = uri.split_once(',').unwrap();
        assert_eq!(kind, "data:image/jpeg;base64");
        let image = image::load_from_memory(&STANDARD.decode(jpeg).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (20, 10));
    }
}
