//! The captioner as burn's learner sees it: one step is mapper, GPT-2, loss, gradients.

use std::sync::Arc;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Lora, Module, ParamGroup};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::cider::{Said, ValidationOutput};
use super::frozen::Frozen;
use crate::captioner::{Gpt2Step, by_length, with_contexts};
use crate::data::batcher::{CaptionBatch, Described, TokenBatch};
use crate::decode::{DecodeConfig, Hypothesis, decode};
use crate::device::Precision;
use crate::models::caption_model::{CaptionModel, Trainable, caption_states};
use crate::models::gpt2::Gpt2;
use crate::models::gpt2::{cross_entropy, smoothed_cross_entropy};
use crate::models::mapper::Mapper;
use crate::nn::autocast;
use crate::tokenizer::Tokenizer;
use crate::trainer::fit::StepOutput;
use crate::trainer::optimizer::{clip_by_global_norm, scale};
use crate::trainer::precision::{StepPrecision, gradient_factor};
use caption_metrics::Sample;

/// What a step does besides the networks' own work.
#[derive(Clone, Debug, PartialEq)]
pub struct StepConfig {
    pub trainable: Trainable,
    /// Batches an optimizer step.
    pub accumulation: usize,
    /// Gradient clipping: the largest global norm.
    pub clip_norm: Option<f64>,
    pub label_smoothing: f64,
    pub precision: Precision,
}

/// What is trained, or a frozen GPT-2 beside what is.
#[derive(Module, Debug)]
pub struct CaptionLearner {
    prefix_mapper: Mapper,
    gpt2: Option<Gpt2>,
    frozen: Option<Frozen>,
    #[module(skip)]
    step: StepConfig,
    #[module(skip)]
    decoding: Option<Decoding>,
}

/// How validation captions an image.
#[derive(Clone, Debug)]
pub struct Decoding {
    pub tokenizer: Tokenizer,
    /// Layers of GPT-2.
    pub n_layer: usize,
    pub config: DecodeConfig,
}

impl CaptionLearner {
    /// Prepares a model on a plain device for training.
    pub fn new(model: CaptionModel, step: StepConfig) -> Self {
        let CaptionModel {
            prefix_mapper,
            gpt2,
        } = model;
        let (gpt2, frozen) = match step.trainable {
            Trainable::MapperAndGpt2 => (Some(gpt2), None),
            Trainable::MapperAndLora { rank, alpha } => (Some(with_lora(gpt2, rank, alpha)), None),
            Trainable::Mapper => (None, Some(Frozen::new(gpt2, step.precision))),
        };
        Self {
            prefix_mapper,
            gpt2,
            frozen,
            step,
            decoding: None,
        }
    }

    /// The same learner, which also captions the validation images that have references.
    pub fn with_decoding(self, decoding: Decoding) -> Self {
        Self {
            decoding: Some(decoding),
            ..self
        }
    }

    /// The model back, from a learner off the autodiff device, with low-rank changes added to the weights.
    pub fn into_model(self) -> CaptionModel {
        let gpt2 = self
            .gpt2
            .map(|gpt2| gpt2.valid().materialize())
            .or(self.frozen.map(|frozen| frozen.plain().clone()))
            .expect("GPT-2 is either trained or frozen");
        CaptionModel {
            prefix_mapper: self.prefix_mapper,
            gpt2,
        }
    }

    /// GPT-2, from where it is.
    fn gpt2(&self, frozen: fn(&Frozen) -> &Gpt2) -> &Gpt2 {
        (self.gpt2.as_ref())
            .or(self.frozen.as_ref().map(frozen))
            .expect("GPT-2 is either trained or frozen")
    }

    /// The loss of a batch, computed in the run's precision; the gradients are of the weights as they are kept.
    fn train_loss(&self, batch: CaptionBatch) -> Tensor<1> {
        let precision = StepPrecision::new(self.step.precision, &batch.clip_embedding.device());
        let mapper = precision.cast(&self.prefix_mapper);
        let gpt2 = self.gpt2(Frozen::constants);
        let gpt2 = match self.frozen {
            Some(_) => gpt2.clone(),
            None => precision.cast(gpt2),
        };
        let embedding = batch.clip_embedding.cast(precision.dtype);
        let TokenBatch {
            tokens,
            positions,
            targets,
        } = batch.tokens;
        let smoothing = self.step.label_smoothing;
        autocast(precision.compute, || {
            let hidden = caption_states(&mapper, &gpt2, embedding, tokens); // [B, T, C]
            smoothed_cross_entropy(&gpt2, hidden, positions, targets, smoothing)
        })
    }
}

