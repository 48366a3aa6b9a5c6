//! Learning rate over a run: warmup, then constant, linear or cosine.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// What follows the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// The peak to the end.
    Constant,
    /// Straight down to 0 at the last step.
    Linear,
    /// Half a cosine down to 0 at the last step.
    Cosine,
}

/// The shape of the curve; its length is the run's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Learning rate after the warmup.
    pub learning_rate: f64,
    /// Linear warmup steps, from a learning rate of 0.
    pub warmup_steps: usize,
    pub decay: Decay,
}

impl ScheduleConfig {
    /// The schedule of a run of `total_steps` optimizer steps.
    pub fn init(&self, total_steps: usize) -> Schedule {
        Schedule {
            config: self.clone(),
            total_steps,
            step: 0,
        }
    }
}

/// A position on the curve.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    total_steps: usize,
    step: usize,
}

/// What a checkpoint keeps of it.
struct ScheduleState {
    step: usize,
}

// By hand, because burn's derive of it works inside burn only.
impl RecordState for ScheduleState {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "step", self.step.into());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, _: &Device) -> Option<Self> {
        let step = src.take_scalar(prefix, "step")?.try_into().ok()?;
        Some(Self { step })
    }
}

impl Schedule {
    /// Learning rate of optimizer step `step`, the first being 0. As in transformers' `get_linear_schedule_with_warmup`
    /// and `get_cosine_schedule_with_warmup` (4.57), the rise starts at 0.
    fn rate(&self, step: usize) -> f64 {
        let warmup = self.config.warmup_steps;
        let peak = self.config.learning_rate;
        if step < warmup {
            return peak * step as f64 / warmup as f64;
        }
        let length = self.total_steps.saturating_sub(warmup).max(1);
        let done = ((step - warmup) as f64 / length as f64).min(1.0);
        match self.config.decay {
            Decay::Constant => peak,
            Decay::Linear => peak * (1.0 - done),
            Decay::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        }
    }
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> f64 {
        let rate = self.rate(self.step);
        self.step += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::from_state(&ScheduleState { step: self.step })
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(state) = record.into_state::<ScheduleState>() {
            self.step = state.step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup_steps: usize, total: usize) -> Vec<f64> {
        let config = ScheduleConfig {
            learning_rate: 1.0,
            warmup_steps,
            decay,
        };
        let mut schedule = config.init(total);
        (0..total).map(|_| schedule.step()).collect()
    }

    #[test]
    fn linear_equals_transformers() {
        assert_eq!(rates(Decay::Linear, 2, 6), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn cosine_falls_from_peak_to_nothing() {
        let rates = rates(Decay::Cosine, 0, 4);
        let expected = [1.0, 0.853_553, 0.5, 0.146_447];
        assert!(
            rates
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6),
            "{rates:?}"
        );
    }

    #[test]
    fn constant_without_warmup_starts_at_the_peak() {
        assert_eq!(rates(Decay::Constant, 0, 3), [1.0; 3]);
    }

    #[test]
    fn a_restored_schedule_goes_on_where_it_was() {
        let config = ScheduleConfig {
            learning_rate: 1.0,
            warmup_steps: 2,
            decay: Decay::Linear,
        };
        let mut first = config.init(6);
        first.step();
        first.step();
        first.step();
        let mut second = config.init(6);
        second.load_record(first.to_record());
        assert_eq!(second.step(), first.step());
    }
}
