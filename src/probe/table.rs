//! Every encoder trained, probed by both protocols, and set beside what was published.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use burn::train::Interrupter;
use serde::{Deserialize, Serialize};

use super::{EncoderChoice, ProbeConfig, Protocol, embed, evaluate};
use crate::datasets::classes::{ClassSet, ClassSource};
use crate::files;
use crate::pretrain::encoder::{
    EncoderRun, EncoderRunConfig, Method, check_data, pretrain_encoder,
};
use crate::pretrain::run::PretrainContext;
use crate::trainer::dashboard::{LogFn, Ui};

/// Where and how the rows are made.
pub struct TableContext<'a> {
    /// The run's folder; a row that is whole in it is not made again.
    pub folder: &'a Path,
    /// The folder that fetched data sets are in.
    pub dataset: &'a Path,
    /// The name and folder of a model whose encoder is a row too, as it is.
    pub pretrained: Option<(&'a str, &'a Path)>,
    pub device: &'a Device,
    pub ui: Ui,
    pub report: LogFn,
    pub interrupter: Interrupter,
}

/// One encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub encoder: String,
    /// How long it learned, and at what size.
    pub budget: String,
    /// Seconds that training took.
    pub seconds: f64,
    /// Accuracy by each protocol, with its 95% interval.
    pub linear: Measured,
    pub knn: Measured,
}

/// An accuracy with its 95% interval, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub accuracy: f64,
    pub low: f64,
    pub high: f64,
}

impl fmt::Display for Measured {
    /// In percent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [accuracy, low, high] = [self.accuracy, self.low, self.high].map(|share| 100.0 * share);
        write!(f, "{accuracy:.1} ({low:.1} to {high:.1})")
    }
}

/// Numbers of others for an encoder, in percent.
pub struct Published {
    pub encoder: &'static str,
    /// The paper's table, on CIFAR-10 and STL-10.
    pub paper: (f64, f64),
    /// Others', with what they are of.
    pub others: &'static str,
}

/// The paper's numbers, and those of repositories that say how they came by them: Spijkervet/SimCLR at 070f633,
/// sthalles/SimCLR at 01a008c, kuangliu/pytorch-cifar at 00166a3, and SimCLR itself (arXiv 2002.05709, appendix B.9).
pub const PUBLISHED: [Published; 4] = [
    Published {
        encoder: "SimCLR",
        paper: (80.2, 76.4),
        others: "CIFAR-10 83.3 linear (ResNet-50, 100 epochs, Spijkervet), 94.0 linear (ResNet-50, 1,000 epochs, SimCLR); STL-10 76.5 linear (ResNet-18, 100 epochs, Spijkervet), 70.3 linear and 66.2 kNN (ResNet-18, 40 epochs, sthalles)",
    },
    Published {
        encoder: "autoencoder",
        paper: (55.3, 49.6),
        others: "none found that says how",
    },
    Published {
        encoder: "PCA",
        paper: (45.6, 38.2),
        others: "STL-10 36.0 linear and 31.8 kNN (256 components, sthalles)",
    },
    Published {
        encoder: "supervised ResNet-18",
        paper: (92.5, 85.4),
        others: "CIFAR-10 93.0 (ResNet-18, kuangliu)",
    },
];

/// Makes all rows; `change` has the last word on the settings of what is trained.
///
/// # Errors
/// When the data cannot be read or a run fails. Rows that are done stay in the folder.
pub fn run(
    source: &ClassSource,
    change: impl Fn(EncoderRunConfig) -> EncoderRunConfig,
    context: &TableContext,
) -> Result<Vec<Row>> {
    let simclr = change(EncoderRunConfig::simclr(source.clone()));
    let autoencoder = change(EncoderRunConfig::autoencoder(source.clone()));
    let resnet18 = change(EncoderRunConfig::resnet18(source.clone()));
    let side = simclr.image_size;
    let set = simclr.load_set(context.dataset, &|line| (context.report)(line))?;
    check_data(context.folder, &simclr, &set)?;
    let mut rows = Vec::new();
    for (name, config) in [
        ("SimCLR", simclr),
        ("autoencoder", autoencoder),
        ("supervised ResNet-18", resnet18),
    ] {
        rows.extend(row_of(name, &config, &set, context)?);
    }
    let pca = ("PCA".to_string(), EncoderChoice::Pca, "128 components");
    let pretrained = context.pretrained.map(|(name, path)| {
        let name = format!("the encoder of {name}");
        (name, EncoderChoice::Folder(path.into()), "as it is")
    });
    for (name, choice, budget) in std::iter::once(pca).chain(pretrained) {
        let row = made(context, &name, || {
            let started = Instant::now();
            probed(
                &name,
                budget.to_string(),
                &choice,
                side,
                &set,
                started,
                context,
            )
            .map(Some)
        })?;
        rows.extend(row);
    }
    files::write_json(&context.folder.join("table.json"), &rows)?;
    Ok(rows)
}

