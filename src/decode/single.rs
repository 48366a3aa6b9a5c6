//! One caption at a time: the most likely token, or a random one, of those that are not banned.

use std::borrow::Cow;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DecodeConfig, DecodeError, Hypothesis, Row, Step, Wanted};

/// Which tokens may be drawn, and how the odds are bent.
#[derive(Clone, Debug)]
pub struct Sampler {
    pub temperature: f32,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
}

/// Always the most likely token.
///
/// ClipCap's `generate2` is the same thing: it drops unlikely tokens, never the most likely, and then takes the maximum
/// (`predict.py` at 1ad805a), whatever its temperature and top-p.
pub fn greedy<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    walk(step, config, Kind::Best, 1, |_, row, banned| {
        row.best(banned)
    })
}

/// Random tokens. Each caption has a stream of random numbers of its own, so that it does not depend on what else is in
/// the batch.
pub fn sample<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    sampler: &Sampler,
    seed: u64,
    num_captions: usize,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    let mut streams: Vec<ChaCha8Rng> = Vec::new();
    let mut found = walk(
        step,
        config,
        Kind::Any,
        num_captions,
        |caption, row, banned| {
            while streams.len() <= caption {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                // The same images give the same captions, whichever batch they come in.
                rng.set_stream((streams.len() % num_captions) as u64);
                streams.push(rng);
            }
            sampler.draw(&without(row.all(), banned), &mut streams[caption])
        },
    )?;
    for hypotheses in &mut found {
        hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    Ok(found)
}

/// What may be chosen next.
#[derive(Clone, Copy)]
enum Kind {
    /// The likeliest token that is not banned.
    Best,
    /// Any token.
    Any,
}

/// Extends `copies` captions of each image until all have ended. `choose` is told which caption it is, the logits and the
/// banned tokens.
fn walk<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    kind: Kind,
    copies: usize,
    mut choose: impl FnMut(usize, &Row<'_>, &[u32]) -> u32,
) -> Result<Vec<Vec<Hypothesis>>, S::Error> {
    let wanted = |captions: &[&[u32]], vocab_size| match kind {
        Kind::Best => config.wanted(1, captions, vocab_size),
        Kind::Any => Wanted::All,
    };
    let mut logits = step.prefill(wanted(&[&[]], usize::MAX))?;
    let (images, vocab_size) = (logits.rows(), logits.vocab_size());
    let mut captions = vec![
        Hypothesis {
            tokens: Vec::new(),
            log_prob: 0.0,
            score: 0.0,
            finished: false,
        };
        images * copies
    ];
    // Captions still growing, each with the row of scores that belongs to it.
    let mut growing: Vec<(usize, usize)> = (0..captions.len())
        .map(|caption| (caption, caption / copies))
        .collect();
    for length in 1..=config.max_length {
        let (mut parents, mut tokens, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (caption, row) in growing {
            let scored = logits.row(row);
            let hypothesis = &mut captions[caption];
            let banned = config.banned(&hypothesis.tokens, vocab_size);
            let token = choose(caption, &scored, &banned);
            hypothesis.tokens.push(token);
            hypothesis.log_prob += scored.log_prob(token);
            hypothesis.finished = config.stop_tokens.contains(&token);
            if !hypothesis.finished {
                next.push((caption, parents.len()));
                parents.push(row);
                tokens.push(token);
            }
        }
        growing = next;
        if growing.is_empty() || length == config.max_length {
            break;
        }
        let grown: Vec<&[u32]> = growing
            .iter()
            .map(|&(caption, _)| &captions[caption].tokens[..])
            .collect();
        logits = step.extend(&parents, &tokens, wanted(&grown, vocab_size))?;
    }
    for caption in &mut captions {
        caption.score = caption.log_prob / config.length_divisor(caption.tokens.len());
    }
    let mut captions = captions.into_iter();
    Ok((0..images)
        .map(|_| captions.by_ref().take(copies).collect())
        .collect())
}

/// The logits with those of the banned tokens at -inf.
fn without<'a>(logits: &'a [f32], banned: &[u32]) -> Cow<'a, [f32]> {
    let mut logits = Cow::Borrowed(logits);
    for &token in banned {
        logits.to_mut()[token as usize] = f32::NEG_INFINITY;
    }
    logits
}

impl Sampler {
    fn draw(&self, logits: &[f32], rng: &mut ChaCha8Rng) -> u32 {
        let kept = self.candidates(logits);
        let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        for &(token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        kept[kept.len() - 1].0
    }

    /// The tokens that may be drawn with their weights, most likely first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from((logit - max) / self.temperature).exp();
        let mut tokens: Vec<(u32, f64)> = (0..)
            .zip(logits.iter().map(|&logit| weight(logit)))
            .filter(|&(_, weight)| weight != 0.0)
            .collect();
        let by_weight = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(k) = self.top_k
            && k < tokens.len()
        {
            tokens.select_nth_unstable_by(k, by_weight);
            tokens.truncate(k);
        }
        tokens.sort_unstable_by(by_weight);
        if let Some(p) = self.top_p {
            let total: f64 = tokens.iter().map(|&(_, weight)| weight).sum();
            let mut sum = 0.0;
            // The token that crosses the limit is kept, so there is always one.
            let crossing = tokens.iter().position(|&(_, weight)| {
                sum += weight;
                sum >= f64::from(p) * total
            });
            tokens.truncate(crossing.map_or(tokens.len(), |last| last + 1));
        }
        tokens
    }
}

#[cfg(test)]
mod tests;
