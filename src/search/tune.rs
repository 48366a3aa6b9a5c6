//! Choosing settings by k-fold cross-validation.
//!
//! ```text
//! artifacts/<run>/
//!   tune.json                 everything that was set
//!   trials/<setting>/<fold>/  one training each; result.json is written when it is done
//!   results.json, table.md    mean and spread of every setting
//!   chosen.json               the best setting, ready for `train --config`
//! ```
//!
//! The folds are dealt by image, from the images that the split does not keep for testing. A finished training is never
//! run again, so a run that was cut off goes on where it was; and each training is locked while it runs, so that several
//! processes can share one run's folder.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::space::{self, Dimension, Setting};
use super::spread::Spread;
use crate::data::split::Splits;
use crate::files;
use crate::train::caption::{Prepared, TrainContext, fit_parts};
use crate::train::config::TrainConfig;
use crate::train::dataset::check_unchanged;
use crate::trainer::dashboard::Ui;
use crate::trainer::fit::checkpoint_folder;
use crate::trainer::run;

/// A whole search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneConfig {
    /// What is not tuned.
    pub base: TrainConfig,
    pub space: Vec<Dimension>,
    /// Random settings to draw; `None` goes through the whole grid.
    pub random: Option<usize>,
    pub folds: usize,
}

/// How a setting did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub setting: Setting,
    /// Lowest validation loss in each fold.
    pub losses: Vec<f64>,
    pub mean: f64,
    /// Standard deviation over the folds.
    pub spread: f64,
}

/// The end of a search.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// Best first.
    pub scores: Vec<Score>,
    /// The file with the chosen configuration; `None` while other processes still work on some of the trainings.
    pub chosen: Option<PathBuf>,
    /// Trainings that other processes hold.
    pub elsewhere: usize,
}

/// What a finished training leaves.
#[derive(Serialize, Deserialize)]
struct TrialResult {
    loss: f64,
    epoch: usize,
}

impl TuneConfig {
    /// The settings to try.
    ///
    /// # Errors
    /// When a dimension is a range and nothing is drawn, or there is nothing to compare.
    pub fn settings(&self) -> Result<Vec<Setting>> {
        if self.folds < 2 {
            bail!("{} folds are too few: give at least 2", self.folds);
        }
        if self.space.is_empty() {
            bail!("there is nothing to tune: name a field, as in learning_rate=1e-4,5e-5");
        }
        let settings = match self.random {
            None => space::grid(&self.space)?,
            Some(0) => bail!("0 random settings are to be tried: give at least 1"),
            Some(count) => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.base.seed);
                space::random(&self.space, count, &mut rng)
            }
        };
        for setting in &settings {
            setting.apply(&self.base)?;
        }
        Ok(settings)
    }
}

/// Trains every setting on every fold, and chooses.
///
/// # Errors
/// When the folder belongs to another search, or a training fails. What is finished stays.
pub fn tune(config: &TuneConfig, context: &TrainContext) -> Result<Tuned> {
    let settings = config.settings()?;
    run::begin(&context.folder.join("tune.json"), config)?;
    check_unchanged(&config.base, context)?;
    let mut losses = vec![vec![None; config.folds]; settings.len()];
    let missing = |losses: &[Vec<Option<f64>>]| {
        losses
            .iter()
            .flatten()
            .filter(|loss| loss.is_none())
            .count()
    };
    // Again for what others had begun: of several processes the last to finish finds everything done.
    let mut left = usize::MAX;
    while (1..left).contains(&missing(&losses)) {
        left = missing(&losses);
        pass(config, context, &settings, &mut losses)?;
    }
    let elsewhere = missing(&losses);
    let whole = |losses: Vec<Option<f64>>| losses.into_iter().collect::<Option<Vec<f64>>>();
    let mut scores: Vec<Score> = (settings.into_iter().zip(losses))
        .filter_map(|(setting, losses)| Some(score(setting, whole(losses)?)))
        .collect();
    scores.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    let chosen = (elsewhere == 0)
        .then(|| finish(config, context.folder, &scores))
        .transpose()?;
    Ok(Tuned {
        scores,
        chosen,
        elsewhere,
    })
}

/// Runs, or reads, every training that has no loss yet and that no other process holds.
fn pass(
    config: &TuneConfig,
    context: &TrainContext,
    settings: &[Setting],
    losses: &mut [Vec<Option<f64>>],
) -> Result<()> {
    let total = settings.len() * config.folds;
    for (number, (setting, losses)) in settings.iter().zip(losses).enumerate() {
        for (fold, loss) in losses.iter_mut().enumerate() {
            if loss.is_some() {
                continue;
            }
            let folder = trial_folder(context.folder, number, fold);
            let Some(result) = trial(config, context, setting, fold, &folder)? else {
                continue;
            };
            *loss = Some(result.loss);
            (context.report)(&format!(
                "{}/{total}  {setting}  fold {}: validation loss {:.4} at epoch {}",
                number * config.folds + fold + 1,
                fold + 1,
                result.loss,
                result.epoch
            ));
        }
    }
    Ok(())
}

