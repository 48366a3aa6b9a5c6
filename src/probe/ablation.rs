//! SimCLR trained again and again with one setting changed: temperature, augmentations, batch size, or loss.

#[cfg(feature = "report")]
mod chart;

use std::fmt;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::table::{Measured, TableContext, row_of};
use crate::files;
use crate::pretrain::augment::Augmentation;
use crate::pretrain::encoder::{EncoderRunConfig, Method, check_data};
use crate::pretrain::view_loss::ViewLoss;

/// Batch sizes beside each other.
const BATCHES: [usize; 4] = [32, 64, 128, 256];
/// SimCLR's temperatures (table 5), and one between.
const TEMPERATURES: [f64; 5] = [0.05, 0.1, 0.2, 0.5, 1.0];

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    Temperature,
    /// Each step of the augmentation left out, and each alone.
    Augmentations,
    BatchSize,
    /// NT-Xent, NT-Logistic, triplet.
    Losses,
}

/// One setting's accuracies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub setting: String,
    /// The setting as a number, where it is one.
    pub value: Option<f64>,
    pub seconds: f64,
    pub linear: Measured,
    pub knn: Measured,
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temperature => "temperature",
            Self::Augmentations => "augmentations",
            Self::BatchSize => "batch size",
            Self::Losses => "loss",
        })
    }
}

/// A setting, its value where it is a number, and the run with it.
type Variant = (String, Option<f64>, EncoderRunConfig);

impl Ablation {
    /// The runs to be compared. `values` replaces the temperatures or batch sizes.
    ///
    /// # Errors
    /// When values are given for what has none, or make no sense.
    pub fn variants(self, base: &EncoderRunConfig, values: &[f64]) -> Result<Vec<Variant>> {
        let numbers = matches!(self, Self::Temperature | Self::BatchSize);
        ensure!(
            values.is_empty() || numbers,
            "--values is for temperatures and batch sizes, and this ablates the {self}"
        );
        match self {
            Self::Temperature => or(values, &TEMPERATURES)
                .map(|temperature| {
                    let loss = ViewLoss::NtXent { temperature };
                    let config = with_loss(base, loss)?;
                    Ok((temperature.to_string(), Some(temperature), config))
                })
                .collect(),
            Self::BatchSize => or(values, &BATCHES.map(|size| size as f64))
                .map(|size| {
                    ensure!(
                        size >= 2.0 && size.fract() == 0.0,
                        "a batch of {size} images makes no sense: give whole numbers of 2 or more"
                    );
                    let config = EncoderRunConfig {
                        batch_size: size as usize,
                        ..base.clone()
                    };
                    Ok((size.to_string(), Some(size), config))
                })
                .collect(),
            Self::Losses => losses(base)
                .into_iter()
                .map(|(name, loss)| Ok((name.to_string(), None, with_loss(base, loss)?)))
                .collect(),
            Self::Augmentations => {
                let Method::Simclr { augmentation, .. } = &base.method else {
                    bail!("augmentations are SimCLR's");
                };
                augmentations(augmentation)
                    .into_iter()
                    .map(|(name, augmentation)| Ok((name, None, with_views(base, augmentation)?)))
                    .collect()
            }
        }
    }
}

fn or<'a>(values: &'a [f64], usual: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let chosen = if values.is_empty() { usual } else { values };
    chosen.iter().copied()
}

