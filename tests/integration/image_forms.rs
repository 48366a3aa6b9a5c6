//! Forms of image formats, whole, truncated and hostile: each is read with the right pixels or refused by name.

use std::path::Path;

use crate::common::image_files::{self, encoded, image, jpeg, panicking_tiff, tag, tiff};
use clipcap::images;
use image::{ImageFormat, RgbImage};

fn open(bytes: &[u8]) -> Result<RgbImage, String> {
    images::decode(bytes, Path::new("a.file")).map_err(|error| {
        let text = error.to_string();
        assert!(
            text.starts_with("a.file: ") && !text.contains('\n'),
            "{text}"
        );
        text
    })
}

fn refused(bytes: &[u8]) -> String {
    open(bytes).unwrap_err()
}

#[test]
fn formats_are_read_whatever_they_are_called() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
        ImageFormat::Pnm,
        ImageFormat::Qoi,
        ImageFormat::Gif,
    ] {
        let found = open(&encoded(1, format)).unwrap();
        assert_eq!(found.dimensions(), (24, 20), "{format:?}");
        // GIF has a palette.
        if format != ImageFormat::Gif {
            assert_eq!(found, image(1), "{format:?}");
        }
    }
    assert!(open(&jpeg(1)).is_ok());
    let tga = encoded(1, ImageFormat::Tga);
    let found = images::decode(&tga, Path::new("a.TGA")).unwrap();
    assert_eq!(found, image(1));
}

#[test]
fn a_file_that_is_cut_short_is_refused_wherever_it_is_cut() {
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Pnm,
        ImageFormat::Tiff,
    ] {
        let whole = encoded(1, format);
        // The last bytes of a PNG and a GIF say no more than that this is the end.
        let end = match format {
            ImageFormat::Png => 12,
            ImageFormat::Gif => 2,
            _ => 1,
        };
        for length in (4..whole.len() - end).step_by(7) {
            assert!(
                open(&whole[..length]).is_err(),
                "{format:?} cut at {length}"
            );
        }
        assert!(open(&[&whole[..], b"more"].concat()).is_ok(), "{format:?}");
    }
    let whole = jpeg(1);
    let half = &whole[..whole.len() / 2];
    assert!(refused(half).contains("is damaged: it is cut short; --allow-truncated"));
    let zero_tail = [half, &vec![0; half.len()]].concat();
    assert!(refused(&zero_tail).contains("it is cut short"));
}

#[test]
fn a_panic_of_a_decoder_is_an_error_of_that_file() {
    let text = refused(&panicking_tiff());
    assert!(
        text.contains("is damaged: it breaks the decoder: "),
        "{text}"
    );
    // And nothing is left behind.
    assert!(open(&jpeg(1)).is_ok());
}

/// Width and height 5 x 2, one strip.
fn small_tiff(bits: u32, photometric: u32, more: &[(u16, Vec<u32>)], data: &[u8]) -> Vec<u8> {
    let mut tags = vec![
        (tag::WIDTH, vec![5]),
        (tag::HEIGHT, vec![2]),
        (tag::BITS, vec![bits]),
        (tag::COMPRESSION, vec![1]),
        (tag::PHOTOMETRIC, vec![photometric]),
        (tag::STRIPS, vec![0]),
        (tag::SAMPLES, vec![1]),
        (tag::ROWS, vec![2]),
        (tag::STRIP_BYTES, vec![data.len() as u32]),
    ];
    tags.extend_from_slice(more);
    tiff(&tags, data)
}

#[test]
fn a_tiff_with_a_palette_has_the_palettes_colors() {
    const COLORS: [[u32; 3]; 4] = [[0, 0, 0], [255, 0, 9], [1, 200, 3], [70, 80, 90]];
    const PIXELS: [usize; 10] = [0, 1, 2, 3, 0, 3, 3, 2, 1, 1];
    let expected: Vec<u8> = (PIXELS.iter())
        .flat_map(|&index| COLORS[index].map(|value| value as u8))
        .collect();
    for bits in [2, 4, 8] {
        let count = 1 << bits;
        let channel = |channel: usize| {
            (0..count)
                .map(move |index: usize| COLORS.get(index).map_or(0, |color| color[channel] * 257))
        };
        let palette: Vec<u32> = (0..3).flat_map(channel).collect();
        let in_byte = 8 / bits;
        let data: Vec<u8> = PIXELS
            .chunks(5)
            .flat_map(|row| {
                row.chunks(in_byte).map(move |pixels| {
                    let place = |(i, &pixel): (usize, &usize)| pixel << (8 - bits * (i + 1));
                    pixels.iter().enumerate().map(place).sum::<usize>() as u8
                })
            })
            .collect();
        let bytes = small_tiff(bits as u32, 3, &[(tag::COLOR_MAP, palette)], &data);
        let found = open(&bytes).unwrap();
        assert_eq!(found.dimensions(), (5, 2));
        assert_eq!(found.into_raw(), expected, "{bits} bits");
    }
}

