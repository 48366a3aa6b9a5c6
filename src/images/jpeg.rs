//! Whether a JPEG is there to its end. The decoder fills what is missing with gray; Pillow refuses it.

/// Whether the end-of-image marker comes behind image data. What follows it is of no concern.
pub fn is_whole(bytes: &[u8]) -> bool {
    // Behind the marker that begins the file.
    let mut at = 2;
    let mut has_data = false;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            EOI => return has_data,
            SOS => {
                has_data = true;
                skip_segment(bytes, &mut at);
            }
            // They stand alone: restarts, a start in the middle, and what is reserved.
            0x01 | 0xd0..=0xd8 => {}
            _ => skip_segment(bytes, &mut at),
        }
    }
    false
}

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;

/// The code of the next marker from `at` on, which then is behind it. Image data has only restart markers and escaped
/// bytes in it, so that it is passed over on the way.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        *at += rest.iter().position(|&byte| byte == 0xff)? + 1;
        while bytes.get(*at) == Some(&0xff) {
            *at += 1;
        }
        let code = *bytes.get(*at)?;
        *at += 1;
        if code != 0 {
            return Some(code);
        }
    }
}

/// Passes over a segment by its length.
fn skip_segment(bytes: &[u8], at: &mut usize) {
    let length = bytes.get(*at..*at + 2).map_or(0, |length| {
        usize::from(u16::from_be_bytes([length[0], length[1]]))
    });
    *at += length;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 5, y as u8, 9]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut bytes, image::ImageFormat::Jpeg)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_jpeg_is_whole_with_its_end_alone() {
        let whole = jpeg();
        assert!(is_whole(&whole));
        assert!(is_whole(&[&whole[..], b"more"].concat()));
        for cut in 0..whole.len() {
            assert!(!is_whole(&whole[..cut]), "cut at {cut}");
        }
        let mut zero_tail = whole.clone();
        let half = whole.len() / 2;
        zero_tail[half..].fill(0);
        assert!(!is_whole(&zero_tail));
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_images() {
        let (whole, thumbnail) = (jpeg(), jpeg());
        let length = (thumbnail.len() as u16 + 2).to_be_bytes();
        let segment = [&[0xff, 0xe1][..], &length, &thumbnail].concat();
        let with = [&whole[..2], &segment, &whole[2..]].concat();
        assert!(is_whole(&with));
        assert!(!is_whole(&with[..with.len() - 2]));
    }
}