/// Each loss, those with a temperature at the run's own.
fn losses(base: &EncoderRunConfig) -> [(&'static str, ViewLoss); 3] {
    let temperature = match &base.method {
        Method::Simclr { loss, .. } => loss.temperature(),
        _ => None,
    };
    let temperature = temperature.unwrap_or(0.5);
    [
        ("NT-Xent", ViewLoss::NtXent { temperature }),
        ("NT-Logistic", ViewLoss::NtLogistic { temperature }),
        ("triplet", ViewLoss::Triplet { margin: 0.8 }),
    ]
}

fn with_loss(base: &EncoderRunConfig, new: ViewLoss) -> Result<EncoderRunConfig> {
    new.validate()?;
    let mut config = base.clone();
    match &mut config.method {
        Method::Simclr { loss, .. } => *loss = new,
        _ => bail!("losses between views are SimCLR's"),
    }
    Ok(config)
}

fn with_views(base: &EncoderRunConfig, new: Augmentation) -> Result<EncoderRunConfig> {
    let mut config = base.clone();
    match &mut config.method {
        Method::Simclr { augmentation, .. } => *augmentation = new,
        _ => bail!("augmentations are SimCLR's"),
    }
    Ok(config)
}

/// All steps, each left out where it is there, and each alone.
fn augmentations(all: &Augmentation) -> Vec<(String, Augmentation)> {
    type Part = (&'static str, fn(&mut Augmentation, &Augmentation));
    const PARTS: [Part; 4] = [
        ("crop", |to, from| to.crop = from.crop),
        ("flip", |to, from| to.flip = from.flip),
        ("color", |to, from| {
            to.jitter = from.jitter;
            to.jitter_rate = from.jitter_rate;
            to.grayscale = from.grayscale;
        }),
        ("blur", |to, from| to.blur = from.blur),
    ];
    let none = Augmentation::none();
    let mut found = vec![("all".to_string(), all.clone())];
    for (name, put) in PARTS {
        let (mut without, mut alone) = (all.clone(), none.clone());
        put(&mut without, &none);
        put(&mut alone, all);
        if without != *all {
            found.push((format!("without {name}"), without));
            found.push((format!("{name} alone"), alone));
        }
    }
    found
}

/// Trains and probes every variant; writes `ablation.json`, and `ablation.svg` where the setting is a number.
///
/// # Errors
/// When the data cannot be read or a run fails. Points that are done stay in the folder.
pub fn run(
    ablation: Ablation,
    base: &EncoderRunConfig,
    values: &[f64],
    context: &TableContext,
) -> Result<Vec<Point>> {
    let variants = ablation.variants(base, values)?;
    let set = base.load_set(context.dataset, &|line| (context.report)(line))?;
    check_data(context.folder, base, &set)?;
    let mut points = Vec::new();
    for (setting, value, config) in variants {
        let name = format!("{ablation} {setting}");
        let Some(row) = row_of(&name, &config, &set, context)? else {
            break;
        };
        points.push(Point {
            setting,
            value,
            seconds: row.seconds,
            linear: row.linear,
            knn: row.knn,
        });
    }
    files::write_json(&context.folder.join("ablation.json"), &points)?;
    if points.iter().all(|point| point.value.is_some()) && points.len() > 1 {
        #[cfg(feature = "report")]
        chart::draw(ablation, &points, &context.folder.join("ablation.svg"))?;
    }
    Ok(points)
}

/// The points as a Markdown table.
pub fn markdown(ablation: Ablation, points: &[Point]) -> String {
    let mut text =
        format!("| {ablation} | linear | kNN | seconds |\n| --- | ---: | ---: | ---: |\n");
    for point in points {
        text.push_str(&format!(
            "| {} | {} | {} | {:.0} |\n",
            point.setting, point.linear, point.knn, point.seconds
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_in_one_setting_alone() {
        let base = EncoderRunConfig::default();
        let temperatures = Ablation::Temperature.variants(&base, &[0.1, 0.7]).unwrap();
        assert_eq!(temperatures.len(), 2);
        assert_ne!(temperatures[1].2, base);
        let Method::Simclr { loss, .. } = base.method else {
            panic!("{base:?}");
        };
        assert_eq!(with_loss(&temperatures[1].2, loss).unwrap(), base);
        for (_, _, config) in Ablation::Augmentations.variants(&base, &[]).unwrap() {
            config.validate().unwrap();
            assert_eq!(config.epochs, base.epochs);
        }
        assert_eq!(Ablation::Losses.variants(&base, &[]).unwrap().len(), 3);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let base = EncoderRunConfig::default();
        let error = |ablation: Ablation, values: &[f64]| {
            ablation.variants(&base, values).unwrap_err().to_string()
        };
        assert!(error(Ablation::Temperature, &[0.0]).contains("temperature of 0"));
        assert!(error(Ablation::BatchSize, &[1.0]).contains("batch of 1"));
        assert!(error(Ablation::Losses, &[1.0]).contains("--values"));
    }
}
