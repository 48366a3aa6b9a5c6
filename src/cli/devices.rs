//! `clipcap devices`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::device::{self, DeviceInfo};

use super::out;

/// List the devices that --device can name, with what they are and the precisions they have
#[derive(Args)]
#[command(after_help = "Example:\n  clipcap devices")]
pub struct DevicesArgs {}

pub fn run(_: DevicesArgs) -> Result<ExitCode> {
    let devices = device::list();
    let width = |of: fn(&DeviceInfo) -> &str| devices.iter().map(|device| of(device).len()).max();
    let (name, description) = (
        width(|device| &device.name).unwrap_or(0),
        width(|device| &device.description).unwrap_or(0),
    );
    for device in &devices {
        let precisions: Vec<_> = device
            .precisions
            .iter()
            .map(|precision| precision.name())
            .collect();
        out::line(format_args!(
            "{:name$}  {:description$}  {}{}",
            device.name,
            device.description,
            precisions.join(" "),
            if device.is_auto { "  (auto)" } else { "" }
        ))?;
    }
    out::line(format_args!(
        "compiled in: {}",
        device::compiled().join(", ")
    ))?;
    Ok(ExitCode::SUCCESS)
}
