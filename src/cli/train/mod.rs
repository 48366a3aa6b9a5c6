//! `clipcap train`

mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use clipcap::data::split::Split;
use clipcap::device::DeviceChoice;
use clipcap::files;
use clipcap::train::Trainer;
use clipcap::train::caption::{TestScores, Trained};
use clipcap::train::config::{Preset, TrainConfig, TrainData};
use clipcap::train::resume;
use clipcap::trainer::run;

use settings::SettingArgs;

use super::common::{
    RunArgs, STOPPED, TruncatedArg, interruptible, refuse_split_seed, report, valid,
};
use super::values::values;
use super::{complete, find, out};

/// Flags that would make another run of one that is resumed.
const CHANGES: [&str; 39] = [
    "preset",
    "config",
    "encoder",
    "data",
    "images",
    "split",
    "name",
    "trainable",
    "lora_rank",
    "learn_from",
    "mapper",
    "prefix_length",
    "clip_length",
    "layers",
    "noise",
    "noise_rate",
    "noise_variance",
    "no_normalize",
    "modality_offset",
    "captions",
    "stop",
    "epochs",
    "batch_size",
    "accumulate",
    "learning_rate",
    "warmup_steps",
    "decay",
    "weight_decay",
    "clip_norm",
    "precision",
    "activation_checkpointing",
    "label_smoothing",
    "validation_captions",
    "best_by",
    "early_stopping",
    "seed",
    "split_seed",
    "retrieve",
    "index",
];

/// Captions shown at the end.
const SHOWN: usize = 6;

/// Train the mapper, or mapper and GPT-2; with no argument on the sample
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap train\n      the sample: 7,000 generated scenes, about three minutes on two cores\n  \
    clipcap train --model model/mine --data annotations/captions_train2017.json --images train2017\n      \
    the paper's settings on COCO: mapper and GPT-2, Adam at 5e-5, 20 epochs, images split 80/10/10\n  \
    clipcap train --resume artifacts/train-1\n      resumes a run that was stopped")]
pub struct TrainArgs {
    /// Resume a run, named by itself or by its folder, from its last checkpoint, with its own settings; --model says where
    /// the model it was begun with is now
    #[arg(
        long,
        value_name = "RUN",
        add = complete::runs(),
        conflicts_with_all = CHANGES
    )]
    resume: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Devices that share every batch, as in cuda:0,cuda:1: together they do what one device would with the whole
    /// batch. The first also embeds and validates. Several `cuda` cards need NCCL; elsewhere burn copies the weights to
    /// each device at each step, which is slow for large models. `cpu,cpu` uses the same cores twice
    #[arg(
        long,
        value_name = "NAME[:N],...",
        value_delimiter = ',',
        conflicts_with = "device"
    )]
    devices: Vec<DeviceChoice>,
    /// Write event files for TensorBoard into the run's folder too; `tensorboard --logdir artifacts` shows all runs
    #[arg(long)]
    tensorboard: bool,
}

/// Where a run's settings come from.
#[derive(Args)]
pub struct BaseArgs {
    /// Settings to begin with; the flags below change them [default: paper with --data, else the paper's scaled to the sample]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<PresetArg>,
    /// A config.json, such as a run's or the one that `tune` writes, to begin with; the flags below change it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model that CLIP and GPT-2 come from: a folder, or a name that `clipcap models` lists [default: sample]
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    model: Option<PathBuf>,
    /// Model whose encoder embeds the images instead, as `pretrain simclr` and others make it
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    encoder: Option<PathBuf>,
    /// Captioned images: COCO annotations, a Karpathy split, a CSV, TSV or JSON Lines table, Flickr tokens, a folder of
    /// images with a .txt beside each, or WebDataset shards [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the images named in --data are in; may be given several times [default: the one that --data is in]
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Vec<PathBuf>,
    /// How the images are divided: shares to train on, validate on and test on, in percent, or `file` for the parts that the data
    /// names, or three files that list the images of each, as Flickr8k's official split does:
    /// Flickr_8k.trainImages.txt,Flickr_8k.devImages.txt,Flickr_8k.testImages.txt [default: the data's own parts if it has
    /// them, else 80/10/10]
    #[arg(
        long = "shares",
        alias = "split",
        value_name = "A/B/C|file|TRAIN,VAL,TEST"
    )]
    split: Option<Split>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    pub truncated: TruncatedArg,
}

