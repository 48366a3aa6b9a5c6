//! Which tokens may be drawn, and how likely: Hugging Face's warpers, in their order.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::DecodeError;

/// Captions that are drawn of an image at most.
const MOST_CAPTIONS: usize = 100_000;

/// How tokens are drawn. Each limit looks at what those before it left: temperature, top-k, top-p, min-p, typical-p,
/// epsilon, eta, as in transformers 5.17.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; below 1 the likely tokens become likelier.
    pub temperature: f32,
    /// Only the most likely `k` tokens.
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together have this probability.
    pub top_p: Option<f32>,
    /// Only tokens at least this many times as likely as the most likely one
    /// (Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>).
    pub min_p: Option<f32>,
    /// Only tokens whose information is nearest to the entropy, that together have this probability
    /// (Meister et al. 2022, <https://arxiv.org/abs/2202.00666>).
    pub typical_p: Option<f32>,
    /// Only tokens at least this likely (Hewitt et al. 2022, <https://arxiv.org/abs/2210.15191>).
    pub epsilon_cutoff: Option<f32>,
    /// Only tokens at least as likely as the lesser of this and `sqrt(this) * e^-entropy` (the same).
    pub eta_cutoff: Option<f32>,
    pub seed: u64,
    /// Captions an image.
    pub num_captions: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            epsilon_cutoff: None,
            eta_cutoff: None,
            seed: 0,
            num_captions: 1,
        }
    }
}

/// Tokens that may be drawn and their weights, which need not sum to 1, heaviest first.
type Weights = Vec<(u32, f64)>;

impl Sampling {
    pub(super) fn validate(&self) -> Result<(), DecodeError> {
        let above_0 = |p: f32| p > 0.0 && p <= 1.0;
        let below_1 = |p: f32| (0.0..1.0).contains(&p);
        let all = |limit: Option<f32>, fits: fn(f32) -> bool, error: fn(f32) -> DecodeError| {
            match limit {
                Some(limit) if !fits(limit) => Err(error(limit)),
                _ => Ok(()),
            }
        };
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(DecodeError::Temperature(self.temperature));
        }
        if self.top_k == Some(0) {
            return Err(DecodeError::TopK);
        }
        all(self.top_p, above_0, DecodeError::TopP)?;
        all(self.min_p, |p| (0.0..=1.0).contains(&p), DecodeError::MinP)?;
        all(self.typical_p, above_0, DecodeError::TypicalP)?;
        all(self.epsilon_cutoff, below_1, DecodeError::EpsilonCutoff)?;
        all(self.eta_cutoff, below_1, DecodeError::EtaCutoff)?;
        if self.num_captions == 0 {
            return Err(DecodeError::NoCaptions);
        }
        if self.num_captions > MOST_CAPTIONS {
            return Err(DecodeError::TooManyCaptions(self.num_captions));
        }
        Ok(())
    }

    /// The tokens that may be drawn and their probabilities, most likely first.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut tokens = self.candidates(logits);
        let total = total(&tokens);
        tokens.iter_mut().for_each(|(_, weight)| *weight /= total);
        tokens
    }

    pub(super) fn draw(&self, logits: &[f32], rng: &mut ChaCha8Rng) -> u32 {
        let kept = self.candidates(logits);
        let mut left = rng.random::<f64>() * total(&kept);
        for &(token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        kept[kept.len() - 1].0
    }

    fn candidates(&self, logits: &[f32]) -> Weights {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from((logit - max) / self.temperature).exp();
        let mut tokens: Weights = (0..)
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
            keep_top_p(&mut tokens, f64::from(p));
        }
        if let Some(p) = self.min_p {
            let least = f64::from(p) * tokens[0].1;
            keep_at_least(&mut tokens, least);
        }
        if let Some(p) = self.typical_p.filter(|&p| p < 1.0) {
            keep_typical(&mut tokens, f64::from(p));
        }
        if let Some(epsilon) = self.epsilon_cutoff {
            let least = f64::from(epsilon) * total(&tokens);
            keep_at_least(&mut tokens, least);
        }
        if let Some(epsilon) = self.eta_cutoff.map(f64::from) {
            let eta = epsilon.min(epsilon.sqrt() * (-entropy(&tokens)).exp());
            let least = eta * total(&tokens);
            keep_at_least(&mut tokens, least);
        }
        tokens
    }
}

fn total(tokens: &[(u32, f64)]) -> f64 {
    tokens.iter().map(|&(_, weight)| weight).sum()
}

/// In nats.
fn entropy(tokens: &[(u32, f64)]) -> f64 {
    let total = total(tokens);
    let information = |&(_, weight): &(u32, f64)| -(weight / total) * (weight / total).ln();
    tokens.iter().map(information).sum()
}

/// The token that crosses the limit is kept, so there is always one.
fn keep_top_p(tokens: &mut Weights, p: f64) {
    let (total, mut sum) = (total(tokens), 0.0);
    let crossing = tokens.iter().position(|&(_, weight)| {
        sum += weight;
        sum >= p * total
    });
    tokens.truncate(crossing.map_or(tokens.len(), |last| last + 1));
}

