//! Validation metrics that burn has not.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::{
    LossInput, LossMetric, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};

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

/// A value as burn's metrics give it; not a number where there is none yet.
pub fn entry(value: Option<NumericEntry>) -> SerializedEntry {
    let value = value.unwrap_or(NumericEntry::Value(f64::NAN));
    SerializedEntry::new(format!("{:.3}", value.current()), value.serialize())
}

/// What burn's dashboard asks about a metric without a unit.
pub fn attributes(higher_is_better: bool) -> MetricAttributes {
    NumericAttributes {
        unit: None,
        higher_is_better,
    }
    .into()
}