values! {
    PresetArg for Preset {
        /// The paper: transformer mapper and GPT-2, noise on a tenth, Adam at 5e-5, 20 epochs
        Paper,
        /// ClipCap's MLP mapper, GPT-2 trained too
        ClipcapMlp,
        /// ClipCap's transformer mapper before a frozen GPT-2
        ClipcapTransformer,
        /// CapDec: text-only training, with noise on the captions' embeddings
        Capdec,
    }
}

impl BaseArgs {
    /// Where the settings come from, in words; flags change them.
    fn origin(&self) -> String {
        match (&self.config, self.preset, &self.data) {
            (Some(file), ..) => format!("those of {}", file.display()),
            (None, Some(preset), _) => {
                let name = preset.to_possible_value();
                let name = name.map_or(String::new(), |value| value.get_name().to_string());
                format!("the preset {name}")
            }
            (None, None, Some(_)) => "the preset paper, as for any --data".to_string(),
            (None, None, None) => "the paper's, scaled to the sample".to_string(),
        }
    }

    /// The settings asked for.
    pub fn config(&self) -> Result<TrainConfig> {
        let data = self.data.as_ref().map(|data| TrainData::Files {
            captions: data.clone(),
            images: self.images.clone(),
        });
        let named = self.model.as_deref().map(find::folder).transpose()?;
        let model = || named.clone().map_or_else(find::sample, Ok);
        let mut config = match (&self.config, self.preset, data) {
            (Some(file), _, data) => {
                let mut config: TrainConfig = files::read_json(file)?;
                (config.validate()).with_context(|| file.display().to_string())?;
                config.data = data.unwrap_or(config.data);
                config.model = named.map_or_else(|| find::again(&config.model), Ok)?;
                config
            }
            (None, Some(preset), data) => {
                TrainConfig::preset(preset.into(), data.unwrap_or(TrainData::Sample), model()?)
            }
            (None, None, Some(data)) => TrainConfig::paper(data, model()?),
            (None, None, None) => TrainConfig::sample(model()?),
        };
        config.split = self.split.clone().unwrap_or(config.split);
        if let Some(encoder) = &self.encoder {
            config.encoder = Some(find::folder(encoder)?);
        }
        self.settings.apply(&mut config);
        refuse_split_seed(&config.split, self.settings.has_split_seed());
        valid(config.validate());
        Ok(config)
    }
}

impl TrainArgs {
    /// A new run, or the one that is resumed.
    fn trainer(&self) -> Result<Trainer> {
        if let Some(named) = &self.resume {
            let folder = run_folder(named);
            let model = match &self.base.model {
                Some(model) => find::folder(model)?,
                None => find::again(&resume::config(&folder)?.model)?,
            };
            return Ok(Trainer::resume(folder).model(model));
        }
        let trainer = Trainer::new(self.base.config()?);
        out::note(format_args!("settings: {}", self.base.origin()));
        Ok(match &self.run.name {
            Some(name) => trainer.run_name(name),
            None => trainer,
        })
    }
}

/// A run's folder, by its path or its name.
pub fn run_folder(named: &Path) -> PathBuf {
    let in_artifacts = Path::new(run::ARTIFACTS).join(named);
    match !named.is_dir() && in_artifacts.is_dir() {
        true => in_artifacts,
        false => named.to_path_buf(),
    }
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    args.base.truncated.apply();
    let devices = args.run.device.or_several(&args.devices)?;
    let trainer = args.trainer()?;
    let started = Instant::now();
    let trained = trainer
        .devices(devices)
        .ui(args.run.ui.into())
        .tensorboard(args.tensorboard)
        .report(report())
        .interrupter(interruptible()?)
        .train()?;
    let shown = show(&trained, started.elapsed().as_secs_f64());
    let told = out::text(&shown);
    let page = trained.folder.join("report.html");
    if page.is_file() {
        out::note(format_args!("report: {}", page.display()));
    }
    if let Some(epoch) = trained.diverged {
        bail!(
            "the loss became NaN in epoch {epoch}, which ended the run: the best weights from before are kept; lower --learning-rate (it was {})",
            trained.config.schedule.learning_rate
        );
    }
    if trained.interrupted {
        out::note(format_args!(
            "resume with: clipcap train --resume {}",
            trained.folder.display()
        ));
        return Ok(ExitCode::from(STOPPED));
    }
    told?;
    Ok(ExitCode::SUCCESS)
}