/// The heaviest is always kept.
fn keep_at_least(tokens: &mut Weights, least: f64) {
    let most = tokens[0].1;
    tokens.retain(|&(_, weight)| {
        let below = weight < least && weight < most;
        !below
    });
}

/// Of tokens by how far their information is from the entropy, the first that together have probability `p`, and those as
/// far as the last of them.
fn keep_typical(tokens: &mut Weights, p: f64) {
    let (total, entropy) = (total(tokens), entropy(tokens));
    let distance = |weight: f64| (-(weight / total).ln() - entropy).abs();
    let mut nearest: Vec<(f64, f64)> = (tokens.iter())
        .map(|&(_, weight)| (distance(weight), weight / total))
        .collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    let crossing = nearest.iter().position(|&(_, probability)| {
        sum += probability;
        sum >= p
    });
    let farthest = nearest[crossing.unwrap_or(nearest.len() - 1)].0;
    tokens.retain(|&(_, weight)| {
        let farther = distance(weight) > farthest;
        !farther
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_and_top_p_keep_the_likeliest() {
        // Probabilities 0.4, 0.3, 0.2, 0.1 out of order.
        let logits: Vec<f32> = [0.2_f32, 0.4, 0.1, 0.3].iter().map(|p| p.ln()).collect();
        let kept = |top_k, top_p, temperature| {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                ..Sampling::default()
            };
            sampling
                .candidates(&logits)
                .into_iter()
                .map(|(token, _)| token)
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(2), None, 1.0), [1, 3]);
        assert_eq!(kept(None, Some(0.69), 1.0), [1, 3]);
        assert_eq!(kept(None, Some(0.71), 1.0), [1, 3, 0]);
        assert_eq!(kept(None, Some(1e-6), 1.0), [1]);
        assert_eq!(kept(Some(3), Some(0.5), 1.0), [1, 3]);
        assert_eq!(
            kept(None, Some(0.5), 0.1),
            [1],
            "a low temperature sharpens before the limit is applied"
        );
    }

    #[test]
    fn each_limit_looks_at_what_those_before_it_left() {
        let probs = [0.4_f32, 0.3, 0.2, 0.08, 0.02];
        let logits: Vec<f32> = probs.iter().map(|p| p.ln()).collect();
        let kept = |sampling: Sampling| sampling.probabilities(&logits).len();
        let sampling = Sampling::default;
        let min_p = Some(0.45);
        assert_eq!(
            kept(Sampling {
                min_p,
                ..sampling()
            }),
            3
        );
        let epsilon_cutoff = Some(0.25);
        let epsilon = Sampling {
            epsilon_cutoff,
            ..sampling()
        };
        assert_eq!(kept(epsilon.clone()), 2);
        // Of three tokens left the third has 0.2 / 0.9.
        let top_k = Some(3);
        assert_eq!(
            kept(Sampling {
                top_k,
                ..epsilon.clone()
            }),
            2
        );
        let (top_k, epsilon_cutoff) = (Some(3), Some(0.22));
        let both = Sampling {
            top_k,
            epsilon_cutoff,
            ..sampling()
        };
        assert_eq!(kept(both), 3);
        let epsilon_cutoff = Some(0.9);
        let none = Sampling {
            epsilon_cutoff,
            ..sampling()
        };
        assert_eq!(kept(none), 1, "the likeliest always stays");
    }

    #[test]
    fn logits_that_are_no_numbers_leave_a_token_to_draw() {
        let sampling = Sampling {
            top_p: Some(0.9),
            min_p: Some(0.5),
            typical_p: Some(0.5),
            epsilon_cutoff: Some(0.1),
            eta_cutoff: Some(0.1),
            ..Sampling::default()
        };
        assert!(!sampling.probabilities(&[f32::NAN; 4]).is_empty());
        assert!(!sampling.probabilities(&[f32::NEG_INFINITY; 4]).is_empty());
    }

    #[test]
    fn typical_tokens_need_not_be_the_likeliest() {
        // Entropy 1.28; the likeliest token's information is 0.6, that of the four others 2.3 and 1.9.
        let probs = [0.55_f32, 0.1, 0.1, 0.1, 0.15];
        let logits: Vec<f32> = probs.iter().map(|p| p.ln()).collect();
        let kept = |typical_p| {
            let sampling = Sampling {
                typical_p,
                ..Sampling::default()
            };
            let tokens = sampling.probabilities(&logits).into_iter();
            tokens.map(|(token, _)| token).collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(0.1)), [4]);
        assert_eq!(kept(Some(0.2)), [0, 4]);
        assert_eq!(kept(Some(0.75)), [0, 4, 1, 2, 3], "ties stay together");
        assert_eq!(kept(Some(1.0)).len(), 5);
    }
}
