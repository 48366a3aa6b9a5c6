//! `clipcap fetch`

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::model_folder;
use clipcap::catalog::{MODELS, home};
use clipcap::convert::{self, ConvertConfig};
use clipcap::datasets;
use clipcap::files;
use clipcap::hub::{self, Fetched, Hub, HubConfig, Named, SETS, Watch, archives};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::common::{refuse_idle, usage, valid};
use super::{complete, find, out};

/// Download named models from the Hugging Face Hub and convert them, or data sets with classes
#[derive(Args)]
#[command(after_help = after_help())]
pub struct FetchArgs {
    /// Sets, short names or ids of the Hub (owner/name), or cifar10 and stl10, which go to dataset/
    #[arg(value_name = "NAME", required = true, add = complete::fetchable())]
    names: Vec<String>,
    /// One model folder for everything named [default: model/NAME for each]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Put models into the user's folder, where they are found from any folder, instead of model/
    #[arg(long, conflicts_with = "output")]
    user: bool,
    /// ClipCap or CapDec checkpoint to use, a file or owner/name/file on the Hub
    #[arg(long, value_name = "FILE")]
    captioner: Option<String>,
    /// Use only what was downloaded before
    #[arg(long)]
    offline: bool,
}

fn after_help() -> String {
    let sets: String = SETS
        .iter()
        .map(|set| format!("  {:<20} {}\n", set.name, set.about))
        .chain(archives::known().map(|data| format!("  {:<20} {}\n", data.name, data.about)))
        .collect();
    format!(
        "Sets:\n{sets}\n\
        Examples:\n  \
        clipcap fetch clipcap-coco\n  \
        clipcap fetch openai/clip-vit-base-patch32 gpt2 --output model/base\n  \
        clipcap fetch cifar10\n\n\
        HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are heeded. Downloads stay in HF_HOME, where other Hugging Face\n\
        tools find them too; one that was interrupted is resumed."
    )
}

pub fn run(args: FetchArgs) -> Result<ExitCode> {
    let known = archives::known();
    let (data, names): (Vec<String>, Vec<String>) =
        (args.names.into_iter()).partition(|name| known.iter().any(|archive| archive.name == name));
    let named = names
        .iter()
        .map(|name| valid(hub::parse(name).map_err(Into::into)))
        .collect::<Vec<_>>();
    if args.captioner.is_some() && args.output.is_none() && named.len() > 1 {
        usage(
            ErrorKind::ArgumentConflict,
            "--captioner with several names needs --output: it is part of one model",
        );
    }
    if named.is_empty() {
        let of_models = [
            ("--output", args.output.is_some()),
            ("--user", args.user),
            ("--captioner", args.captioner.is_some()),
        ];
        refuse_idle(&of_models, "it is for models, and data sets go to dataset/");
    }
    if let Some(output) = &args.output {
        files::check_free(output)?;
        files::check_folder(output)?;
    }
    for archive in known
        .iter()
        .filter(|known| data.iter().any(|name| name == known.name))
    {
        if args.offline && !Path::new(datasets::FOLDER).join(archive.folder).is_dir() {
            anyhow::bail!(
                "{} was not fetched before, and this is offline: run without --offline",
                archive.name
            );
        }
        let folder = archives::fetch(archive, Path::new(datasets::FOLDER), &Screen::default())?;
        out::line(folder.display())?;
    }
    if named.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = HubConfig::from_env();
    config.offline |= args.offline;
    let hub = Hub::new(&config)?;
    let parent = match args.user {
        true => home().with_context(find::no_home)?.join(MODELS),
        false => MODELS.into(),
    };
    for (named, output) in models(named, args.output, &parent) {
        make(&hub, &named, args.captioner.as_deref(), &output)?;
        out::line(output.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches what one name stands for, as a model folder.
pub fn fetch_model(name: &str, output: &Path) -> Result<()> {
    let hub = Hub::new(&HubConfig::from_env())?;
    make(&hub, &[hub::parse(name)?], None, output)
}

/// Downloads and converts.
fn make(hub: &Hub, named: &[Named], captioner: Option<&str>, output: &Path) -> Result<()> {
    files::check_free(output)?;
    files::check_folder(output)?;
    let fetched = hub::fetch(hub, named, captioner, &Screen::default())?;
    convert(fetched, output)
}

/// What goes into which folder.
fn models(named: Vec<Named>, output: Option<PathBuf>, parent: &Path) -> Vec<(Vec<Named>, PathBuf)> {
    if let Some(output) = output {
        return vec![(named, output)];
    }
    let folder = |named: &Named| {
        let name = match named {
            Named::Set(set) => set.name,
            Named::Repo(id) => id.rsplit('/').next().unwrap_or(id),
        };
        parent.join(name)
    };
    named
        .into_iter()
        .map(|named| (vec![named.clone()], folder(&named)))
        .collect()
}

fn convert(fetched: Fetched, output: &Path) -> Result<()> {
    let provenance = Value::Array(fetched.provenance);
    let config = ConvertConfig {
        clip: fetched.clip,
        gpt2: fetched.gpt2,
        captioner: fetched.captioner,
        normalize_embedding: None,
        output: output.to_path_buf(),
    };
    let report = convert::convert(&config)
        .with_context(|| format!("cannot convert to {}", output.display()))?;
    out::note(report);
    model_folder::update_source(output, "hub", provenance)
}

/// Notes and a progress bar on standard error; without a terminal notes only, and a line a file.
#[derive(Default)]
struct Screen {
    bar: RefCell<Option<ProgressBar>>,
}

impl Watch for Screen {
    fn begin(&self, file: &str, size: u64) {
        let mut bar = self.bar.borrow_mut();
        if let Some(bar) = &*bar {
            bar.set_position(0);
            return;
        }
        if !out::shows_bars() {
            out::note(format_args!("downloading {file} ({size} bytes)"));
        }
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        *bar = Some(
            ProgressBar::new(size)
                .with_style(
                    ProgressStyle::with_template(style)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                )
                .with_message(file.to_string()),
        );
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn note(&self, line: &str) {
        out::note(line);
    }
}
