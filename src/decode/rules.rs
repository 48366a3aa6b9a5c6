//! What the rules make of the scores of the next token.

use std::borrow::Cow;

use super::{DecodeConfig, Row, Wanted, bad_words, ngram, repetition};

/// The rules after some tokens.
pub struct Rules {
    /// Tokens that may not follow, in order.
    pub banned: Vec<u32>,
    /// Tokens whose scores are penalized, in order.
    penalized: Vec<u32>,
    penalty: f32,
}

impl Rules {
    /// What may follow `tokens`. Rules that together leave no token of the vocabulary give way.
    pub fn after(config: &DecodeConfig, tokens: &[u32], vocab_size: usize) -> Self {
        let prompt = &config.prompt;
        let mut banned = ngram::banned(prompt, tokens, config.no_repeat_ngram, vocab_size);
        let repeated = banned.len();
        let bad_words = &config.bad_words;
        banned.extend(bad_words::banned(
            prompt,
            tokens,
            bad_words,
            &config.stop_tokens,
        ));
        if tokens.len() < config.min_length {
            banned.extend(&config.stop_tokens);
        }
        if banned.len() > repeated {
            banned.sort_unstable();
            banned.dedup();
            if banned.len() >= vocab_size {
                banned.clear();
            }
        }
        let penalty = config.repetition_penalty;
        Self {
            banned,
            penalized: match penalty == 1.0 {
                true => Vec::new(),
                false => repetition::seen(prompt, tokens),
            },
            penalty,
        }
    }

    /// Whether scores are as the model gave them, but for those of banned tokens.
    pub fn only_ban(&self) -> bool {
        self.penalized.is_empty()
    }

    pub fn is_banned(&self, token: u32) -> bool {
        self.banned.binary_search(&token).is_ok()
    }

    /// How many of the likeliest tokens may fall behind others.
    fn falling(&self) -> usize {
        self.banned.len() + self.penalized.len()
    }

    /// A token's score: a logit, or a log-probability in beam searches.
    pub fn score(&self, token: u32, score: f32) -> f32 {
        match self.penalized.binary_search(&token) {
            Ok(_) => repetition::penalized(score, self.penalty),
            Err(_) => score,
        }
    }

    /// Tokens that may follow, in order where the row is whole; the `count` best among them.
    pub fn candidates(&self, row: &Row<'_>, count: usize) -> Vec<u32> {
        let mut tokens = row.likeliest(count + self.falling());
        if self.penalty < 1.0 {
            tokens.extend(&self.penalized);
            tokens.sort_unstable();
            tokens.dedup();
        }
        tokens.retain(|&token| !self.is_banned(token));
        tokens
    }

    /// The best token by its logit.
    pub fn best(&self, row: &Row<'_>) -> u32 {
        if self.only_ban() {
            return row.best(&self.banned);
        }
        let scored = (self.candidates(row, 1).into_iter())
            .map(|token| (token, self.score(token, row.logit(token))));
        let best = scored.reduce(|best, other| if other.1 > best.1 { other } else { best });
        best.map_or(0, |(token, _)| token)
    }

    /// All logits of a whole row, those of banned tokens at -inf.
    pub fn logits<'a>(&self, row: &Row<'a>) -> Cow<'a, [f32]> {
        let mut logits = Cow::Borrowed(row.all());
        for &token in &self.penalized {
            let logit = &mut logits.to_mut()[token as usize];
            *logit = repetition::penalized(*logit, self.penalty);
        }
        for &token in &self.banned {
            logits.to_mut()[token as usize] = f32::NEG_INFINITY;
        }
        logits
    }
}

impl DecodeConfig {
    /// What holds, of each row, the `count` best tokens that may follow any of `captions`.
    pub(super) fn wanted(&self, count: usize, captions: &[&[u32]], vocab_size: usize) -> Wanted {
        if self.repetition_penalty < 1.0 {
            return Wanted::All;
        }
        let falling = (captions.iter())
            .map(|tokens| Rules::after(self, tokens, vocab_size).falling())
            .max();
        Wanted::Likeliest(count + falling.unwrap_or(0))
    }
}
