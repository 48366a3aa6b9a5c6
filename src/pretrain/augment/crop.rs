//! torchvision's `RandomResizedCrop.get_params`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Sides of a crop are to each other as 3 to 4 at most.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// Draws before the middle of the image is taken instead.
const TRIES: usize = 10;

/// A part of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A part with a random share of the area, from `scale[0]` to `scale[1]`, and a random ratio of its sides, anywhere.
pub fn random_crop((width, height): (u32, u32), scale: [f64; 2], rng: &mut ChaCha8Rng) -> CropBox {
    let whole = CropBox {
        x: 0,
        y: 0,
        width,
        height,
    };
    if scale == [1.0, 1.0] {
        return whole;
    }
    let area = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let target = area * rng.random_range(scale[0]..=scale[1]);
        let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let w = (target * ratio).sqrt().round_ties_even() as u32;
        let h = (target / ratio).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return CropBox {
                x: rng.random_range(0..=width - w),
                y: rng.random_range(0..=height - h),
                width: w,
                height: h,
            };
        }
    }
    middle(width, height)
}

/// The largest part in the middle whose sides are as much unlike as is allowed.
fn middle(width: u32, height: u32) -> CropBox {
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < RATIO.0 {
        let h = (f64::from(width) / RATIO.0).round_ties_even() as u32;
        (width, h.clamp(1, height))
    } else if ratio > RATIO.1 {
        let w = (f64::from(height) * RATIO.1).round_ties_even() as u32;
        (w.clamp(1, width), height)
    } else {
        (width, height)
    };
    CropBox {
        x: (width - w) / 2,
        y: (height - h) / 2,
        width: w,
        height: h,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn crops_have_the_share_and_the_sides_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sum = 0.0;
        for _ in 0..2000 {
            let cut = random_crop((96, 96), [0.2, 0.6], &mut rng);
            assert!(cut.x + cut.width <= 96 && cut.y + cut.height <= 96);
            let share = f64::from(cut.width * cut.height) / (96.0 * 96.0);
            let ratio = f64::from(cut.width) / f64::from(cut.height);
            assert!((0.18..0.62).contains(&share), "{cut:?}");
            assert!((0.72..1.39).contains(&ratio), "{cut:?}");
            sum += share;
        }
        assert!((sum / 2000.0 - 0.4).abs() < 0.01);
    }

    #[test]
    fn where_no_crop_fits_the_middle_is_taken() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let cut = random_crop((300, 10), [0.9, 1.0], &mut rng);
        let expected = CropBox {
            x: 143,
            y: 0,
            width: 13,
            height: 10,
        };
        assert_eq!(cut, expected);
        assert_eq!(random_crop((1, 1), [0.08, 0.5], &mut rng).width, 1);
    }
}
