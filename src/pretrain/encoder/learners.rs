//! Encoders as burn's learner sees them, each with what it needs while it learns.
//!
//! Shape letters: `N` images, `E` embedding, `P` projection, `K` classes.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::batches::{ClassBatch, ImageBatch, ViewBatch};
use crate::models::autoencoder::Autoencoder;
use crate::models::resnet18::ResNet18;
use crate::pretrain::view_loss::ViewLoss;
use crate::trainer::fit::StepOutput;

/// SimCLR: encoder and projection head. The head is thrown away afterwards.
#[derive(Module, Debug)]
pub struct SimclrLearner {
    pub encoder: ResNet18,
    pub head: ProjectionHead,
    #[module(skip)]
    pub loss: ViewLoss,
}

/// `W2 relu(W1 h)`, equation 1's `g`.
#[derive(Module, Debug)]
pub struct ProjectionHead {
    pub hidden: Linear,
    pub output: Linear,
}

/// An encoder with the way back to images.
#[derive(Module, Debug)]
pub struct AutoencoderLearner {
    pub network: Autoencoder,
}

/// An encoder with a linear classifier on it.
#[derive(Module, Debug)]
pub struct ClassifierLearner {
    pub encoder: ResNet18,
    pub fc: Linear,
}

impl ProjectionHead {
    /// Fresh weights; the hidden layer is as wide as the embedding.
    pub fn new(embedding: usize, projection: usize, device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(embedding, embedding).init(device),
            output: LinearConfig::new(embedding, projection).init(device),
        }
    }

    /// `[N, E] -> [N, P]`
    fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(embedding)))
    }
}

impl SimclrLearner {
    /// Both views go through the encoder together, as one batch of `2 N`.
    fn loss(&self, batch: ViewBatch) -> Tensor<1> {
        let [n, ..] = batch.first.dims();
        let views = Tensor::cat(vec![batch.first, batch.second], 0); // [2N, 3, n, n]
        let projected = self.head.forward(self.encoder.forward(views)); // [2N, P]
        let [first, second] = [0, n].map(|start| projected.clone().narrow(0, start, n));
        self.loss.loss(first, second)
    }
}

impl AutoencoderLearner {
    fn loss(&self, batch: ImageBatch) -> Tensor<1> {
        let x = batch.pixel_values;
        let back = self.network.decode(self.network.encode(x.clone()));
        (back - x).powi_scalar(2).mean()
    }
}

impl ClassifierLearner {
    fn loss(&self, batch: ClassBatch) -> Tensor<1> {
        let logits = self.fc.forward(self.encoder.forward(batch.pixel_values)); // [N, K]
        CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits, batch.labels)
    }
}

/// Trains and validates with `loss`.
macro_rules! learn_by_loss {
    ($learner:ty, $batch:ty) => {
        impl TrainStep for $learner {
            type Input = $batch;
            type Output = StepOutput;

            fn step(&self, batch: $batch) -> TrainOutput<StepOutput> {
                StepOutput::train(self, self.loss(batch), 1.0)
            }
        }

        impl InferenceStep for $learner {
            type Input = $batch;
            type Output = StepOutput;

            fn step(&self, batch: $batch) -> StepOutput {
                StepOutput {
                    loss: self.loss(batch),
                }
            }
        }
    };
}

learn_by_loss!(SimclrLearner, ViewBatch);
learn_by_loss!(AutoencoderLearner, ImageBatch);
learn_by_loss!(ClassifierLearner, ClassBatch);
