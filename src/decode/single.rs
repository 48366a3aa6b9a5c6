//! One caption at a time: the most likely token, or a random one, of those that the rules allow.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::rules::Rules;
use super::{DecodeConfig, DecodeError, Hypothesis, Row, Sampling, Step, Wanted};

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
    walk(step, config, Kind::Best, 1, |_, row, rules| rules.best(row))
}

/// Random tokens. Each caption has a stream of random numbers of its own, so that it does not depend on what else is in
/// the batch.
pub fn sample<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    sampling: &Sampling,
) -> Result<Vec<Vec<Hypothesis>>, S::Error>
where
    S::Error: From<DecodeError>,
{
    let mut streams: Vec<ChaCha8Rng> = Vec::new();
    let num_captions = sampling.num_captions;
    let draw = |caption: usize, row: &Row<'_>, rules: &Rules| {
        while streams.len() <= caption {
            let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
            // The same images give the same captions, whichever batch they come in.
            rng.set_stream((streams.len() % num_captions) as u64);
            streams.push(rng);
        }
        sampling.draw(&rules.logits(row), &mut streams[caption])
    };
    let mut found = walk(step, config, Kind::Any, num_captions, draw)?;
    for hypotheses in &mut found {
        hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    Ok(found)
}

/// What may be chosen next.
#[derive(Clone, Copy)]
enum Kind {
    /// The best token that is not banned.
    Best,
    /// Any token.
    Any,
}

/// Extends `copies` captions of each image until all have ended. `choose` is told which caption it is, the logits and the
/// rules.
fn walk<S: Step + ?Sized>(
    step: &mut S,
    config: &DecodeConfig,
    kind: Kind,
    copies: usize,
    mut choose: impl FnMut(usize, &Row<'_>, &Rules) -> u32,
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
            let rules = Rules::after(config, &hypothesis.tokens, vocab_size);
            let token = choose(caption, &scored, &rules);
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

#[cfg(test)]
mod tests;