#[test]
fn a_tiff_of_sixteen_grays_is_spread_over_all() {
    let found = open(&small_tiff(
        4,
        1,
        &[],
        &[0x0f, 0x12, 0x30, 0xff, 0xff, 0xf0],
    ))
    .unwrap();
    let grays: Vec<u8> = found.pixels().map(|pixel| pixel.0[0]).collect();
    assert_eq!(grays, [0, 255, 17, 34, 51, 255, 255, 255, 255, 255]);
}

#[test]
fn a_rare_compression_of_tiff_is_refused_by_name() {
    let mut bytes = small_tiff(8, 1, &[], &[0; 10]);
    let at = bytes
        .windows(2)
        .position(|two| two == tag::COMPRESSION.to_le_bytes());
    // JBIG.
    bytes[at.unwrap() + 8..][..2].copy_from_slice(&34661_u16.to_le_bytes());
    assert!(refused(&bytes).contains("this form of TIFF"));
}

#[test]
fn bitmaps_of_os2_are_read() {
    let windows = encoded(1, ImageFormat::Bmp);
    let offset = u32::from_le_bytes(windows[10..14].try_into().unwrap());
    let (header, pixels) = (&windows[14..54], &windows[offset as usize..]);
    let with = |header: &[u8]| {
        let offset = (14 + header.len()) as u32;
        [&windows[..10], &offset.to_le_bytes(), header, pixels].concat()
    };
    let long = [&64_u32.to_le_bytes(), &header[4..], &[0; 24]].concat();
    let short = [&16_u32.to_le_bytes(), &header[4..16]].concat();
    let sides = [&header[4..6], &header[8..10]].concat();
    let first = [&12_u32.to_le_bytes(), &sides[..], &header[12..16]].concat();
    for header in [long, short, first] {
        assert_eq!(
            open(&with(&header)).unwrap(),
            image(1),
            "{} bytes",
            header.len()
        );
    }
}

#[test]
fn an_icon_is_its_largest_image() {
    let (small, large) = (image_files::png(1), encoded(2, ImageFormat::Png));
    let entry = |side: u8, bytes: &[u8], offset: usize| {
        let size = (bytes.len() as u32).to_le_bytes();
        [
            &[side, side, 0, 0, 1, 0, 32, 0][..],
            &size,
            &(offset as u32).to_le_bytes(),
        ]
        .concat()
    };
    let start = 6 + 2 * 16;
    for kind in [1, 2] {
        let icon = [
            &[0, 0, kind, 0, 2, 0][..],
            &entry(16, &small, start),
            &entry(0, &large, start + small.len()),
            &small,
            &large,
        ]
        .concat();
        assert_eq!(open(&icon).unwrap(), image(2));
    }
}

#[test]
fn what_is_not_read_is_called_by_its_name() {
    for (bytes, what) in [
        (&image_files::heic()[..], "HEIC is not read"),
        (b"8BPS\0\x01", "Photoshop is not read"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG is not read",
        ),
        (b"v/1\x01\x02\0\0\0", "OpenEXR is not read"),
        (b"%!PS-Adobe-3.0", "PostScript is not read"),
        (b"\n<!DOCTYPE html>", "is not an image but a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "git lfs pull",
        ),
        (
            b"\0\0\0\x18ftypisom\0\0\0\0isom",
            "is not an image but a video",
        ),
        (b"%PDF-1.7", "is not an image but a PDF"),
        (b"\0\0\0\0", "is not an image but zeros only"),
        (b"", "is empty"),
    ] {
        let text = refused(bytes);
        assert!(text.contains(what), "no `{what}` in: {text}");
    }
}
