//! A language model that is a formula, for tests: scores depend on the image and every token read so far.

use super::{DecodeError, Logits, Step, Wanted};

/// Remembers what each row has read.
#[derive(Clone)]
pub struct Toy {
    pub vocab_size: usize,
    pub images: Vec<u64>,
    /// How far apart the scores are.
    pub spread: f32,
    rows: Vec<(u64, Vec<u32>)>,
    /// Rows computed so far, to check that finished ones cost nothing.
    pub computed: usize,
}

impl Toy {
    pub fn new(vocab_size: usize, images: &[u64], spread: f32) -> Self {
        Self {
            vocab_size,
            images: images.to_vec(),
            spread,
            rows: Vec::new(),
            computed: 0,
        }
    }

    /// The scores after `tokens`, without any state.
    pub fn logits(&self, image: u64, tokens: &[u32]) -> Vec<f32> {
        let mut hash = image.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        for &token in tokens {
            hash = (hash ^ u64::from(token + 1))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
        (0..self.vocab_size)
            .map(|token| {
                let mut mixed = hash ^ (token as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
                mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
                mixed ^= mixed >> 29;
                ((mixed % 10_007) as f32 / 10_007.0 - 0.5) * self.spread
            })
            .collect()
    }

    fn all_logits(&mut self) -> Logits {
        self.computed += self.rows.len();
        let values = self
            .rows
            .iter()
            .flat_map(|(image, tokens)| self.logits(*image, tokens))
            .collect();
        Logits::new(values, self.vocab_size)
    }

    /// No more than is wanted, so that a search that reads more is found out.
    fn wanted_logits(&mut self, wanted: Wanted) -> Logits {
        let all = self.all_logits();
        let Wanted::Likeliest(count) = wanted else {
            return all;
        };
        let (mut values, mut tokens, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..all.rows() {
            let logits = all.row(row).all();
            let mut order: Vec<u32> = (0..self.vocab_size as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            order.truncate(count.max(1));
            let highest = logits[order[0] as usize];
            values.extend(order.iter().map(|&token| logits[token as usize]));
            tokens.extend(order);
            sums.push(logits.iter().map(|logit| (logit - highest).exp()).sum());
        }
        Logits::likeliest(values, tokens, sums, self.vocab_size)
    }
}

impl Step for Toy {
    type Error = DecodeError;

    fn prefill(&mut self, wanted: Wanted) -> Result<Logits, DecodeError> {
        self.rows = self
            .images
            .iter()
            .map(|&image| (image, Vec::new()))
            .collect();
        Ok(self.wanted_logits(wanted))
    }

    fn extend(
        &mut self,
        parents: &[usize],
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Logits, DecodeError> {
        self.rows = parents
            .iter()
            .zip(tokens)
            .map(|(&parent, &token)| {
                let (image, mut read) = self.rows[parent].clone();
                read.push(token);
                (image, read)
            })
            .collect();
        Ok(self.wanted_logits(wanted))
    }
}
