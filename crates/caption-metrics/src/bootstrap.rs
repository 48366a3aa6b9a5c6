//! Confidence intervals by resampling the images (Efron and Tibshirani 1993; for corpus scores Koehn 2004,
//! <https://aclanthology.org/W04-3250>).

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::scores::Scores;

/// Resamples that are summed up together.
const BLOCK: usize = 8;

/// How resampling is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    pub resamples: usize,
    /// The share of resampled scores that an interval holds.
    pub confidence: f64,
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 1000,
            confidence: 0.95,
            seed: 1,
        }
    }
}

/// The middle of a score's resampled values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// How two models differ in one score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub name: &'static str,
    pub a: f64,
    pub b: f64,
    /// `b - a`.
    pub difference: f64,
    pub interval: Interval,
    /// Two-sided: twice the share of resamples in which the better model is not better.
    pub p: f64,
}

impl Bootstrap {
    /// How often each image comes in a resample: `[images]` numbers that sum to the number of images.
    fn counts(&self, resample: usize, images: usize) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(resample as u64);
        let mut counts = vec![0; images];
        for _ in 0..images {
            counts[random.random_range(0..images)] += 1;
        }
        counts
    }

    /// Resampled values, `[names][resamples]`, each list sorted; the images drawn are the same for every score.
    fn values(
        &self,
        names: usize,
        images: usize,
        of: impl Fn(&[Vec<u32>; BLOCK]) -> [Vec<f64>; BLOCK] + Sync,
    ) -> Vec<Vec<f64>> {
        let blocks: Vec<[Vec<f64>; BLOCK]> = (0..self.resamples.div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| {
                of(&std::array::from_fn(|i| {
                    self.counts(block * BLOCK + i, images)
                }))
            })
            .collect();
        let rows = blocks.as_flattened();
        (0..names)
            .map(|name| {
                let rows = rows.iter().take(self.resamples);
                let mut values: Vec<f64> = rows.map(|row| row[name]).collect();
                values.sort_by(f64::total_cmp);
                values
            })
            .collect()
    }

    fn interval(&self, sorted: &[f64]) -> Interval {
        let tail = (1.0 - self.confidence) / 2.0;
        Interval {
            low: quantile(sorted, tail),
            high: quantile(sorted, 1.0 - tail),
        }
    }

    /// An interval for every name of every score, in order; none without resamples or images.
    pub fn intervals(&self, scores: &[Scores]) -> Option<Vec<Interval>> {
        let images = scores.first().map_or(0, Scores::images);
        if self.resamples == 0 || images == 0 {
            return None;
        }
        let names = scores.iter().map(|score| score.names().len()).sum();
        let values = self.values(names, images, |counts| resampled(scores, counts));
        Some(values.iter().map(|values| self.interval(values)).collect())
    }

    /// An interval for the ratio of two sums over the images, `above` by `below`, which have a value an image each; none without
    /// resamples or images.
    ///
    /// # Panics
    /// When they are not of the same images.
    pub fn ratio(&self, above: &[f64], below: &[f64]) -> Option<Interval> {
        assert_eq!(above.len(), below.len(), "values of other images");
        if self.resamples == 0 || above.is_empty() {
            return None;
        }
        let sum = |values: &[f64], counts: &[u32]| -> f64 {
            let weighted = values.iter().zip(counts);
            weighted
                .map(|(value, &count)| value * f64::from(count))
                .sum()
        };
        let values = self.values(1, above.len(), |counts| {
            std::array::from_fn(|i| vec![sum(above, &counts[i]) / sum(below, &counts[i])])
        });
        Some(self.interval(&values[0]))
    }

    /// The paired differences of two models' scores on the same images in the same order.
    ///
    /// # Panics
    /// When the scores are not of the same metrics and images.
    pub fn compare(&self, a: &[Scores], b: &[Scores]) -> Vec<Difference> {
        let images = a.first().map_or(0, Scores::images);
        let names: Vec<&'static str> = a.iter().flat_map(|score| score.names().to_vec()).collect();
        let other: Vec<&'static str> = b.iter().flat_map(|score| score.names().to_vec()).collect();
        assert_eq!(names, other, "scores of other metrics");
        assert!(
            a.iter().chain(b).all(|score| score.images() == images),
            "scores of other images"
        );
        let values = self.values(names.len(), images, |counts| {
            let mut differences = resampled(b, counts);
            for (b, a) in differences.iter_mut().zip(resampled(a, counts)) {
                for (b, a) in b.iter_mut().zip(a) {
                    *b -= a;
                }
            }
            differences
        });
        let overall =
            |scores: &[Scores]| scores.iter().flat_map(Scores::overall).collect::<Vec<_>>();
        let (a, b) = (overall(a), overall(b));
        (0..names.len())
            .map(|i| Difference {
                name: names[i],
                a: a[i],
                b: b[i],
                difference: b[i] - a[i],
                interval: self.interval(&values[i]),
                p: two_sided(&values[i]),
            })
            .collect()
    }
}

