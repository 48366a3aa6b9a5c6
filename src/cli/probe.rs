//! `clipcap probe`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use clap::error::ErrorKind;
use clipcap::datasets::{self, classes::ClassSource};
use clipcap::pretrain::encoder::EncoderRunConfig;
use clipcap::probe::ablation::{self, Ablation};
use clipcap::probe::report::{self as page, ReportHead};
use clipcap::probe::table::{self, TableContext};
use clipcap::probe::{
    EncoderChoice, Outcome, ProbeConfig, Protocol, embed, evaluate, evaluate_folds,
};
use clipcap::sample_model::NAME as SAMPLE;
use clipcap::trainer::run;
use serde_json::json;

use super::common::{
    DeviceArg, MarkdownArg, STOPPED, TruncatedArg, UiArg, check_files, interruptible, refuse_idle,
    report, run_name, usage, valid,
};
use super::out;
use super::pretrain::encoder::SettingArgs;
use super::values::values;
use super::{complete, find};

/// Classes in the printed table; with more the report has them.
const SHOWN: usize = 20;

/// Linear probe and kNN evaluation of an encoder's embeddings
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap probe --encoder model/sample --data scenes-colors --eval knn\n      \
    CLIP's image tower on the generated sample\n  \
    clipcap probe --encoder pca --data cifar10 --report pca.html\n      \
    a linear classifier on principal components of CIFAR-10\n  \
    clipcap probe --table\n      \
    every encoder trained on the sample, and set beside what was published\n  \
    clipcap probe --ablate temperature --values 0.1,0.5,1 --epochs 4\n      \
    SimCLR at several temperatures")]
pub struct ProbeArgs {
    /// Encoder: a model folder or a name that `clipcap models` lists, `pixels`, or `pca` for 128 principal components of the
    /// training images; with --table, the model whose encoder is its last row
    #[arg(long, value_name = "DIR|NAME", default_value = SAMPLE, add = complete::models(), conflicts_with = "ablate")]
    encoder: String,
    /// Images with classes: scenes, scenes-shapes, scenes-colors, cifar10, stl10, or a folder of one of these or with a
    /// folder a class
    #[arg(long, value_name = "NAME|DIR", default_value = "scenes")]
    data: ClassSource,
    /// Evaluation protocol [default: linear]; --table and --ablate have both
    #[arg(long, value_enum)]
    eval: Option<EvalArg>,
    /// Neighbors that vote, with --eval knn [default: 200]
    #[arg(long, value_name = "N")]
    neighbors: Option<usize>,
    /// Train on each of STL-10's ten folds alone, and give the mean
    #[arg(long)]
    folds: bool,
    /// Test on a fifth of the training images instead of the test images, and train on the others: to choose settings by
    #[arg(long, conflicts_with = "folds")]
    held_out: bool,
    /// Write an HTML page with the confusion matrix and a map of the embeddings
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How the outcome is printed [default: text]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    markdown: MarkdownArg,
    /// Train every encoder, probe it both ways, and print a table with published numbers beside
    #[arg(long, conflicts_with = "ablate")]
    table: bool,
    /// Train SimCLR with several values of one setting
    #[arg(long, value_enum)]
    ablate: Option<AblateArg>,
    /// Temperatures or batch sizes, with --ablate
    #[arg(
        long,
        value_name = "A,B,...",
        value_delimiter = ',',
        requires = "ablate"
    )]
    values: Vec<f64>,
    #[command(flatten)]
    settings: SettingArgs,
    /// Name of the run's folder in artifacts/, with --table and --ablate; one that is there is resumed
    #[arg(long, value_name = "NAME", value_parser = run_name, add = complete::run_names())]
    run: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    ui: UiArg,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

values! {
    EvalArg for Protocol {
        /// Logistic regression, its penalty chosen on held-out folds
        Linear,
        /// A weighted vote of the nearest training embeddings
        Knn,
    }
}

