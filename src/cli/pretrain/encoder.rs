//! `clipcap pretrain simclr`, `autoencoder`, `resnet18` and `pca`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use clipcap::datasets::{self, classes::ClassSource};
use clipcap::files;
use clipcap::models::resnet18::{ResNet18Config, Stem};
use clipcap::pretrain::encoder::{
    EncoderRun, EncoderRunConfig, Method, Optimizing, pretrain_encoder,
};
use clipcap::pretrain::run::PretrainContext;
use clipcap::pretrain::view_loss::ViewLoss;
use clipcap::trainer::lars::LarsConfig;
use clipcap::trainer::run;

use super::ModelOutputArgs;
use crate::cli::common::{
    DeviceArg, TruncatedArg, UiArg, interruptible, refuse_idle, report, run_name, valid,
};
use crate::cli::complete;
use crate::cli::train::run_folder;
use crate::cli::values::values;

/// Flags that would make another run of one that is resumed.
const CHANGES: [&str; 13] = [
    "data",
    "run",
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup_epochs",
    "image_size",
    "width",
    "stem",
    "optimizer",
    "loss",
    "temperature",
    "seed",
];

#[derive(Args)]
pub struct EncoderArgs {
    #[command(flatten)]
    output: ModelOutputArgs,
    /// Images: scenes, scenes-shapes, scenes-colors, cifar10, stl10, or a folder of one of these or with a folder a class
    #[arg(long, value_name = "NAME|DIR", default_value = "scenes")]
    data: ClassSource,
    /// Resume a run, named by itself or by its folder, from its last checkpoint, with its own settings
    #[arg(
        long,
        value_name = "RUN",
        add = complete::runs(),
        conflicts_with_all = CHANGES
    )]
    resume: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs,
    /// Name of the run's folder in artifacts/
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    run: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    ui: UiArg,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

