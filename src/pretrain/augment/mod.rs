//! SimCLR's augmentations (Chen et al. 2020, <https://arxiv.org/abs/2002.05709>, appendix A): a random crop, resized; a
//! flip; color distortion; blur. The steps are torchvision's where they share a name (0.29): the crop as it cuts and
//! resizes Pillow's images with bicubic weights, colors and blur as it treats tensors of float32 values.

mod blur;
mod color;
mod crop;

use image::RgbImage;
use image::imageops;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::models::clip::preprocess::resized;

pub use blur::gaussian_blur;
pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub use crop::{CropBox, random_crop};

/// How often, and how strongly, an image is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Least and largest share of the image's area that a crop takes; no crop at `[1, 1]`.
    pub crop: [f64; 2],
    /// Probability of a mirrored image.
    pub flip: f64,
    /// Strength of the color distortion: brightness, contrast and saturation change by up to 0.8 times it, hue by 0.2.
    pub jitter: f64,
    /// Probability of the color distortion.
    pub jitter_rate: f64,
    /// Probability of an image without colors.
    pub grayscale: f64,
    /// Probability of blur, with a kernel of a tenth of the side and a deviation from 0.1 to 2 pixels.
    pub blur: f64,
}

/// A square image as three planes of values from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    pub side: usize,
    /// `[3, side, side]`
    pub values: Vec<f32>,
}

impl Augmentation {
    /// The paper's for CIFAR-10 (appendix B.9): strength 0.5, no blur.
    pub fn cifar10() -> Self {
        Self {
            crop: [0.08, 1.0],
            flip: 0.5,
            jitter: 0.5,
            jitter_rate: 0.8,
            grayscale: 0.2,
            blur: 0.0,
        }
    }

    /// The paper's for larger images: strength 1, blur on every second one.
    pub fn large() -> Self {
        Self {
            jitter: 1.0,
            blur: 0.5,
            ..Self::cifar10()
        }
    }

    /// Nothing is changed.
    pub fn none() -> Self {
        Self {
            crop: [1.0, 1.0],
            flip: 0.0,
            jitter: 0.0,
            jitter_rate: 0.0,
            grayscale: 0.0,
            blur: 0.0,
        }
    }

    /// # Errors
    /// When a number makes no sense.
    pub fn validate(&self) -> anyhow::Result<()> {
        let [least, most] = self.crop;
        anyhow::ensure!(
            0.0 < least && least <= most && most <= 1.0,
            "a crop of {least} to {most} of an image makes no sense: give shares above 0, up to 1"
        );
        for (name, rate) in [
            ("flip", self.flip),
            ("jitter rate", self.jitter_rate),
            ("grayscale", self.grayscale),
            ("blur", self.blur),
        ] {
            anyhow::ensure!(
                (0.0..=1.0).contains(&rate),
                "the probability {rate} of {name} makes no sense: give a number from 0 to 1"
            );
        }
        anyhow::ensure!(
            (0.0..=2.5).contains(&self.jitter),
            "a jitter of {} makes no sense: give a number from 0 to 2.5",
            self.jitter
        );
        Ok(())
    }

    /// A view of an image, `side` pixels square. The same numbers from `rng` make the same view.
    pub fn view(&self, image: &RgbImage, side: u32, rng: &mut ChaCha8Rng) -> Planes {
        let cut = random_crop(image.dimensions(), self.crop, rng);
        let cut = imageops::crop_imm(image, cut.x, cut.y, cut.width, cut.height).to_image();
        let mut view = Planes::of(&resized(&cut, side));
        if rng.random_bool(self.flip) {
            view.flip();
        }
        if rng.random_bool(self.jitter_rate) {
            self.distort(&mut view, rng);
        }
        if rng.random_bool(self.grayscale) {
            grayscale(&mut view);
        }
        if rng.random_bool(self.blur) {
            let kernel = blur::kernel_size(side as usize);
            gaussian_blur(&mut view, kernel, rng.random_range(0.1..2.0));
        }
        view
    }

    /// torchvision's `ColorJitter`: the four changes in random order.
    fn distort(&self, view: &mut Planes, rng: &mut ChaCha8Rng) {
        use rand::seq::SliceRandom;
        let spread = 0.8 * self.jitter;
        let mut factor = || rng.random_range((1.0 - spread).max(0.0)..=1.0 + spread) as f32;
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        let shift = (0.2 * self.jitter).min(0.5);
        let hue = rng.random_range(-shift..=shift) as f32;
        let mut order = [0, 1, 2, 3];
        order.shuffle(rng);
        for step in order {
            match step {
                0 => adjust_brightness(view, brightness),
                1 => adjust_contrast(view, contrast),
                2 => adjust_saturation(view, saturation),
                _ => adjust_hue(view, hue),
            }
        }
    }
}

impl Planes {
    /// The values of a square image.
    pub fn of(image: &RgbImage) -> Self {
        let pixels = image.as_raw();
        let values = (0..3)
            .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
            .map(|&value| f32::from(value) / 255.0)
            .collect();
        Self {
            side: image.width() as usize,
            values,
        }
    }

    /// Left becomes right.
    pub fn flip(&mut self) {
        let side = self.side;
        self.values
            .chunks_exact_mut(side)
            .for_each(<[f32]>::reverse);
    }

    /// Changes every pixel.
    fn map(&mut self, change: impl Fn([f32; 3]) -> [f32; 3]) {
        let plane = self.side * self.side;
        let (red, rest) = self.values.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            [*r, *g, *b] = change([*r, *g, *b]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn image() -> RgbImage {
        RgbImage::from_fn(24, 24, |x, y| {
            image::Rgb([(x * 10) as u8, (y * 10) as u8, ((x * y) % 256) as u8])
        })
    }

    #[test]
    fn a_view_follows_from_its_seed() {
        let view = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            Augmentation::large().view(&image(), 16, &mut rng)
        };
        assert_eq!(view(1), view(1));
        assert_ne!(view(1), view(2));
        assert!(
            view(3)
                .values
                .iter()
                .all(|value| (0.0..=1.0).contains(value))
        );
    }

    #[test]
    fn without_augmentation_a_view_is_the_image() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let view = Augmentation::none().view(&image(), 24, &mut rng);
        assert_eq!(view, Planes::of(&image()));
    }

    #[test]
    fn a_flip_swaps_left_and_right_and_nothing_else() {
        let mut view = Planes::of(&image());
        let before = view.clone();
        view.flip();
        assert_eq!(view.values[0], before.values[23]);
        assert_eq!(view.values[24 * 5 + 3], before.values[24 * 5 + 20]);
        view.flip();
        assert_eq!(view, before);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let bad = Augmentation {
            flip: 1.5,
            ..Augmentation::none()
        };
        assert!(bad.validate().unwrap_err().to_string().contains("of flip"));
        let bad = Augmentation {
            crop: [0.0, 1.0],
            ..Augmentation::none()
        };
        assert!(
            bad.validate()
                .unwrap_err()
                .to_string()
                .contains("a crop of 0")
        );
    }
}
