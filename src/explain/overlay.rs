//! Relevance drawn over the image.

use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

/// Least side of an overlay in pixels: smaller images are enlarged.
const LEAST_SIDE: u32 = 336;
/// Weakest to strongest support, in steps of the same length.
const SUPPORT: [[f32; 3]; 4] = [
    [74.0, 20.0, 140.0],
    [200.0, 30.0, 110.0],
    [250.0, 120.0, 30.0],
    [255.0, 236.0, 120.0],
];
/// What speaks against a token.
const AGAINST: [f32; 3] = [40.0, 120.0, 255.0];
/// How far the strongest color covers the image.
const MOST_COVER: f32 = 0.85;
/// What is left of the image's brightness where nothing is relevant.
const DIMMED: f32 = 0.75;

/// The square that the encoder looked at, in gray, with a color over each place by its relevance: the more, the brighter, by the
/// largest of the cells; blue where it is negative. Between the middles of cells it is interpolated.
///
/// `cells`: `side * side` values, row by row.
pub fn draw(crop: &RgbImage, cells: &[f32], side: usize) -> RgbImage {
    let (width, height) = crop.dimensions();
    let mut drawn = match width.max(height) {
        longer if longer < LEAST_SIDE => {
            let times = LEAST_SIDE.div_ceil(longer.max(1));
            resize(crop, width * times, height * times, FilterType::CatmullRom)
        }
        _ => crop.clone(),
    };
    let largest = cells
        .iter()
        .fold(0.0_f32, |largest, cell| largest.max(cell.abs()));
    let (width, height) = drawn.dimensions();
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let place = |at: u32, length: u32| (at as f32 + 0.5) / length as f32 * side as f32 - 0.5;
        let value = match largest > 0.0 && cells.len() == side * side {
            true => between(cells, side, place(x, width), place(y, height)) / largest,
            false => 0.0,
        };
        *pixel = colored(*pixel, value);
    }
    drawn
}

/// The sum of some maps, each scaled by its largest value; zeros of none.
pub fn sum<'a>(maps: impl IntoIterator<Item = &'a [f32]>, count: usize) -> Vec<f32> {
    let mut sums = vec![0.0; count];
    for map in maps {
        let largest = map
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if largest > 0.0 {
            for (sum, value) in sums.iter_mut().zip(map) {
                *sum += value / largest;
            }
        }
    }
    sums
}

/// Bilinear, with the outermost values beyond the middles of the outermost cells.
fn between(cells: &[f32], side: usize, x: f32, y: f32) -> f32 {
    let last = (side - 1) as f32;
    let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
    let (left, top) = (x.floor() as usize, y.floor() as usize);
    let (right, bottom) = ((left + 1).min(side - 1), (top + 1).min(side - 1));
    let (dx, dy) = (x - left as f32, y - top as f32);
    let row = |y: usize| cells[y * side + left] * (1.0 - dx) + cells[y * side + right] * dx;
    row(top) * (1.0 - dy) + row(bottom) * dy
}

fn colored(pixel: Rgb<u8>, value: f32) -> Rgb<u8> {
    let [red, green, blue] = pixel.0.map(f32::from);
    let gray = DIMMED * (0.299 * red + 0.587 * green + 0.114 * blue);
    let color = match value < 0.0 {
        true => AGAINST,
        false => {
            let place = value.min(1.0) * (SUPPORT.len() - 1) as f32;
            let below = (place as usize).min(SUPPORT.len() - 2);
            let share = place - below as f32;
            std::array::from_fn(|i| {
                SUPPORT[below][i] * (1.0 - share) + SUPPORT[below + 1][i] * share
            })
        }
    };
    let cover = MOST_COVER * value.abs().min(1.0).sqrt();
    Rgb(color.map(|color| (gray * (1.0 - cover) + color * cover).round() as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relevant_cell_is_the_brightest_and_what_speaks_against_is_blue() {
        let crop = RgbImage::from_pixel(64, 64, Rgb([120, 120, 120]));
        let mut cells = vec![0.0; 16];
        (cells[5], cells[15]) = (2.0, -1.0);
        let drawn = draw(&crop, &cells, 4);
        assert_eq!(drawn.dimensions(), (384, 384));
        let at = |row: u32, column: u32| drawn.get_pixel(48 + 96 * column, 48 + 96 * row).0;
        let [red, _, blue] = at(1, 1);
        assert!(red > 200 && blue < 140, "{:?}", at(1, 1));
        let [red, _, blue] = at(3, 3);
        assert!(blue > red + 40, "{:?}", at(3, 3));
        assert_eq!(at(0, 3), [90; 3], "gray and dimmed");
        assert_eq!(draw(&crop, &[0.0; 16], 4).get_pixel(5, 5).0, [90; 3]);
    }

    #[test]
    fn maps_count_alike_in_their_sum() {
        let maps: [&[f32]; 3] = [&[1.0, 0.0], &[0.0, 100.0], &[0.0, 0.0]];
        assert_eq!(sum(maps, 2), [1.0, 1.0]);
    }
}