/// Settings; those that are not given are the data's own.
#[derive(Args)]
pub struct SettingArgs {
    /// Times that the images are gone through [default: by encoder and data]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images in a batch [default: by encoder and data]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Peak learning rate [default: by encoder and data]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Epochs of linear rise to the learning rate
    #[arg(long, value_name = "N")]
    warmup_epochs: Option<usize>,
    /// Side of the images that the encoder looks at
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u32>,
    /// Channels of the first stage, 64 in a whole ResNet-18
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// How a ResNet-18 begins
    #[arg(long, value_enum)]
    stem: Option<StemArg>,
    /// Optimizer [default: adam]
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerArg>,
    /// SimCLR's loss
    #[arg(long, value_enum)]
    loss: Option<LossArg>,
    /// Temperature of SimCLR's loss [default: 0.05 on the sample, 0.5 elsewhere]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Seed of everything random [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

values! {
    StemArg for Stem {
        /// 3 x 3, stride 1: for small images
        Cifar,
        /// 7 x 7, stride 2, and a pool
        Imagenet,
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum OptimizerArg {
    /// Adam
    Adam,
    /// For large batches; it wants learning rates about 0.3 for each 256 images of a batch
    Lars,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LossArg {
    /// Normalized temperature-scaled cross-entropy (SimCLR)
    NtXent,
    /// Normalized temperature-scaled logistic loss
    NtLogistic,
    /// Triplets with a margin of 0.8
    Triplet,
}

impl SettingArgs {
    /// The first flag given that matters for training alone.
    pub fn of_training(&self) -> Option<&'static str> {
        self.flags()
            .into_iter()
            .find(|&(_, given)| given)
            .map(|(name, _)| name)
    }

    /// The flag, where it is given.
    pub fn given(&self, flag: &'static str) -> Option<&'static str> {
        self.flags().contains(&(flag, true)).then_some(flag)
    }

    /// Ends the program where a flag is given that a method does not heed.
    fn refuse_idle(&self, method: &Method) {
        const OF_VIEWS: [&str; 2] = ["--loss", "--temperature"];
        let (unheeded, needed): (&dyn Fn(&str) -> bool, _) = match method {
            Method::Simclr { .. } => (&|_| false, ""),
            Method::Resnet18 { .. } => (&|flag| OF_VIEWS.contains(&flag), "it is SimCLR's"),
            Method::Autoencoder { .. } => (
                &|flag| OF_VIEWS.contains(&flag) || flag == "--stem",
                "an autoencoder has none",
            ),
            Method::Pca { .. } => (
                &|flag| flag != "--seed",
                "principal components are found without training",
            ),
        };
        let given: Vec<_> = (self.flags().into_iter())
            .filter(|(flag, _)| unheeded(flag))
            .collect();
        refuse_idle(&given, needed);
        let is_triplet = matches!(self.loss, Some(LossArg::Triplet));
        refuse_idle(
            &[("--temperature", is_triplet && self.temperature.is_some())],
            "triplets have none",
        );
    }

    /// The flags of training alone, and whether they are given.
    fn flags(&self) -> [(&'static str, bool); 10] {
        [
            ("--epochs", self.epochs.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--warmup-epochs", self.warmup_epochs.is_some()),
            ("--width", self.width.is_some()),
            ("--stem", self.stem.is_some()),
            ("--optimizer", self.optimizer.is_some()),
            ("--loss", self.loss.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--seed", self.seed.is_some()),
        ]
    }

    /// Changes what was given.
    pub fn apply(&self, config: &mut EncoderRunConfig) {
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch_size = self.batch_size.unwrap_or(config.batch_size);
        config.learning_rate = self.learning_rate.unwrap_or(config.learning_rate);
        config.warmup_epochs = self.warmup_epochs.unwrap_or(config.warmup_epochs);
        // A short run has no room for the warmup of a long one.
        if self.warmup_epochs.is_none() {
            config.warmup_epochs = config.warmup_epochs.min(config.epochs / 10);
        }
        config.image_size = self.image_size.unwrap_or(config.image_size);
        config.seed = self.seed.unwrap_or(config.seed);
        match self.optimizer {
            None | Some(OptimizerArg::Adam) => {}
            Some(OptimizerArg::Lars) => config.optimizer = Optimizing::Lars(LarsConfig::simclr()),
        }
        match &mut config.method {
            Method::Simclr { network, loss, .. } => {
                self.apply_network(network);
                self.apply_loss(loss);
            }
            Method::Resnet18 { network, .. } => self.apply_network(network),
            Method::Autoencoder { width, .. } => *width = self.width.unwrap_or(*width),
            Method::Pca { .. } => {}
        }
    }

    fn apply_network(&self, network: &mut ResNet18Config) {
        network.width = self.width.unwrap_or(network.width);
        network.stem = self.stem.map_or(network.stem, Into::into);
    }

    fn apply_loss(&self, loss: &mut ViewLoss) {
        let temperature = self.temperature.or(loss.temperature()).unwrap_or(0.5);
        *loss = match self.loss {
            None | Some(LossArg::NtXent) => ViewLoss::NtXent { temperature },
            Some(LossArg::NtLogistic) => ViewLoss::NtLogistic { temperature },
            Some(LossArg::Triplet) => ViewLoss::Triplet { margin: 0.8 },
        };
    }
}

impl EncoderArgs {
    /// A new run's folder and settings, or those of the run that is resumed.
    fn begin(
        &self,
        base: fn(ClassSource) -> EncoderRunConfig,
    ) -> Result<(PathBuf, EncoderRunConfig)> {
        let mut config = base(self.data.clone());
        let Some(named) = &self.resume else {
            self.settings.refuse_idle(&config.method);
            self.settings.apply(&mut config);
            valid(config.validate());
            let kind = format!("pretrain-{}", config.name());
            let folder = run::create(Path::new(run::ARTIFACTS), &kind, self.run.as_deref())?;
            return Ok((folder, config));
        };
        let folder = run_folder(named);
        let path = folder.join("config.json");
        if !path.is_file() {
            bail!(
                "{} is not a run folder: it has no config.json; give a folder in {}/",
                folder.display(),
                run::ARTIFACTS
            );
        }
        let kept: EncoderRunConfig =
            files::read_own_json(&path, || "put back a copy, or start a new run".into())?;
        if kept.name() != config.name() {
            bail!(
                "{} is a run of `pretrain {}`, not of `pretrain {}`",
                folder.display(),
                kept.name(),
                config.name()
            );
        }
        Ok((folder, kept))
    }
}

pub fn run(args: &EncoderArgs, base: fn(ClassSource) -> EncoderRunConfig) -> Result<ExitCode> {
    args.truncated.apply();
    let device = args.device.resolve()?;
    let (folder, config) = args.begin(base)?;
    let context = PretrainContext {
        folder: &folder,
        output: &args.output.path,
        device: &device,
        ui: args.ui.into(),
        report: report(),
        interrupter: interruptible()?,
        resume: args.resume.is_some(),
        overwrite: args.output.overwrite,
    };
    let run = EncoderRun {
        context,
        dataset: Path::new(datasets::FOLDER),
    };
    let done = match args.resume {
        Some(_) => pretrain_encoder(&config, &run)?,
        None => run::within(&folder, || pretrain_encoder(&config, &run))?,
    };
    super::finish(&done, &args.output.path, &folder)
}