fn trial_folder(run: &Path, setting: usize, fold: usize) -> PathBuf {
    run.join("trials")
        .join(format!("{:03}", setting + 1))
        .join(format!("fold-{}", fold + 1))
}

/// One training, or what it left when it was run before; `None` while another process runs it.
fn trial(
    config: &TuneConfig,
    context: &TrainContext,
    setting: &Setting,
    fold: usize,
    folder: &Path,
) -> Result<Option<TrialResult>> {
    let path = folder.join("result.json");
    if path.is_file() {
        return files::read_own_json(&path, || again(folder)).map(Some);
    }
    files::create_dir(folder)?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot write {}", lock_path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
        }
    }
    if path.is_file() {
        return files::read_own_json(&path, || again(folder)).map(Some);
    }
    let config_here = setting.apply(&config.base)?;
    let context_here = TrainContext {
        folder,
        ui: Ui::Quiet,
        report: std::sync::Arc::new(|_| {}),
        interrupter: context.interrupter.clone(),
        tensorboard: false,
        ..*context
    };
    let prepared = Prepared::new(&config_here, &context_here)?;
    let (train, valid) = fold_parts(&prepared.dataset.splits, config.folds, fold);
    if train.is_empty() || valid.is_empty() {
        bail!(
            "{} folds are too many for {} images",
            config.folds,
            train.len() + valid.len()
        );
    }
    let fitted = fit_parts(&config_here, &context_here, &prepared, &train, &valid, None)?;
    if fitted.interrupted {
        bail!("stopped; resume with the same command and --run");
    }
    let (epoch, loss) = fitted.best.context("no epoch was finished")?;
    let result = TrialResult { loss, epoch };
    // Its losses stay, its weights do not: a search can be hundreds of trainings.
    fs::remove_dir_all(checkpoint_folder(folder)).context("clearing checkpoints")?;
    files::write_json(&path, &result)?;
    Ok(Some(result))
}

/// What to do about the result of a training that cannot be read.
pub(super) fn again(folder: &Path) -> String {
    format!("delete {}, and it is trained again", folder.display())
}

/// All images but the test part, those of one fold held out. The split's order is random and by id already.
fn fold_parts(splits: &Splits, folds: usize, fold: usize) -> (Vec<usize>, Vec<usize>) {
    let images: Vec<usize> = splits.train.iter().chain(&splits.val).copied().collect();
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for (place, image) in images.into_iter().enumerate() {
        match place % folds == fold {
            true => valid.push(image),
            false => train.push(image),
        }
    }
    (train, valid)
}

fn score(setting: Setting, losses: Vec<f64>) -> Score {
    let spread = Spread::of(&losses);
    Score {
        setting,
        losses,
        mean: spread.map_or(f64::NAN, |spread| spread.mean),
        spread: spread.and_then(|spread| spread.deviation).unwrap_or(0.0),
    }
}

fn finish(config: &TuneConfig, folder: &Path, scores: &[Score]) -> Result<PathBuf> {
    let best = scores.first().context("no setting was tried")?;
    files::write_json(&folder.join("results.json"), &scores)?;
    let text = table(scores);
    files::write_atomic(&folder.join("table.md"), |writer| {
        writer.write_all(text.as_bytes())
    })?;
    let path = folder.join("chosen.json");
    files::write_json(&path, &best.setting.apply(&config.base)?)?;
    Ok(path)
}

/// The scores as a Markdown table.
pub fn table(scores: &[Score]) -> String {
    let mut text = String::from(
        "| setting | mean validation loss | spread | folds |\n| --- | ---: | ---: | ---: |\n",
    );
    for score in scores {
        text.push_str(&format!(
            "| {} | {:.4} | {:.4} | {} |\n",
            score.setting,
            score.mean,
            score.spread,
            score.losses.len()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_hold_every_image_out_once_and_never_touch_the_test_part() {
        let splits = Splits {
            train: vec![5, 1, 7, 2],
            val: vec![3],
            test: vec![0, 4],
        };
        let mut held_out = Vec::new();
        for fold in 0..3 {
            let (train, valid) = fold_parts(&splits, 3, fold);
            assert!(train.iter().all(|image| !valid.contains(image)));
            assert_eq!(train.len() + valid.len(), 5);
            held_out.extend(valid);
        }
        held_out.sort_unstable();
        assert_eq!(held_out, [1, 2, 3, 5, 7]);
    }

    #[test]
    fn a_score_is_mean_and_standard_deviation() {
        let score = score(Setting(vec![]), vec![1.0, 2.0, 3.0]);
        assert_eq!((score.mean, score.spread), (2.0, 1.0));
    }
}
