//! GPT-2 from scratch on captions.
//!
//! A document is all captions of one picture in random order, one after the other and each as a captioner will write
//! it, without a space before. So the model learns that what stands before a sentence tells what the sentence is about,
//! which is what a mapper's prefix will use.

use burn::data::dataloader::batcher::Batcher;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::batcher::TokenBatch;
use crate::gpt2::{Gpt2, Gpt2Config};
use crate::nn::Activation;
use crate::train::fit::StepOutput;
use crate::train::loss::cross_entropy;

/// Sizes of the shipped sample's GPT-2: the real architecture, small enough to be trained on two cores.
pub fn sample_config(vocab_size: usize) -> Gpt2Config {
    Gpt2Config {
        vocab_size,
        n_positions: 128,
        n_embd: 64,
        n_layer: 4,
        n_head: 4,
        n_inner: None,
        activation_function: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
    }
}

/// Cuts documents, with `eos` after each, into blocks of `length` tokens. What is left over at the end is dropped.
///
/// `documents` holds the captions of each picture as token ids; their order is shuffled, and so is that of the documents.
pub fn pack(
    mut documents: Vec<Vec<Vec<u32>>>,
    eos: u32,
    length: usize,
    seed: u64,
) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    documents.shuffle(&mut rng);
    let mut stream = Vec::new();
    for mut captions in documents {
        captions.shuffle(&mut rng);
        stream.extend(captions.into_iter().flatten());
        stream.push(eos);
    }
    stream.chunks_exact(length).map(<[u32]>::to_vec).collect()
}

/// Makes [`TokenBatch`]es of blocks.
#[derive(Clone, Debug)]
pub struct BlockBatcher;

impl Batcher<Vec<u32>, TokenBatch> for BlockBatcher {
    fn batch(&self, blocks: Vec<Vec<u32>>, device: &Device) -> TokenBatch {
        let rows: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
        TokenBatch::new(&rows, device)
    }
}

/// GPT-2 as burn's learner sees it.
#[derive(Module, Debug)]
pub struct Gpt2Learner {
    pub gpt2: Gpt2,
}

impl Gpt2Learner {
    /// Each token but the first is predicted from those before it.
    fn loss(&self, batch: TokenBatch) -> Tensor<1> {
        let [b, t] = batch.tokens.dims();
        let read = self
            .gpt2
            .embed_tokens(batch.tokens.clone().narrow(1, 0, t - 1)); // [B, T - 1, C]
        let targets = batch.tokens.narrow(1, 1, t - 1).reshape([b * (t - 1)]); // [B (T - 1)]
        let positions = Tensor::arange(0..(b * (t - 1)) as i64, &targets.device());
        cross_entropy(&self.gpt2, self.gpt2.forward(read), positions, targets)
    }
}

impl TrainStep for Gpt2Learner {
    type Input = TokenBatch;
    type Output = StepOutput;

    fn step(&self, batch: TokenBatch) -> TrainOutput<StepOutput> {
        StepOutput::train(self, self.loss(batch))
    }
}

impl InferenceStep for Gpt2Learner {
    type Input = TokenBatch;
    type Output = StepOutput;

    fn step(&self, batch: TokenBatch) -> StepOutput {
        StepOutput {
            loss: self.loss(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_full_and_keep_every_document_together() {
        let documents = (0..10).map(|i| vec![vec![i, i], vec![i + 100]]).collect();
        let blocks = pack(documents, 999, 8, 1);
        assert_eq!(blocks.len(), 5);
        let stream: Vec<u32> = blocks.concat();
        for document in stream.chunks(4) {
            assert_eq!(document[3], 999);
            let id = document.iter().find(|&&token| token < 100).unwrap();
            let mut sorted = document[..3].to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [*id, *id, id + 100]);
        }
    }
}
