//! What a search reads of a language model's output.

use cpu_kernels::reduce;

/// What a search reads of each row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every token's.
    All,
    /// Those of so many of the likeliest tokens, or of all where there are fewer.
    Likeliest(usize),
}

/// Rows of next-token logits: of the whole vocabulary, or of each row's likeliest tokens alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Row by row.
    values: Vec<f32>,
    vocab_size: usize,
    likeliest: Option<Likeliest>,
}

/// Which tokens the logits are of, where they are not of all.
#[derive(Clone, Debug, PartialEq)]
struct Likeliest {
    /// As many as there are logits, falling by logit in each row.
    tokens: Vec<u32>,
    /// Of `e^(logit - highest)` over the whole vocabulary, a row each.
    sums: Vec<f32>,
}

/// The logits of one row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    logits: &'a [f32],
    /// Which tokens they are of; all in order when absent.
    tokens: Option<&'a [u32]>,
    highest: f32,
    /// Of `e^(logit - highest)` over the whole vocabulary.
    sum: f32,
}

impl Logits {
    /// Of the whole vocabulary.
    ///
    /// # Panics
    /// When `values` is not a whole number of rows.
    pub fn new(values: Vec<f32>, vocab_size: usize) -> Self {
        assert!(
            vocab_size > 0 && values.len().is_multiple_of(vocab_size),
            "{} logits are not whole rows of {vocab_size}",
            values.len()
        );
        Self {
            values,
            vocab_size,
            likeliest: None,
        }
    }

    /// Of the likeliest tokens of each row, falling: their logits, which tokens they are, and each row's sum of
    /// `e^(logit - highest)` over the whole vocabulary.
    ///
    /// # Panics
    /// When `values` and `tokens` are not as many to a row.
    pub fn likeliest(
        values: Vec<f32>,
        tokens: Vec<u32>,
        sums: Vec<f32>,
        vocab_size: usize,
    ) -> Self {
        assert!(
            values.len() == tokens.len()
                && values.len().is_multiple_of(sums.len())
                && values.len() >= sums.len(),
            "{} logits of {} tokens in {} rows",
            values.len(),
            tokens.len(),
            sums.len()
        );
        Self {
            values,
            vocab_size,
            likeliest: Some(Likeliest { tokens, sums }),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match &self.likeliest {
            Some(likeliest) => likeliest.sums.len(),
            None => self.values.len() / self.vocab_size,
        }
    }

    /// Tokens that the model knows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// One row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let width = self.values.len() / self.rows();
        let logits = &self.values[index * width..][..width];
        match &self.likeliest {
            None => Row::whole(logits),
            Some(likeliest) => Row {
                logits,
                tokens: Some(&likeliest.tokens[index * width..][..width]),
                highest: logits[0],
                sum: likeliest.sums[index],
            },
        }
    }
}

impl<'a> Row<'a> {
    /// Of the whole vocabulary.
    pub fn whole(logits: &'a [f32]) -> Self {
        let (highest, sum) = reduce::exponential_sum(logits);
        Self {
            logits,
            tokens: None,
            highest,
            sum,
        }
    }

    /// The logits of all tokens, in order.
    ///
    /// # Panics
    /// When only the likeliest are there: a search gets what it asked for.
    pub fn all(&self) -> &'a [f32] {
        assert!(self.tokens.is_none(), "only the likeliest tokens are there");
        self.logits
    }

    /// `ln(softmax(logits))` of a token that is there, as ClipCap computes it: the probability may underflow to 0, and its
    /// logarithm is then -inf.
    pub fn log_prob(&self, token: u32) -> f32 {
        ((self.logit(token) - self.highest).exp() / self.sum).ln()
    }

    /// The same as PyTorch's `log_softmax` computes it, which does not underflow.
    pub fn log_softmax(&self, token: u32) -> f32 {
        (self.logit(token) - self.highest) - self.sum.ln()
    }

    /// The logit of a token, -inf where it is not there.
    pub fn logit(&self, token: u32) -> f32 {
        let place = match self.tokens {
            None => Some(token as usize),
            Some(tokens) => tokens.iter().position(|&other| other == token),
        };
        place.map_or(f32::NEG_INFINITY, |place| self.logits[place])
    }

    /// The likeliest token that is not banned, the first of equals. `banned` is in order, and does not hold all tokens.
    pub fn best(&self, banned: &[u32]) -> u32 {
        let allowed = |token: &u32| banned.binary_search(token).is_err();
        if let Some(tokens) = self.tokens {
            return tokens.iter().copied().find(allowed).unwrap_or(tokens[0]);
        }
        let place = |highest: f32| {
            let mut tokens = (0..).zip(self.logits);
            tokens.find(|&(token, &logit)| logit == highest && allowed(&token))
        };
        if let Some((token, _)) = place(self.highest) {
            return token;
        }
        let allowed = (0..).zip(self.logits).filter(|(token, _)| allowed(token));
        let best = allowed.fold(None, |best, (token, &logit)| match best {
            Some((_, highest)) if logit > highest => Some((token, logit)),
            None => Some((token, logit)),
            best => best,
        });
        best.map_or(0, |(token, _)| token)
    }

    /// Tokens, the `count` likeliest among them: of a whole row in order, with those that rounding might take for one of
    /// them; else all that there are.
    pub fn likeliest(&self, count: usize) -> Vec<u32> {
        /// More than logarithms of probabilities are rounded by.
        const ROUNDING: f32 = 1e-3;
        /// Further below the likeliest token probabilities lose digits, and then vanish.
        const TINY: f32 = 80.0;
        if let Some(tokens) = self.tokens {
            return tokens.to_vec();
        }
        let mut least = reduce::nth_greatest(self.logits, count) - ROUNDING;
        if least < self.highest - TINY {
            least = f32::NEG_INFINITY;
        }
        reduce::at_least(self.logits, least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_alone_have_the_probabilities_of_the_whole_row() {
        let logits = vec![0.5, 2.0, -1.0, 1.5, 0.0, 2.5, 0.1, 0.2];
        let whole = Logits::new(logits, 4);
        // e^(0.5 - 2) + 1 + e^(-1 - 2) + e^(1.5 - 2), and e^-2.5 + 1 + e^-2.4 + e^-2.3
        let sums = vec![
            (-1.5_f32).exp() + 1.0 + (-3.0_f32).exp() + (-0.5_f32).exp(),
            (-2.5_f32).exp() + 1.0 + (-2.4_f32).exp() + (-2.3_f32).exp(),
        ];
        let few = Logits::likeliest(vec![2.0, 1.5, 2.5, 0.2], vec![1, 3, 1, 3], sums, 4);
        assert_eq!((few.rows(), few.vocab_size()), (2, 4));
        for row in 0..2 {
            let (few, whole) = (few.row(row), whole.row(row));
            assert_eq!(few.likeliest(2), [1, 3]);
            for token in [1, 3] {
                assert!((few.log_prob(token) - whole.log_prob(token)).abs() < 1e-6);
            }
            for banned in [&[][..], &[1], &[0, 1]] {
                assert_eq!(few.best(banned), whole.best(banned));
            }
        }
    }

    #[test]
    fn the_best_token_is_the_first_of_equals_that_is_not_banned() {
        let logits = [1.0, 3.0, 3.0, 2.0, 2.0];
        let row = Row::whole(&logits);
        assert_eq!(row.best(&[]), 1);
        assert_eq!(row.best(&[1]), 2);
        assert_eq!(row.best(&[1, 2]), 3);
    }
}
