//! Validation metrics that burn has not: perplexity of the mean loss, and CIDEr of captions.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::{
    LossInput, LossMetric, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};

use caption_metrics::{Corpus, Sample, cider};

/// `exp` of the mean loss.
#[derive(Clone, Default)]
pub struct PerplexityMetric {
    loss: LossMetric,
}

impl Metric for PerplexityMetric {
    type Input = LossInput;

    fn update(
        &mut self,
        loss: &LossInput,
        metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.loss.update(loss, metadata)?;
        Ok(entry(self.running_value()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(entry(Some(self.final_value())))
    }

    fn clear(&mut self) {
        self.loss.clear();
    }

    fn name(&self) -> MetricName {
        Arc::new("Perplexity".to_string())
    }

    fn attributes(&self) -> MetricAttributes {
        attributes(false)
    }
}

impl Numeric for PerplexityMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.running_value()
    }

    fn running_value(&self) -> Option<NumericEntry> {
        let mean = self.loss.running_value()?.current();
        Some(NumericEntry::Value(mean.exp()))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.loss.final_value().current().exp())
    }
}

/// Captions of a validation batch.
pub struct CaptionsInput(pub Vec<Sample>);

/// CIDEr-D of all captions of the epoch so far, 1.0 being what the literature prints as 100.
#[derive(Clone, Default)]
pub struct CiderMetric {
    samples: Vec<Sample>,
    value: f64,
}

impl Metric for CiderMetric {
    type Input = CaptionsInput;

    fn update(
        &mut self,
        captions: &CaptionsInput,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if !captions.0.is_empty() {
            self.samples.extend_from_slice(&captions.0);
            let corpus = Corpus::new(&self.samples);
            self.value = cider::score(&corpus, &cider::Frequencies::of(&corpus)).overall()[0];
        }
        Ok(entry(self.running_value()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(entry(Some(self.final_value())))
    }

    fn clear(&mut self) {
        *self = Self::default();
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

fn entry(value: Option<NumericEntry>) -> SerializedEntry {
    let value = value.unwrap_or(NumericEntry::Value(f64::NAN));
    SerializedEntry::new(format!("{:.3}", value.current()), value.serialize())
}

fn attributes(higher_is_better: bool) -> MetricAttributes {
    NumericAttributes {
        unit: None,
        higher_is_better,
    }
    .into()
}