/// Every score's names' values, in order, for each resample of a block.
fn resampled(scores: &[Scores], counts: &[Vec<u32>; BLOCK]) -> [Vec<f64>; BLOCK] {
    let mut rows = [const { Vec::new() }; BLOCK];
    for score in scores {
        for (row, values) in rows.iter_mut().zip(score.resampled(counts)) {
            row.extend(values);
        }
    }
    rows
}

/// A quantile of sorted values, between two of them where it falls there; NaN of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len().max(1) - 1) as f64;
    match (
        sorted.get(place.floor() as usize),
        sorted.get(place.ceil() as usize),
    ) {
        (Some(low), Some(high)) => low + (high - low) * place.fract(),
        _ => f64::NAN,
    }
}

/// At least one in the number of resamples, for no finite number of them shows that a difference cannot be chance.
fn two_sided(differences: &[f64]) -> f64 {
    let share = |holds: fn(f64) -> bool| {
        let count = differences.iter().filter(|&&value| holds(value)).count();
        (count + 1) as f64 / (differences.len() + 1) as f64
    };
    (2.0 * share(|d| d <= 0.0).min(share(|d| d >= 0.0))).min(1.0)
}

/// A seeded choice of `count` of `0..images`, in order.
pub fn choose(images: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut keyed: Vec<(u64, usize)> = (0..images).map(|i| (random.next_u64(), i)).collect();
    keyed.sort_unstable();
    let mut chosen: Vec<usize> = keyed.into_iter().take(count).map(|(_, i)| i).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap() -> Bootstrap {
        Bootstrap {
            resamples: 2000,
            ..Bootstrap::default()
        }
    }

    #[test]
    fn an_interval_of_a_mean_is_as_wide_as_theory_says() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let mean = 9.5;
        let error = (f64::from(20 * 20 - 1) / 12.0 / 400.0).sqrt();
        let interval = bootstrap().intervals(&[Scores::mean("x", values)]).unwrap()[0];
        assert!(
            (interval.low - (mean - 1.96 * error)).abs() < 0.15 * error,
            "{interval:?}"
        );
        assert!(
            (interval.high - (mean + 1.96 * error)).abs() < 0.15 * error,
            "{interval:?}"
        );
    }

    #[test]
    fn a_ratio_of_sums_lies_in_its_interval_and_is_sure_where_images_agree() {
        let below: Vec<f64> = (1..=200).map(|i| f64::from(i % 13 + 1)).collect();
        let twice: Vec<f64> = below.iter().map(|value| 2.0 * value).collect();
        let interval = bootstrap().ratio(&twice, &below).unwrap();
        assert!((interval.low - 2.0).abs() < 1e-9 && (interval.high - 2.0).abs() < 1e-9);
        let above: Vec<f64> = (0..200).map(|i| f64::from(i % 7)).collect();
        let ratio = above.iter().sum::<f64>() / below.iter().sum::<f64>();
        let interval = bootstrap().ratio(&above, &below).unwrap();
        assert!(
            interval.low < ratio && ratio < interval.high,
            "{interval:?}"
        );
        assert!(bootstrap().ratio(&[], &[]).is_none());
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let scores = [Scores::mean("x", (0..50).map(f64::from).collect())];
        let with = |seed| {
            Bootstrap {
                seed,
                ..bootstrap()
            }
            .intervals(&scores)
            .unwrap()
        };
        assert_eq!(with(3), with(3));
        assert_ne!(with(3), with(4));
    }

    #[test]
    fn a_small_difference_on_every_image_is_certain_and_a_model_does_not_differ_from_itself() {
        let a: Vec<f64> = (0..100).map(|i| f64::from(i % 17)).collect();
        let b: Vec<f64> = a.iter().map(|value| value + 0.01).collect();
        let (a, b) = ([Scores::mean("x", a)], [Scores::mean("x", b)]);
        let better = &bootstrap().compare(&a, &b)[0];
        assert!((better.difference - 0.01).abs() < 1e-9 && better.interval.low > 0.0);
        assert!(better.p < 0.002, "{}", better.p);
        let same = &bootstrap().compare(&a, &a)[0];
        assert_eq!((same.difference, same.p), (0.0, 1.0));
    }

    #[test]
    fn without_resamples_there_is_no_interval() {
        let none = Bootstrap {
            resamples: 0,
            ..bootstrap()
        };
        assert_eq!(none.intervals(&[Scores::mean("x", vec![1.0])]), None);
        assert_eq!(bootstrap().intervals(&[]), None);
    }
}
