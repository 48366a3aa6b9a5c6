//! CIDEr of validation captions, while a captioner is trained; some of the captions are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn::train::metric::{
    Adaptor, ItemLazy, LossInput, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericEntry, SerializedEntry,
};

use caption_metrics::{Corpus, Sample, cider};

use super::samples::SampleLog;
use crate::trainer::metrics::{attributes, entry};

/// The caption of a validation image, beside its references.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its place in the data set.
    pub image: usize,
    pub sample: Sample,
}

/// What validation gives to the metrics.
pub struct ValidationOutput {
    /// `[1]`
    pub loss: Tensor<1>,
    /// Captions beside their references, of the images that are captioned for validation.
    pub captions: Vec<Said>,
}

impl ItemLazy for ValidationOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<LossInput> for ValidationOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl Adaptor<CaptionsInput> for ValidationOutput {
    fn adapt(&self) -> CaptionsInput {
        CaptionsInput(self.captions.clone())
    }
}

/// Captions of a validation batch.
pub struct CaptionsInput(pub Vec<Said>);

/// CIDEr-D of all captions of the epoch so far, 1.0 being what the literature prints as 100.
#[derive(Clone)]
pub struct CiderMetric {
    samples: Vec<Sample>,
    value: f64,
    log: Arc<Mutex<SampleLog>>,
}

impl CiderMetric {
    /// Captions that `log` wants go there.
    pub fn new(log: SampleLog) -> Self {
        Self {
            samples: Vec::new(),
            value: 0.0,
            log: Arc::new(Mutex::new(log)),
        }
    }

    fn log(&self) -> MutexGuard<'_, SampleLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metric for CiderMetric {
    type Input = CaptionsInput;

    fn update(
        &mut self,
        captions: &CaptionsInput,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if !captions.0.is_empty() {
            self.log().add(&captions.0);
            let samples = captions.0.iter().map(|said| said.sample.clone());
            self.samples.extend(samples);
            let corpus = Corpus::new(&self.samples);
            self.value = cider::score(&corpus, &cider::Frequencies::of(&corpus)).overall()[0];
        }
        Ok(entry(self.running_value()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(entry(Some(self.final_value())))
    }

    /// burn calls it once an epoch, after the last batch.
    fn clear(&mut self) {
        self.log().end_epoch();
        self.samples.clear();
        self.value = 0.0;
    }

    fn name(&self) -> MetricName {
        Arc::new("CIDEr".to_string())
    }

    fn attributes(&self) -> MetricAttributes {
        attributes(true)
    }
}

impl Numeric for CiderMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.running_value()
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value(self.value))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.value)
    }
}
