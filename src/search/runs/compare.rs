//! Two trainings beside each other: their settings, and how sure the difference of their scores is.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use caption_metrics::bootstrap::Bootstrap;
use serde::Serialize;

use super::Run;
use crate::data::coco::CaptionResult;
use crate::data::source;
use crate::evaluate::compare::{Comparison, compare};
use crate::evaluate::read::{Candidates, References, join};
use crate::evaluate::score::{Evaluation, ScoreOptions, score};
use crate::evaluate::table::{self, Style, render};
use crate::files;
use crate::train::config::TrainConfig;
use crate::train::dataset::locate;
use crate::train::settings::{Changed, differences, show};

/// Captions of the test part, in a run's folder.
const PREDICTIONS: &str = "predictions-test.json";
/// Test images shown whose score changed most.
const MOVED: usize = 5;

/// How two trainings differ.
#[derive(Clone, Debug, Serialize)]
pub struct RunComparison {
    pub a: Run,
    pub b: Run,
    /// Settings that are not the same.
    pub settings: Vec<Changed>,
    /// Numbers of both runs.
    pub numbers: Vec<Number>,
    /// Differences of the test scores by a paired bootstrap, where both were tested on the same images.
    pub test: Option<Comparison>,
    /// Why there are no such differences.
    pub untested: Option<String>,
}

/// A number that one or both runs have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Number {
    pub name: String,
    pub a: Option<f64>,
    pub b: Option<f64>,
}

/// Compares two trainings; `dataset` is the folder that the sample is in, and `by` the score that images are ordered by.
///
/// # Errors
/// When one is no training, or there is no score of that name.
pub fn compare_runs(a: Run, b: Run, dataset: &Path, by: &str) -> Result<RunComparison> {
    let (config_a, config_b) = (config(&a)?.clone(), config(&b)?.clone());
    let found = test(&a, &b, &config_a, dataset);
    let (scored, untested) = match found {
        Ok((scored_a, scored_b)) => (Some((scored_a, scored_b)), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let test = match scored {
        Some((scored_a, scored_b)) => {
            let bootstrap = Bootstrap::default();
            Some(compare(&scored_a, &scored_b, &bootstrap, by, MOVED)?)
        }
        None => None,
    };
    Ok(RunComparison {
        settings: differences(&config_a, &config_b),
        numbers: numbers(&a, &b, test.is_none()),
        test,
        untested,
        a,
        b,
    })
}

fn config(run: &Run) -> Result<&TrainConfig> {
    if let (None, Some(problem)) = (&run.config, run.problems.first()) {
        bail!("{} is damaged: {problem}", run.folder.display());
    }
    (run.config.as_ref()).with_context(|| {
        format!(
            "{} is a run of `{}`: only those of `train` can be compared",
            run.folder.display(),
            run.kind
        )
    })
}

/// Both runs' test captions, scored.
fn test(
    a: &Run,
    b: &Run,
    config: &TrainConfig,
    dataset: &Path,
) -> Result<(Evaluation, Evaluation)> {
    let images = |run: &Run| -> Result<BTreeSet<String>> {
        let path = run.folder.join(PREDICTIONS);
        if !path.is_file() {
            bail!("{} is not there: the run was not tested", path.display());
        }
        let said: Vec<CaptionResult> = files::read_json(&path)?;
        Ok(said.iter().map(|said| said.image_id.to_string()).collect())
    };
    if images(a)? != images(b)? {
        bail!("{} and {} were tested on other images", a.name, b.name);
    }
    let (data, folders) = locate(&config.data, dataset)?;
    let found = source::load(&data, &folders)?;
    let described = (found.images.into_iter())
        .map(|image| (image.id, Some(image.file_name), image.captions))
        .collect();
    let references = References::new(&data, described);
    let options = ScoreOptions {
        // The differences get their own resamples.
        bootstrap: Bootstrap {
            resamples: 0,
            ..Bootstrap::default()
        },
        ..ScoreOptions::default()
    };
    let scored = |run: &Run| -> Result<Evaluation> {
        let candidates = Candidates::load(&run.folder.join(PREDICTIONS))?;
        let joined = join(&candidates, &references, true)?;
        if joined.left_out.count > 0 {
            return Err(anyhow!(
                "{} has other images than {} was tested on",
                data.display(),
                run.name
            ));
        }
        score(joined.images, &options, Vec::new())
    };
    Ok((scored(a)?, scored(b)?))
}

/// Numbers off the runs' folders, those of the test part too where it cannot be compared image by image.
fn numbers(a: &Run, b: &Run, with_test: bool) -> Vec<Number> {
    let number = |name: &str, of: &dyn Fn(&Run) -> Option<f64>| Number {
        name: name.to_string(),
        a: of(a),
        b: of(b),
    };
    let mut numbers = vec![
        number("best epoch", &|run| {
            run.best_epoch.map(|epoch| epoch as f64)
        }),
        number("validation loss", &|run| run.validation_loss),
        number("validation CIDEr", &|run| run.validation_cider),
        number("seconds", &|run| run.seconds),
    ];
    if with_test {
        let names: BTreeSet<&String> = a.test.keys().chain(b.test.keys()).collect();
        let scores = names.into_iter().map(|name| {
            let test = |run: &Run| run.test_score(name);
            number(&format!("test {name}"), &test)
        });
        numbers.extend(scores);
    }
    numbers.retain(|number| number.a.is_some() || number.b.is_some());
    numbers
}

impl RunComparison {
    /// Tables of settings, numbers and test scores.
    pub fn table(&self, style: Style) -> String {
        let mut text = format!("A: {}  B: {}\n\n", self.a.name, self.b.name);
        let mut rows = vec![["setting", "A", "B"].map(String::from).to_vec()];
        rows.extend(self.settings.iter().map(|changed| {
            let [a, b] = [&changed.a, &changed.b].map(|value| show(value.as_ref()));
            vec![changed.name.clone(), a, b]
        }));
        match self.settings.is_empty() {
            true => text.push_str("All settings are the same.\n"),
            false => text.push_str(&render(&rows, style)),
        }
        let shown = |value: f64| match value.abs() {
            _ if value.fract() == 0.0 => format!("{value:.0}"),
            size if size >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.4}"),
        };
        let mut rows = vec![["number", "A", "B", "B - A"].map(String::from).to_vec()];
        rows.extend(self.numbers.iter().map(|number| {
            let show = |value: Option<f64>| value.map_or("-".to_string(), shown);
            let difference = match (number.a, number.b) {
                (Some(a), Some(b)) if b >= a => format!("+{}", shown(b - a)),
                (Some(a), Some(b)) => shown(b - a),
                _ => String::new(),
            };
            vec![
                number.name.clone(),
                show(number.a),
                show(number.b),
                difference,
            ]
        }));
        text.push('\n');
        text.push_str(&render(&rows, style));
        text.push('\n');
        match (&self.test, &self.untested) {
            (Some(test), _) => {
                text.push_str(&format!("Test scores of {} images:\n\n", test.images));
                text.push_str(&table::comparison(test, style));
            }
            (None, Some(why)) => {
                text.push_str(&format!("No test of the difference: {why}.\n"));
            }
            (None, None) => {}
        }
        text
    }
}
