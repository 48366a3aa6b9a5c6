//! What several commands share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use burn::train::Interrupter;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use clipcap::device::DeviceChoice;
use clipcap::picture::{self, PictureError};
use clipcap::train::dashboard::{Report, Ui};
use image::RgbImage;
use rayon::prelude::*;

/// The model that comes with the source.
pub const SAMPLE_MODEL: &str = "model/sample";

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
    /// The same as JSON
    Json,
    /// Nothing
    Quiet,
}

impl From<UiArg> for Ui {
    fn from(arg: UiArg) -> Self {
        match arg {
            UiArg::Auto => Self::Auto,
            UiArg::Dashboard => Self::Dashboard,
            UiArg::Plain => Self::Plain,
            UiArg::Json => Self::Json,
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

/// Ends the program as clap does for a wrong argument: message and usage on standard error, exit code 2.
pub fn usage(kind: ErrorKind, message: &str) -> ! {
    super::Cli::command().error(kind, message).exit()
}

/// The files named, and for a folder the pictures in it by name.
pub fn picture_files(named: &[PathBuf]) -> Vec<PathBuf> {
    named.iter().flat_map(|path| pictures_of(path)).collect()
}

fn pictures_of(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_path_buf()];
    };
    let mut pictures: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| picture::is_picture_name(path))
        .collect();
    pictures.sort();
    // An empty folder is an error of its own when it is opened as a picture.
    if pictures.is_empty() {
        vec![path.to_path_buf()]
    } else {
        pictures
    }
}

/// Opens pictures on all cores, in order.
pub fn open_all(paths: &[PathBuf]) -> Vec<Result<RgbImage, PictureError>> {
    paths.par_iter().map(|path| picture::open(path)).collect()
}