impl TrainStep for CaptionLearner {
    type Input = CaptionBatch;
    type Output = StepOutput;

    fn step(&self, batch: CaptionBatch) -> TrainOutput<StepOutput> {
        let weight = batch.weight / self.step.accumulation as f64;
        let factor = gradient_factor(self.step.precision);
        let loss = self.train_loss(batch);
        let device = loss.device().inner();
        let mut output = StepOutput::train(self, loss, weight * factor);
        if factor != 1.0 {
            let inverse = Tensor::from_floats([1.0 / factor], &device); // [1]
            output.grads = scale(self, output.grads, inverse);
        }
        output
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: ModuleLearningRate,
        grads: GradientsParams,
    ) -> Self {
        let grads = match self.step.clip_norm {
            Some(norm) => clip_by_global_norm(&self, grads, norm),
            None => grads,
        };
        optimizer.step(learning_rate, self, grads)
    }
}

impl CaptionLearner {
    /// Captions of the batch's rows that have references, beside them. A device that fails gives none: its failure shows
    /// in the loss.
    fn captions(&self, gpt2: &Gpt2, batch: &CaptionBatch) -> Vec<Said> {
        let (Some(decoding), false) = (&self.decoding, batch.references.is_empty()) else {
            return Vec::new();
        };
        let rows: Vec<i32> = batch
            .references
            .iter()
            .map(|(row, _)| *row as i32)
            .collect();
        let rows = Tensor::from_ints(rows.as_slice(), &batch.clip_embedding.device()); // [R]
        let embedding = batch.clip_embedding.clone().select(0, rows); // [R, clip_dim]
        let prefix = self.prefix_mapper.forward(embedding); // [R, P, C]
        let mut found = vec![Vec::new(); batch.references.len()];
        for group in by_length(&batch.prompts) {
            let places: Vec<i32> = group.iter().map(|&place| place as i32).collect();
            let places = Tensor::from_ints(places.as_slice(), &prefix.device());
            let prompts: Vec<Vec<u32>> = group
                .iter()
                .map(|&place| batch.prompts[place].clone())
                .collect();
            let prefix = with_contexts(gpt2, prefix.clone().select(0, places), &prompts);
            let mut step = Gpt2Step::new(gpt2, decoding.n_layer, prefix, &decoding.config);
            let captions = decode(&mut step, &decoding.config).unwrap_or_default();
            for (place, captions) in group.into_iter().zip(captions) {
                found[place] = captions;
            }
        }
        let said = |(found, (_, described)): (Vec<Hypothesis>, &(usize, Arc<Described>))| {
            let best = found.into_iter().next()?;
            Some(Said {
                image: described.image,
                sample: Sample {
                    candidate: decoding.tokenizer.decode(&best.tokens).ok()?,
                    references: described.captions.clone(),
                },
            })
        };
        found
            .into_iter()
            .zip(&batch.references)
            .filter_map(said)
            .collect()
    }
}

impl InferenceStep for CaptionLearner {
    type Input = CaptionBatch;
    type Output = ValidationOutput;

    fn step(&self, batch: CaptionBatch) -> ValidationOutput {
        let gpt2 = self.gpt2(Frozen::plain);
        let captions = self.captions(gpt2, &batch);
        let TokenBatch {
            tokens,
            positions,
            targets,
        } = batch.tokens;
        let hidden = caption_states(&self.prefix_mapper, gpt2, batch.clip_embedding, tokens); // [B, T, C]
        ValidationOutput {
            loss: cross_entropy(gpt2, hidden, positions, targets),
            captions,
        }
    }
}

/// Freezes GPT-2 and puts trainable low-rank factors beside the weights that make queries, keys and values.
fn with_lora(gpt2: Gpt2, rank: usize, alpha: f64) -> Gpt2 {
    let attention = ParamGroup::from_regex(r"attn\.c_attn\.weight$").expect("a valid pattern");
    gpt2.apply_lora(Lora::new(rank, alpha).set_param_group(attention))
}