values! {
    AblateArg for Ablation {
        /// Temperatures of the loss
        Temperature,
        /// Steps of the augmentation, each left out and each alone
        Augmentations,
        /// Images in a batch
        BatchSize,
        /// Losses
        Losses,
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Lines for a person
    Text,
    /// One JSON object
    Json,
}

impl ProbeArgs {
    /// A run's settings with what was given on the command line.
    fn changed(&self, mut config: EncoderRunConfig) -> EncoderRunConfig {
        self.settings.apply(&mut config);
        config.held_out = self.held_out;
        config
    }

    fn protocol(&self) -> Protocol {
        self.eval.unwrap_or(EvalArg::Linear).into()
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Text)
    }

    /// Ends the program where a flag is given that has no effect with the others.
    fn refuse_idle(&self) {
        if self.neighbors == Some(0) {
            usage(ErrorKind::InvalidValue, "--neighbors is 0: give at least 1");
        }
        // clap passes over what is required where that conflicts with what is given.
        let values = ("--values", !self.values.is_empty() && self.ablate.is_none());
        refuse_idle(&[values], "it goes with --ablate");
        if self.table || self.ablate.is_some() {
            let of_one = [
                ("--eval", self.eval.is_some()),
                ("--neighbors", self.neighbors.is_some()),
                ("--folds", self.folds),
                ("--report", self.report.is_some()),
                ("--format", self.format.is_some()),
            ];
            refuse_idle(
                &of_one,
                "it is for one encoder, without --table and --ablate",
            );
            let is_made = !matches!(
                EncoderChoice::from(&*self.encoder),
                EncoderChoice::Folder(_)
            );
            refuse_idle(
                &[("--encoder", self.table && is_made)],
                "with --table it is a model, and principal components are a row anyway",
            );
            let ablated = match self.ablate {
                Some(AblateArg::Temperature) => self.settings.given("--temperature"),
                Some(AblateArg::BatchSize) => self.settings.given("--batch-size"),
                Some(AblateArg::Losses) => self.settings.given("--loss"),
                Some(AblateArg::Augmentations) | None => None,
            };
            if let Some(flag) = ablated {
                refuse_idle(&[(flag, true)], "it is what --ablate changes");
            }
            return;
        }
        let of_many = [
            ("--run", self.run.is_some()),
            ("--markdown", self.markdown.is_given()),
        ];
        refuse_idle(&of_many, "it goes with --table or --ablate");
        if let Some(name) = self.settings.of_training() {
            refuse_idle(
                &[(name, true)],
                "it is a setting of training, and goes with --table or --ablate",
            );
        }
        let is_knn = self.protocol() == Protocol::Knn;
        refuse_idle(
            &[("--neighbors", self.neighbors.is_some() && !is_knn)],
            "it goes with --eval knn",
        );
        refuse_idle(
            &[("--report", self.report.is_some() && self.folds)],
            "it is of one outcome, without --folds",
        );
    }
}

