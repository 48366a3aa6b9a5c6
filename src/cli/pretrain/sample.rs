//! `clipcap pretrain sample`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clipcap::datasets;
use clipcap::pretrain::sample::{SampleConfig, SampleContext, SampleDone, pretrain_sample};
use clipcap::trainer::run;

use crate::cli::common::{DeviceArg, STOPPED, UiArg, interruptible, report, run_name};
use crate::cli::{complete, out};

/// What is written, and where.
#[derive(Args)]
pub struct SampleArgs {
    /// Model folder that is written; one that is there is refused
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the model that is in --output already
    #[arg(long)]
    overwrite: bool,
    /// Name of the folder in artifacts/; one that is there already is resumed [default: sample with the first free number]
    #[arg(long, value_name = "NAME", value_parser = run_name, add = complete::run_names())]
    run: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    ui: UiArg,
    #[command(flatten)]
    device: DeviceArg,
}

pub fn run(args: &SampleArgs) -> Result<ExitCode> {
    let devices = args.device.or_several(&[])?;
    let artifacts = Path::new(run::ARTIFACTS);
    let folder = run::open(artifacts, "sample", args.run.as_deref(), "sample.json")?;
    let context = SampleContext {
        folder: &folder,
        output: &args.output,
        dataset: Path::new(datasets::FOLDER),
        devices: &devices,
        ui: args.ui.into(),
        report: report(),
        interrupter: interruptible()?,
        overwrite: args.overwrite,
    };
    let pretrain = || pretrain_sample(&SampleConfig::default(), &context);
    let done = match args.run {
        Some(_) => pretrain()?,
        None => run::within(&folder, pretrain)?,
    };
    match done {
        Some(done) => {
            out::text(&show(&done, &args.output))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            out::note(format_args!(
                "resume with: clipcap pretrain sample --output {} --run {name}",
                args.output.display()
            ));
            Ok(ExitCode::from(STOPPED))
        }
    }
}

/// What each part took, and where the model is.
fn show(done: &SampleDone, output: &Path) -> String {
    let parts = [
        ("clip", &done.clip),
        ("gpt2", &done.gpt2),
        ("mapper", &done.mapper),
    ];
    let mut text: String = parts
        .iter()
        .map(|(name, part)| {
            format!(
                "{name:<8}{:>9} parameters  {:.0} s\n",
                part.parameters, part.seconds
            )
        })
        .collect();
    let scenes = (done.mapper.scores.as_ref()).and_then(|scores| scores.get("scenes"));
    if let Some(share) = scenes.and_then(|scenes| scenes["true_captions"].as_f64()) {
        text.push_str(&format!("{:.1}% true captions\n", 100.0 * share));
    }
    text.push_str(&format!(
        "wrote {} after {:.0} s\n",
        output.display(),
        done.seconds()
    ));
    text
}
