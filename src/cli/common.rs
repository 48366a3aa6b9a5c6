//! What several commands share.

use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use burn::train::Interrupter;
use clap::Args;
use clipcap::device::DeviceChoice;
use clipcap::train::dashboard::{Report, Ui};

/// Where to compute.
#[derive(Args)]
pub struct DeviceArg {
    /// Device: auto (a GPU if there is one, else the CPU), cpu, wgpu, vulkan, metal, cuda or rocm; `:N` picks the N-th card
    #[arg(long, default_value = "auto", value_name = "NAME[:N]")]
    device: DeviceChoice,
}

impl DeviceArg {
    /// The device itself.
    pub fn resolve(&self) -> Result<Device> {
        Ok(self.device.resolve()?)
    }
}

/// How progress is shown.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum UiArg {
    /// The dashboard in a terminal, plain lines elsewhere
    Auto,
    /// Dashboard
    Dashboard,
    /// One line every few seconds
    Plain,
    /// Nothing
    Quiet,
}

impl From<UiArg> for Ui {
    fn from(arg: UiArg) -> Self {
        match arg {
            UiArg::Auto => Self::Auto,
            UiArg::Dashboard => Self::Dashboard,
            UiArg::Plain => Self::Plain,
            UiArg::Quiet => Self::Quiet,
        }
    }
}

/// Progress lines go to standard error: standard output is for results.
pub fn report() -> Report {
    Arc::new(|line| eprintln!("{line}"))
}

/// Ctrl-C ends a run after the step under way, with what it has learnt kept; a second one ends it at once.
pub fn interruptible() -> Result<Interrupter> {
    let interrupter = Interrupter::new();
    let handle = interrupter.clone();
    ctrlc::set_handler(move || {
        if handle.should_stop() {
            std::process::exit(130);
        }
        handle.stop(Some("Ctrl-C"));
    })?;
    Ok(interrupter)
}