pub fn run(args: ProbeArgs) -> Result<ExitCode> {
    args.truncated.apply();
    args.refuse_idle();
    args.markdown.check()?;
    check_files([args.report.as_deref()])?;
    if args.table || args.ablate.is_some() {
        return many(&args);
    }
    let sizes = args.changed(EncoderRunConfig::simclr(args.data.clone()));
    valid(sizes.validate());
    let device = args.device.resolve()?;
    let set = sizes.load_set(Path::new(datasets::FOLDER), &|line| report()(line))?;
    let choice = match EncoderChoice::from(&*args.encoder) {
        EncoderChoice::Folder(model) => EncoderChoice::Folder(find::folder(&model)?),
        choice => choice,
    };
    let encoder = choice.load(sizes.image_size, &set, &device)?;
    let embedded = embed(&encoder, &set, &report())?;
    let mut config = ProbeConfig::default();
    config.knn.neighbors = args.neighbors.unwrap_or(config.knn.neighbors);
    if args.folds {
        let outcomes = evaluate_folds(&embedded, args.protocol(), &config)?;
        out::line(shown_folds(&args, &outcomes))?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = evaluate(&embedded, args.protocol(), &config)?;
    match args.format() {
        Format::Text => out::text(&shown(&args, &outcome))?,
        Format::Json => out::line(
            json!({"encoder": args.encoder, "data": args.data.to_string(), "outcome": outcome}),
        )?,
    }
    if let Some(path) = &args.report {
        let data = args.data.to_string();
        let head = ReportHead {
            encoder: &args.encoder,
            data: &data,
        };
        page::write(path, &embedded, &outcome, &head)?;
        out::note(format_args!("wrote {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(args: &ProbeArgs, outcome: &Outcome) -> String {
    let interval = outcome.interval.map_or_else(String::new, |interval| {
        format!(
            " ({:.1}% to {:.1}%)",
            100.0 * interval.low,
            100.0 * interval.high
        )
    });
    let mut text = format!(
        "{} on {}, {}: {}\n{:.1}%{interval} of {} test images right\n",
        args.encoder,
        args.data,
        outcome.protocol.name(),
        outcome.settings,
        100.0 * outcome.accuracy,
        outcome.labels.len()
    );
    if outcome.classes.len() > SHOWN {
        return text;
    }
    text.push_str(&format!(
        "{:<16} {:>8} {:>8} {:>10} {:>7}\n",
        "class", "images", "recall", "precision", "F1"
    ));
    for class in &outcome.classes {
        text.push_str(&format!(
            "{:<16} {:>8} {:>7.1}% {:>9.1}% {:>6.1}%\n",
            class.name,
            class.images,
            100.0 * class.recall,
            100.0 * class.precision,
            100.0 * class.f1
        ));
    }
    text
}

fn shown_folds(args: &ProbeArgs, outcomes: &[Outcome]) -> String {
    let count = outcomes.len() as f64;
    let mean = outcomes.iter().map(|outcome| outcome.accuracy).sum::<f64>() / count;
    let squares = outcomes
        .iter()
        .map(|outcome| (outcome.accuracy - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0).max(1.0)).sqrt();
    match args.format() {
        Format::Text => format!(
            "{} on {}, {}: {:.1}% ± {:.1}% over {count} folds",
            args.encoder,
            args.data,
            args.protocol().name(),
            100.0 * mean,
            100.0 * deviation
        ),
        Format::Json => json!({
            "encoder": args.encoder, "data": args.data.to_string(), "accuracy": mean,
            "deviation": deviation, "folds": outcomes,
        })
        .to_string(),
    }
}

/// The table, or an ablation.
fn many(args: &ProbeArgs) -> Result<ExitCode> {
    let base = args.changed(EncoderRunConfig::simclr(args.data.clone()));
    valid(base.validate());
    if let Some(ablate) = args.ablate {
        valid(Ablation::from(ablate).variants(&base, &args.values));
    }
    let device = args.device.resolve()?;
    let kind = if args.table { "table" } else { "ablation" };
    let named = args
        .run
        .as_ref()
        .map(|name| Path::new(run::ARTIFACTS).join(name));
    let folder = match named.filter(|folder| folder.is_dir()) {
        Some(folder) => return many_in(args, &base, &device, &folder),
        None => run::create(Path::new(run::ARTIFACTS), kind, args.run.as_deref())?,
    };
    run::within(&folder, || many_in(args, &base, &device, &folder))
}

/// The same in the run's folder.
fn many_in(
    args: &ProbeArgs,
    base: &EncoderRunConfig,
    device: &Device,
    folder: &Path,
) -> Result<ExitCode> {
    let interrupter = interruptible()?;
    let pretrained = match EncoderChoice::from(&*args.encoder) {
        EncoderChoice::Folder(model) if args.table => Some(find::folder(&model)?),
        _ => None,
    };
    let context = TableContext {
        folder,
        dataset: Path::new(datasets::FOLDER),
        pretrained: (pretrained.as_deref()).map(|folder| (args.encoder.as_str(), folder)),
        device,
        ui: args.ui.into(),
        report: report(),
        interrupter: interrupter.clone(),
    };
    match args.ablate {
        Some(ablate) => {
            let ablate = Ablation::from(ablate);
            let points = ablation::run(ablate, base, &args.values, &context)?;
            args.markdown
                .write(|| ablation::markdown(ablate, &points))?;
            out::text(&ablation::markdown(ablate, &points))?;
        }
        None => {
            let rows = table::run(&args.data, |config| args.changed(config), &context)?;
            args.markdown.write(|| table::markdown(&rows, &args.data))?;
            out::text(&table::markdown(&rows, &args.data))?;
        }
    }
    out::note(format_args!("the run is {}", folder.display()));
    if interrupter.should_stop() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        out::note(format_args!(
            "resume with the same command and --run {name}"
        ));
        return Ok(ExitCode::from(STOPPED));
    }
    Ok(ExitCode::SUCCESS)
}
