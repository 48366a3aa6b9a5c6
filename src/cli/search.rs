//! What the commands that train many times share.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use clipcap::datasets;
use clipcap::train::caption::TrainContext;
use clipcap::train::config::TrainConfig;
use clipcap::trainer::dashboard::Ui;
use clipcap::trainer::run;

use super::common::{DeviceArg, interruptible, report, run_name};
use super::train::BaseArgs;
use super::{complete, out};

/// What is trained, and where.
#[derive(Args)]
pub struct SearchArgs {
    #[command(flatten)]
    base: BaseArgs,
    /// Name of the folder in artifacts/; one that is there already is resumed [default: the command with the first
    /// free number, as in tune-1]
    #[arg(long, value_name = "NAME", value_parser = run_name, add = complete::run_names())]
    run: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
}

impl SearchArgs {
    /// The settings asked for.
    pub fn config(&self) -> Result<TrainConfig> {
        self.base.truncated.apply();
        self.base.config()
    }

    /// Does the work in the folder of the run, which is `what`'s and holds `marker` once it has begun.
    pub fn within<T>(
        &self,
        what: &str,
        marker: &str,
        size: &str,
        work: impl FnOnce(&TrainContext) -> Result<T>,
    ) -> Result<T> {
        let devices = self.device.or_several(&[])?;
        let folder = run::open(Path::new(run::ARTIFACTS), what, self.run.as_deref(), marker)?;
        out::note(format_args!("{size} in {}", folder.display()));
        let context = TrainContext {
            folder: &folder,
            dataset: Path::new(datasets::FOLDER),
            devices: &devices,
            ui: Ui::Quiet,
            report: report(),
            interrupter: interruptible()?,
            resume: false,
            tensorboard: false,
        };
        match self.run {
            // Others may share a folder that has a name.
            Some(_) => work(&context),
            None => run::within(&folder, || work(&context)),
        }
    }
}