/// The row of an encoder that is trained first; none when it was interrupted.
pub(super) fn row_of(
    name: &str,
    config: &EncoderRunConfig,
    set: &ClassSet,
    context: &TableContext,
) -> Result<Option<Row>> {
    let kept = context.folder.join(slug(name)).join("config.json");
    if kept.is_file() {
        let kept_config: EncoderRunConfig = files::read_own_json(&kept, || again(&kept))?;
        ensure!(
            kept_config == *config,
            "{} has other settings: give those again, or another --run",
            kept.display()
        );
    }
    made(context, name, || trained_row(name, config, set, context))
}

/// A row of an earlier call, or a new one; none when it was interrupted.
fn made(
    context: &TableContext,
    name: &str,
    make: impl FnOnce() -> Result<Option<Row>>,
) -> Result<Option<Row>> {
    let path = context.folder.join(slug(name)).join("row.json");
    if path.is_file() {
        return files::read_own_json(&path, || again(&path)).map(Some);
    }
    if context.interrupter.should_stop() {
        return Ok(None);
    }
    (context.report)(&format!("--- {name}"));
    let row = make().with_context(|| name.to_string())?;
    if let Some(row) = &row {
        files::create_dir(path.parent().context("a row's folder")?)?;
        files::write_json(&path, row)?;
    }
    Ok(row)
}

/// What to do about a file of a row that cannot be read.
fn again(file: &Path) -> String {
    let folder = file.parent().unwrap_or(file);
    format!("delete {}, and the row is made again", folder.display())
}

/// The name of a row's folder.
fn slug(name: &str) -> String {
    name.to_lowercase()
        .replace(|c: char| !c.is_alphanumeric() && c != '.', "-")
}

fn trained_row(
    name: &str,
    config: &EncoderRunConfig,
    set: &ClassSet,
    context: &TableContext,
) -> Result<Option<Row>> {
    let folder = context.folder.join(slug(name));
    files::create_dir(&folder)?;
    let model = folder.join("model");
    let run = EncoderRun {
        context: PretrainContext {
            folder: &folder,
            output: &model,
            device: context.device,
            ui: context.ui,
            report: context.report.clone(),
            interrupter: context.interrupter.clone(),
            resume: true,
            overwrite: false,
        },
        dataset: context.dataset,
    };
    let started = Instant::now();
    if pretrain_encoder(config, &run)?.interrupted {
        return Ok(None);
    }
    let width = match &config.method {
        Method::Simclr { network, .. } | Method::Resnet18 { network, .. } => network.width,
        Method::Autoencoder { width, .. } => *width,
        Method::Pca { .. } => 0,
    };
    let budget = format!(
        "width {width}, {} epochs, batch {}, {} px, seed {}",
        config.epochs, config.batch_size, config.image_size, config.seed
    );
    let choice = EncoderChoice::Folder(model);
    probed(
        name,
        budget,
        &choice,
        config.image_size,
        set,
        started,
        context,
    )
    .map(Some)
}

/// Probes one encoder; `started` is when its training, or making, began.
fn probed(
    name: &str,
    budget: String,
    choice: &EncoderChoice,
    side: u32,
    set: &ClassSet,
    started: Instant,
    context: &TableContext,
) -> Result<Row> {
    let encoder = choice.load(side, set, context.device)?;
    let seconds = started.elapsed().as_secs_f64();
    let embedded = embed(&encoder, set, &context.report)?;
    let config = ProbeConfig::default();
    let measure = |protocol| -> Result<Measured> {
        let outcome = evaluate(&embedded, protocol, &config)?;
        let accuracy = outcome.accuracy;
        let (low, high) = outcome.interval.map_or((accuracy, accuracy), |interval| {
            (interval.low, interval.high)
        });
        Ok(Measured {
            accuracy,
            low,
            high,
        })
    };
    Ok(Row {
        encoder: name.to_string(),
        budget,
        seconds,
        linear: measure(Protocol::Linear)?,
        knn: measure(Protocol::Knn)?,
    })
}

/// The rows as a Markdown table, measured beside published.
pub fn markdown(rows: &[Row], source: &ClassSource) -> String {
    let mut text = format!(
        "| encoder | budget | seconds | linear, {source} | kNN, {source} | paper, CIFAR-10 / STL-10 | others |\n\
         | --- | --- | ---: | ---: | ---: | ---: | --- |\n"
    );
    for row in rows {
        let published = PUBLISHED.iter().find(|known| known.encoder == row.encoder);
        let paper = published.map(|known| known.paper);
        text.push_str(&format!(
            "| {} | {} | {:.0} | {} | {} | {} | {} |\n",
            row.encoder,
            row.budget,
            row.seconds,
            row.linear,
            row.knn,
            paper.map_or_else(String::new, |(cifar, stl)| format!("{cifar} / {stl}")),
            published.map_or("", |known| known.others),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::classes::SceneClass;

    #[test]
    fn measured_stands_beside_published() {
        let measured = Measured {
            accuracy: 0.5,
            low: 0.4,
            high: 0.6,
        };
        let row = Row {
            encoder: "PCA".into(),
            budget: "128 components".into(),
            seconds: 1.2,
            linear: measured,
            knn: measured,
        };
        let text = markdown(&[row], &ClassSource::Scenes(SceneClass::Kind));
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("| PCA | 128 components | 1 | 50.0 (40.0 to 60.0) |"),
            "{last}"
        );
        assert!(
            last.contains("45.6 / 38.2") && last.contains("sthalles"),
            "{last}"
        );
    }
}
