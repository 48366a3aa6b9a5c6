//! Whether explanations are true: relevant parts of an image, covered, must cost a token more than other parts do.
//!
//! Of each token the most relevant share of the cells is covered with the image's mean color, and the caption is scored anew, word
//! for word as it was. The same is done with as many cells drawn at random, several times, the same draws for all tokens of an image
//! and for all methods. An explanation that tells nothing loses as much either way: a ratio of 1.
//!
//! Where objects stand on plain ground any map of the objects does well. Whether maps differ as their tokens do is told by what a
//! token loses with the cells covered that are most relevant to the caption's other content words.

use anyhow::{Context, Result, ensure};
use caption_metrics::bootstrap::{Bootstrap, Interval};
use image::RgbImage;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::attention::Reading;
use super::occlusion::{Grid, log_probs};
use super::{Explanation, Method, read_tokens};
use crate::captioner::{Caption, Captioner, Search};

/// How explanations are checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckOptions {
    /// The share of the image's cells that are covered.
    pub share: f64,
    /// Random choices of as many cells for each image.
    pub draws: usize,
    pub seed: u64,
    /// How sure the ratios are, over images.
    pub bootstrap: Bootstrap,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            share: 0.2,
            draws: 10,
            seed: 1,
            bootstrap: Bootstrap::default(),
        }
    }
}

/// What was lost on the images so far, by one method.
#[derive(Clone, Debug)]
pub struct Check {
    options: CheckOptions,
    method: Method,
    images: Vec<[Lost; 2]>,
}

/// Of an image's content words, or of its other words.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    tokens: usize,
    relevant: f64,
    others: f64,
    random: f64,
}

/// How much a method's explanations matter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faithfulness {
    pub method: Method,
    pub images: usize,
    /// The share of the cells that were covered.
    pub share: f64,
    /// Of all tokens.
    pub all: Losses,
    /// Of content words.
    pub content: Losses,
    /// Of all others: `the`, `on`, marks.
    pub function: Losses,
}

/// What tokens lose of their log-probability, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Losses {
    pub tokens: usize,
    /// With the most relevant cells covered.
    pub relevant: f64,
    /// With the cells covered that are most relevant to another content word of the caption, the mean over those.
    pub others: f64,
    /// With as many random ones covered.
    pub random: f64,
    /// `relevant` by `random`; none where tokens lose nothing at random.
    pub ratio: Option<f64>,
    /// Of the ratio, over images.
    pub interval: Option<Interval>,
}

impl CheckOptions {
    /// # Errors
    /// When a value makes no sense.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.share > 0.0 && self.share < 1.0,
            "{} percent of an image are to be covered: give more than 0 and less than 100",
            100.0 * self.share
        );
        ensure!(
            self.draws > 0,
            "random cells are to be drawn 0 times: give at least 1"
        );
        Ok(())
    }
}

impl Check {
    /// Nothing seen yet.
    pub fn new(method: Method, options: CheckOptions) -> Self {
        Self {
            options,
            method,
            images: Vec::new(),
        }
    }

