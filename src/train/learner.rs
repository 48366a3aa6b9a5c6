//! The captioner as burn's learner sees it: one step is mapper, GPT-2, loss, gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::fit::StepOutput;
use super::loss::cross_entropy;
use crate::caption_model::{CaptionModel, Trainable, caption_states};
use crate::data::batcher::CaptionBatch;
use crate::gpt2::Gpt2;
use crate::mapper::Mapper;

/// What is trained, with a frozen GPT-2 beside it that no checkpoint, optimiser or gradient sees.
#[derive(Module, Debug)]
pub struct CaptionLearner {
    prefix_mapper: Mapper,
    gpt2: Option<Gpt2>,
    #[module(skip)]
    frozen: Option<Frozen>,
}

/// A frozen GPT-2: gradients pass through it to the mapper, and none are kept for its own weights.
#[derive(Clone, Debug)]
struct Frozen {
    /// For validation.
    plain: Gpt2,
    /// The same weights, as constants on the autodiff device.
    constants: Gpt2,
}

impl CaptionLearner {
    /// Prepares a model on a plain device for training.
    pub fn new(model: CaptionModel, trainable: Trainable) -> Self {
        let CaptionModel {
            prefix_mapper,
            gpt2,
        } = model;
        let (gpt2, frozen) = match trainable {
            Trainable::MapperAndGpt2 => (Some(gpt2), None),
            Trainable::Mapper => {
                let constants = gpt2.clone().train().no_grad();
                (
                    None,
                    Some(Frozen {
                        plain: gpt2,
                        constants,
                    }),
                )
            }
        };
        Self {
            prefix_mapper,
            gpt2,
            frozen,
        }
    }

    /// The model back, from a learner off the autodiff device.
    pub fn into_model(self) -> CaptionModel {
        let gpt2 = self
            .gpt2
            .or(self.frozen.map(|frozen| frozen.plain))
            .expect("GPT-2 is either trained or frozen");
        CaptionModel {
            prefix_mapper: self.prefix_mapper,
            gpt2,
        }
    }

    fn loss(&self, frozen: fn(&Frozen) -> &Gpt2, batch: CaptionBatch) -> Tensor<1> {
        let gpt2 = self
            .gpt2
            .as_ref()
            .or(self.frozen.as_ref().map(frozen))
            .expect("GPT-2 is either trained or frozen");
        let tokens = batch.tokens;
        let hidden = caption_states(
            &self.prefix_mapper,
            gpt2,
            batch.clip_embedding,
            tokens.tokens,
        ); // [B, T, C]
        cross_entropy(gpt2, hidden, tokens.positions, tokens.targets)
    }
}

impl TrainStep for CaptionLearner {
    type Input = CaptionBatch;
    type Output = StepOutput;

    fn step(&self, batch: CaptionBatch) -> TrainOutput<StepOutput> {
        StepOutput::train(self, self.loss(|frozen| &frozen.constants, batch))
    }
}

impl InferenceStep for CaptionLearner {
    type Input = CaptionBatch;
    type Output = StepOutput;

    fn step(&self, batch: CaptionBatch) -> StepOutput {
        StepOutput {
            loss: self.loss(|frozen| &frozen.plain, batch),
        }
    }
}
