//! GPT-2 from scratch on captions.
//!
//! A document is all captions of one image in random order, one after the other and each as a captioner will write
//! it, without a space before. So the model learns that what stands before a sentence tells what the sentence is about,
//! which is what a mapper's prefix will use. Before a document stands a lead of a random number of end-of-text tokens, as
//! a prefix will: captions are met at every position they can later begin at. Random tokens of one
//! caption stand in the lead as a pseudo-prefix, in their order but with gaps, so that the model does not only learn to
//! continue whole sentences: a prefix is none.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::batcher::TokenBatch;
use crate::data::loader::SeededBatcher;
use crate::models::gpt2::Gpt2;
use crate::models::gpt2::cross_entropy;
use crate::trainer::fit::StepOutput;

/// Most end-of-text tokens before a document; as many as the paper's prefix has vectors.
const MAX_LEAD: usize = 40;

/// The captions of an image as token ids.
pub type Document = Vec<Vec<u32>>;

/// Makes [`DocumentBatch`]es: shuffles each document's captions and puts the lead before them.
#[derive(Debug)]
pub struct DocumentBatcher {
    end_of_text: u32,
    n_positions: usize,
}

/// Rows of tokens, and what is to be predicted in them.
#[derive(Clone, Debug)]
pub struct DocumentBatch {
    /// Everything but each row's last token, padded at the end, `[B, T]`.
    read: Tensor<2, Int>,
    /// Indices into the `B * T` positions from which a token is predicted, `[N]`: none in the lead or the padding.
    positions: Tensor<1, Int>,
    /// The token predicted at each, `[N]`.
    targets: Tensor<1, Int>,
}

impl DocumentBatcher {
    pub fn new(end_of_text: u32, n_positions: usize) -> Self {
        Self {
            end_of_text,
            n_positions,
        }
    }

    /// The lead's length and the whole row: lead, captions, end of text.
    fn row(&self, mut document: Document, rng: &mut ChaCha8Rng) -> (usize, Vec<u32>) {
        document.shuffle(rng);
        let lead = rng.random_range(1..=MAX_LEAD.min(self.n_positions / 2));
        let mut row = vec![self.end_of_text; lead];
        if document.len() > 1
            && let Some(shredded) = document.pop()
        {
            strew(&shredded, &mut row, rng);
        }
        row.extend(document.into_iter().flatten());
        row.push(self.end_of_text);
        row.truncate(self.n_positions);
        (lead, row)
    }
}

/// Puts a random share of the tokens into random places of the lead, in their order.
fn strew(tokens: &[u32], lead: &mut [u32], rng: &mut ChaCha8Rng) {
    let share: f64 = rng.random();
    let kept = tokens.iter().filter(|_| rng.random_bool(share));
    let kept: Vec<u32> = kept.take(lead.len()).copied().collect();
    let mut places = rand::seq::index::sample(rng, lead.len(), kept.len()).into_vec();
    places.sort_unstable();
    for (place, token) in places.into_iter().zip(kept) {
        lead[place] = token;
    }
}

impl SeededBatcher for DocumentBatcher {
    type Item = Document;
    type Batch = DocumentBatch;

    fn batch(
        &self,
        documents: Vec<Document>,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> DocumentBatch {
        let rows: Vec<(usize, Vec<u32>)> = documents
            .into_iter()
            .map(|document| self.row(document, rng))
            .collect();
        let read: Vec<&[u32]> = rows.iter().map(|(_, row)| &row[..row.len() - 1]).collect();
        let read = TokenBatch::new(&read, device).tokens;
        let [_, t] = read.dims();
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        for (i, (lead, row)) in rows.iter().enumerate() {
            for (j, &token) in row.iter().enumerate().skip(*lead) {
                positions.push((i * t + j - 1) as i32);
                targets.push(token as i32);
            }
        }
        DocumentBatch {
            read,
            positions: Tensor::from_ints(positions.as_slice(), device),
            targets: Tensor::from_ints(targets.as_slice(), device),
        }
    }
}

/// GPT-2 as burn's learner sees it.
#[derive(Module, Debug)]
pub struct Gpt2Learner {
    pub gpt2: Gpt2,
}

impl Gpt2Learner {
    fn loss(&self, batch: DocumentBatch) -> Tensor<1> {
        let hidden = self.gpt2.forward(self.gpt2.embed_tokens(batch.read)); // [B, T, C]
        cross_entropy(&self.gpt2, hidden, batch.positions, batch.targets)
    }
}

impl TrainStep for Gpt2Learner {
    type Input = DocumentBatch;
    type Output = StepOutput;

    fn step(&self, batch: DocumentBatch) -> TrainOutput<StepOutput> {
        StepOutput::train(self, self.loss(batch), 1.0)
    }
}

impl InferenceStep for Gpt2Learner {
    type Input = DocumentBatch;
    type Output = StepOutput;

    fn step(&self, batch: DocumentBatch) -> StepOutput {
        StepOutput {
            loss: self.loss(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    #[test]
    fn what_is_predicted_is_the_document_and_its_end_and_nothing_before_or_after() {
        let batcher = DocumentBatcher::new(9, 64);
        let documents = vec![vec![vec![1, 2], vec![3]], vec![vec![4]]];
        let batch = batcher.batch(documents, &mut rng(), &Device::flex());
        let [_, t] = batch.read.dims();
        let ints = |tensor: Tensor<1, Int>| tensor.into_data().iter::<i32>().collect::<Vec<_>>();
        let (read, positions, targets) = (
            ints(batch.read.reshape([-1])),
            ints(batch.positions),
            ints(batch.targets),
        );
        // One caption of the first document is a pseudo-prefix.
        assert!(
            targets == [1, 2, 9, 4, 9] || targets == [3, 9, 4, 9],
            "{targets:?}"
        );
        for (&position, &target) in positions.iter().zip(&targets) {
            let next = position as usize + 1;
            // The last token of a row is not read: what stands there is padding or the next row.
            assert!(target == 9 || read[next] == target, "{position}");
        }
        let first_row = positions
            .iter()
            .filter(|&&position| (position as usize) < t)
            .count();
        assert_eq!(first_row, targets.len() - 2);
    }

    #[test]
    fn a_pseudo_prefix_keeps_the_order_and_leaves_gaps() {
        let rng = &mut rng();
        let mut most = 0;
        for _ in 0..50 {
            let mut lead = [0; 8];
            strew(&[1, 2, 3, 4, 5, 6], &mut lead, rng);
            let picked: Vec<u32> = lead.into_iter().filter(|&token| token > 0).collect();
            assert!(picked.is_sorted_by(|a, b| a < b), "{lead:?}");
            most = most.max(picked.len());
        }
        assert!(most >= 5, "{most}");
        let mut short = [0];
        strew(&[1; 40], &mut short, rng);
    }

    #[test]
    fn a_row_never_outgrows_the_model() {
        let batcher = DocumentBatcher::new(9, 16);
        let batch = batcher.batch(vec![vec![vec![1; 40]]], &mut rng(), &Device::flex());
        assert_eq!(batch.read.dims(), [1, 15]);
    }
}
