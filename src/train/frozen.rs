//! A GPT-2 that is not trained, beside what is.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, GradientCheckpointingStrategy};

use crate::device::Precision;
use crate::models::gpt2::Gpt2;
use crate::trainer::precision::{StepPrecision, with_checkpointing};

/// A frozen GPT-2: gradients pass through it to the mapper, and none are kept for its own weights.
///
/// It is a module that shows none of its weights, so that no checkpoint, optimizer or count of parameters sees them, and
/// that yet follows the learner from device to device.
#[derive(Clone, Debug)]
pub struct Frozen {
    copy: Copy,
    precision: Precision,
    /// The copies there are: the learner is sent to every device again at each step.
    copies: Arc<Mutex<Vec<(Device, Copy)>>>,
}

/// The weights on one device.
#[derive(Clone, Debug)]
struct Copy {
    /// For validation.
    plain: Gpt2,
    /// The same in the run's precision, as constants on the autodiff device.
    constants: Gpt2,
}

impl Copy {
    fn new(plain: Gpt2, precision: Precision, strategy: GradientCheckpointingStrategy) -> Self {
        let device = plain.devices().into_iter().next().unwrap_or_default();
        let precision = StepPrecision::new(precision, &device);
        let constants = precision.cast(&plain).train().no_grad();
        Self {
            constants: with_checkpointing(constants, strategy),
            plain,
        }
    }
}

impl Frozen {
    /// `gpt2` is on a plain device.
    pub fn new(gpt2: Gpt2, precision: Precision) -> Self {
        Self {
            copy: Copy::new(gpt2, precision, GradientCheckpointingStrategy::default()),
            precision,
            copies: Arc::default(),
        }
    }

    /// For validation.
    pub fn plain(&self) -> &Gpt2 {
        &self.copy.plain
    }

    /// For training.
    pub fn constants(&self) -> &Gpt2 {
        &self.copy.constants
    }

    /// The copy on a device, which keeps for the backward pass what the device keeps.
    fn on(self, device: &Device) -> Self {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = copies.iter().find(|(place, _)| place == device);
        let copy = match known {
            Some((_, copy)) => copy.clone(),
            None => {
                let plain = self.copy.plain.fork(&device.clone().inner());
                let strategy = device.gradient_checkpointing_strategy();
                let copy = Copy::new(plain, self.precision, strategy.unwrap_or_default());
                copies.push((device.clone(), copy.clone()));
                copy
            }
        };
        drop(copies);
        Self { copy, ..self }
    }
}

impl Module for Frozen {
    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.on(device)
    }

    fn to_device(self, device: &Device) -> Self {
        self.on(device)
    }

    fn visit<V: ModuleVisitor>(&self, _: &mut V) {}

    fn map<M: ModuleMapper>(self, _: &mut M) -> Self {
        self
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Frozen {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl ModuleDisplay for Frozen {}
