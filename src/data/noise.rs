//! Noise on the normalized CLIP embedding while training.
//!
//! The paper puts noise "on 10% of the feature information of each picture" and says no more. The reading taken by
//! default: a random tenth of the coordinates gets Gaussian noise, with CapDec's variance (0.016, its README at
//! 4451bfd), and the result is normalized again. The other readings are modes.

use rand::seq::index;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Normal, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::vector::{norm, normalize};

/// Where the noise goes and how strong it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    pub mode: NoiseMode,
    /// `coordinates`: the share of coordinates; `samples`: the share of embeddings; `relative`: the noise's norm.
    pub rate: f64,
    /// Variance a coordinate; for `ball` the squared radius.
    pub variance: f64,
}

/// How "noise on 10%" is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseMode {
    /// No noise.
    None,
    /// Gaussian noise on a random share of the coordinates.
    Coordinates,
    /// Gaussian noise on every coordinate of a random share of the embeddings.
    Samples,
    /// A random direction whose norm is `rate` times the embedding's.
    Relative,
    /// Gaussian noise on every coordinate (CapDec).
    Gaussian,
    /// A uniform point in a ball of radius `sqrt(variance)` (CapDec's `--uniform_noise`).
    Ball,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            mode: NoiseMode::Coordinates,
            rate: 0.1,
            variance: 0.016,
        }
    }
}

impl Noise {
    /// Adds noise to a normalized embedding and normalizes it again.
    pub fn apply(&self, embedding: &mut [f32], rng: &mut impl Rng) {
        let std = self.variance.max(0.0).sqrt();
        match self.mode {
            NoiseMode::None => return,
            NoiseMode::Coordinates => {
                let count = (self.rate * embedding.len() as f64).round() as usize;
                for i in index::sample(rng, embedding.len(), count.min(embedding.len())) {
                    add_gaussian(&mut embedding[i..=i], std, rng);
                }
            }
            NoiseMode::Samples => {
                if rng.random_bool(self.rate.clamp(0.0, 1.0)) {
                    add_gaussian(embedding, std, rng);
                }
            }
            NoiseMode::Gaussian => add_gaussian(embedding, std, rng),
            NoiseMode::Relative => add_direction(embedding, self.rate * norm(embedding), rng),
            NoiseMode::Ball => {
                let radius = std * rng.random::<f64>().powf(1.0 / embedding.len() as f64);
                add_direction(embedding, radius, rng);
            }
        }
        normalize(embedding);
    }
}

fn add_gaussian(values: &mut [f32], std: f64, rng: &mut impl Rng) {
    if let Ok(normal) = Normal::new(0.0, std) {
        values
            .iter_mut()
            .for_each(|value| *value += normal.sample(rng) as f32);
    }
}

fn add_direction(values: &mut [f32], length: f64, rng: &mut impl Rng) {
    let direction: Vec<f32> = values.iter().map(|_| StandardNormal.sample(rng)).collect();
    let scale = (length / norm(&direction).max(f64::MIN_POSITIVE)) as f32;
    for (value, step) in values.iter_mut().zip(direction) {
        *value += scale * step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::cosine;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn unit(dim: usize) -> Vec<f32> {
        let mut embedding: Vec<f32> = (0..dim).map(|i| (i as f32 + 1.0).sin()).collect();
        normalize(&mut embedding);
        embedding
    }

    fn noisy(noise: &Noise, dim: usize, seed: u64) -> Vec<f32> {
        let mut embedding = unit(dim);
        noise.apply(&mut embedding, &mut ChaCha8Rng::seed_from_u64(seed));
        embedding
    }

    #[test]
    fn a_tenth_of_the_coordinates_changes_and_the_norm_stays_one() {
        let out = noisy(&Noise::default(), 640, 1);
        assert!((norm(&out) - 1.0).abs() < 1e-5);
        // The others keep their ratios: they are all scaled by the same renormalization.
        let ratios: Vec<f32> = out.iter().zip(unit(640)).map(|(a, b)| a / b).collect();
        let mut sorted = ratios.clone();
        sorted.sort_by(f32::total_cmp);
        let common = sorted[320];
        let changed = ratios
            .iter()
            .filter(|&&r| (r / common - 1.0).abs() > 1e-4)
            .count();
        assert_eq!(changed, 64);
    }

    #[test]
    fn capdec_noise_gives_the_expected_cosine() {
        // E[cos] is about 1 / sqrt(1 + d * variance): 0.30 at 640 dimensions.
        let noise = Noise {
            mode: NoiseMode::Gaussian,
            ..Noise::default()
        };
        let mean = (0..200)
            .map(|seed| cosine(&noisy(&noise, 640, seed), &unit(640)))
            .sum::<f64>()
            / 200.0;
        assert!((mean - 0.2985).abs() < 0.01, "{mean}");
    }

    #[test]
    fn relative_and_ball_noise_have_bounded_length() {
        let relative = Noise {
            mode: NoiseMode::Relative,
            rate: 0.1,
            variance: 0.0,
        };
        let ball = Noise {
            mode: NoiseMode::Ball,
            rate: 0.0,
            variance: 0.01,
        };
        for seed in 0..50 {
            // A step of length r turns a unit vector by at most asin(r).
            let least = (1.0 - 0.1_f64.powi(2)).sqrt() - 1e-6;
            let turned = cosine(&noisy(&relative, 64, seed), &unit(64));
            assert!(turned >= least && turned < 0.9999, "{turned}");
            assert!(cosine(&noisy(&ball, 64, seed), &unit(64)) >= least);
        }
    }

    #[test]
    fn a_tenth_of_the_samples_changes() {
        let noise = Noise {
            mode: NoiseMode::Samples,
            ..Noise::default()
        };
        let changed = (0..2000)
            .filter(|&seed| cosine(&noisy(&noise, 32, seed), &unit(32)) < 0.999)
            .count();
        assert!((150..250).contains(&changed), "{changed}");
    }

    #[test]
    fn no_noise_is_the_identity() {
        let zero = Noise {
            variance: 0.0,
            ..Noise::default()
        };
        let none = Noise {
            mode: NoiseMode::None,
            ..Noise::default()
        };
        let out = noisy(&none, 64, 3);
        assert!(out.iter().zip(unit(64)).all(|(a, b)| (a - b).abs() < 1e-7));
        assert!(cosine(&noisy(&zero, 64, 3), &unit(64)) > 0.999_999);
    }
}