/// The scores of the test captions in a line.
fn told(scores: &TestScores) -> String {
    let metric = |name| format!("{name} {:.3}", scores.metric(name).unwrap_or(0.0));
    let mut parts = Vec::new();
    if let Some(scenes) = scores.scenes {
        let percent = |share: f64| format!("{:.1}%", 100.0 * share);
        parts.push(format!(
            "{} true captions, {} right main objects",
            percent(scenes.true_captions),
            percent(scenes.right_main_objects)
        ));
    }
    parts.extend(["Bleu_4", "CIDEr"].map(metric));
    format!(
        "{} test images, none of them trained on: {}",
        scores.images,
        parts.join(", ")
    )
}

fn show(trained: &Trained, seconds: f64) -> String {
    let mut lines = Vec::new();
    for captioned in trained.test.iter().take(SHOWN) {
        lines.push(captioned.file_name.clone());
        lines.push(format!("  caption    {}", captioned.caption));
        for (i, reference) in captioned.references.iter().take(2).enumerate() {
            let name = if i == 0 { "reference " } else { "          " };
            lines.push(format!("  {name} {reference}"));
        }
    }
    if let Some(scores) = &trained.scores {
        lines.push(told(scores));
    }
    if let Some((epoch, loss)) = trained.best {
        lines.push(format!(
            "epoch {epoch} was best, with a validation loss of {loss:.3}"
        ));
    }
    lines.push(format!(
        "{} after {seconds:.0} s; the model is {}, the run {}\n",
        if trained.interrupted {
            "stopped"
        } else {
            "done"
        },
        trained.model.display(),
        trained.folder.display()
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::{ContextKind, ContextValue, ErrorKind};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        train: TrainArgs,
    }

    /// Flags that do not change what a resumed run is.
    const ALLOWED: [&str; 7] = [
        "model",
        "resume",
        "ui",
        "device",
        "devices",
        "tensorboard",
        "allow_truncated",
    ];

    #[test]
    fn a_run_that_is_resumed_takes_no_flag_that_would_change_it() {
        let command = <Cli as clap::CommandFactory>::command();
        for argument in command.get_arguments() {
            let long = argument.get_long().unwrap();
            let mut line = vec!["train".to_string(), "--resume".into(), "a".into()];
            line.push(format!("--{long}"));
            if ALLOWED.contains(&argument.get_id().as_str()) {
                continue;
            }
            if argument.get_action().takes_values() {
                let possible = argument.get_possible_values();
                let value = match (possible.first(), long) {
                    (Some(value), _) => value.get_name().to_string(),
                    (None, "shares") => "80/10/10".into(),
                    (None, "device" | "devices") => "cpu".into(),
                    (None, _) => "1".into(),
                };
                line.push(value);
            }
            if long == "images" {
                line.extend(["--data".into(), "x".into()]);
            }
            let Err(error) = Cli::try_parse_from(&line) else {
                panic!("{line:?} is taken, and dropped in silence");
            };
            assert_eq!(
                error.kind(),
                ErrorKind::ArgumentConflict,
                "{line:?}: {error}"
            );
            let named = error.get(ContextKind::InvalidArg);
            assert!(matches!(named, Some(ContextValue::String(_))), "{error}");
            let told = error.to_string();
            assert!(told.contains(&format!("--{long}")), "{told}");
            let others = usize::from(long == "images");
            assert!(told.matches("  --").count() <= 1 + others, "{told}");
        }
        let fine = "train --resume a --model b --ui quiet --device cpu --tensorboard";
        assert!(Cli::try_parse_from(fine.split(' ')).is_ok());
    }
}