    /// Covers parts of an image by its explanation. `crop`: what the encoder saw of it; `place`: a number that tells the image from
    /// others, for the random cells.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(
        &mut self,
        captioner: &Captioner,
        crop: &RgbImage,
        (caption, search): (&Caption, &Search),
        explanation: &Explanation,
        place: u64,
    ) -> Result<()> {
        let grid = Grid {
            side: explanation.side,
        };
        let covered = ((self.options.share * grid.count() as f64).round() as usize).max(1);
        let relevant = (explanation.tokens.iter()).map(|token| highest(&token.cells, covered));
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(place);
        let random = (0..self.options.draws)
            .map(|_| index::sample(&mut random, grid.count(), covered).into_vec());
        let mut crops = vec![crop.clone()];
        crops.extend(relevant.chain(random).map(|cells| grid.cover(crop, cells)));
        let embeddings = captioner.encoder.embed(&crops)?;
        // What is looked up stays that of the whole image.
        let whole = embeddings.first().context("the image has no embedding")?;
        let tokens = read_tokens(captioner, whole, caption, search)?;
        let reading = Reading {
            embedding: &[],
            normalize: captioner.decoder.config().normalize_embedding,
            tokens: &tokens,
            explained: tokens.len() - explanation.tokens.len()..tokens.len(),
        };
        let scores = log_probs(&captioner.modules()?.captions, &embeddings, &reading)?;
        let (whole, scores) = scores.split_first().context("the image has no scores")?;
        let (relevant, random) = scores.split_at(explanation.tokens.len());
        let mut lost = [Lost::default(); 2];
        for (place, token) in explanation.tokens.iter().enumerate() {
            let loss = |scores: &Vec<f32>| f64::from(whole[place] - scores[place]);
            let lost = &mut lost[usize::from(!token.content)];
            lost.tokens += 1;
            lost.relevant += loss(&relevant[place]);
            lost.others += mean(others(explanation, place).map(|other| loss(&relevant[other])));
            lost.random += mean(random.iter().map(loss));
        }
        self.images.push(lost);
        Ok(())
    }

    /// What came of it.
    pub fn finish(&self) -> Faithfulness {
        let losses = |kinds: &[usize]| {
            let sum = |of: fn(&Lost) -> f64| -> Vec<f64> {
                let images = self.images.iter();
                images
                    .map(|lost| kinds.iter().map(|&kind| of(&lost[kind])).sum())
                    .collect()
            };
            let (relevant, random) = (sum(|lost| lost.relevant), sum(|lost| lost.random));
            let others = sum(|lost| lost.others);
            let tokens = sum(|lost| lost.tokens as f64).iter().sum::<f64>();
            let mean = |values: &[f64]| values.iter().sum::<f64>() / tokens.max(1.0);
            let ratio = (mean(&random) > 0.0).then(|| mean(&relevant) / mean(&random));
            Losses {
                tokens: tokens as usize,
                relevant: mean(&relevant),
                others: mean(&others),
                random: mean(&random),
                ratio,
                interval: ratio.and(self.options.bootstrap.ratio(&relevant, &random)),
            }
        };
        Faithfulness {
            method: self.method,
            images: self.images.len(),
            share: self.options.share,
            all: losses(&[0, 1]),
            content: losses(&[0]),
            function: losses(&[1]),
        }
    }
}

/// Places of the content words but for one.
fn others(explanation: &Explanation, but: usize) -> impl Iterator<Item = usize> {
    let tokens = explanation.tokens.iter().enumerate();
    tokens
        .filter(move |&(place, token)| place != but && token.content)
        .map(|(place, _)| place)
}

/// Zero of none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// The places of the highest values, equals in their order.
fn highest(values: &[f32], count: usize) -> Vec<usize> {
    let highest = super::prefix::highest(values, count).into_iter();
    highest.map(|(place, _)| place as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_means_over_tokens_and_their_ratio() {
        let mut check = Check::new(Method::Occlusion, CheckOptions::default());
        let lost = |tokens, relevant, random| Lost {
            tokens,
            relevant,
            others: random / 2.0,
            random,
        };
        check.images.push([lost(2, 6.0, 2.0), lost(2, 0.2, -0.2)]);
        check.images.push([lost(2, 2.0, 2.0), lost(2, 0.0, 0.0)]);
        let found = check.finish();
        assert_eq!((found.images, found.all.tokens), (2, 8));
        assert_eq!((found.content.relevant, found.content.random), (2.0, 1.0));
        assert_eq!(
            (found.content.others, found.content.ratio),
            (0.5, Some(2.0))
        );
        assert!((found.all.relevant - 8.2 / 8.0).abs() < 1e-12);
        assert_eq!(
            (found.function.ratio, found.function.interval),
            (None, None)
        );
        let interval = found.content.interval.unwrap();
        assert_eq!((interval.low, interval.high), (1.0, 3.0));
    }
}
