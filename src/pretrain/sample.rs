//! The sample model from nothing: CLIP, GPT-2 and the mapper between them, one after the other.
//!
//! ```text
//! artifacts/<run>/
//!   sample.json               everything that was set
//!   clip/ gpt2/ mapper/       a run each; done.json is written when it is done
//!   model/                    the model folder that they fill
//! ```
//!
//! A finished part is never trained again, and one that was cut off goes on from its last checkpoint.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::train::Interrupter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output::{Existing, check_model};
use super::run::{PretrainConfig, PretrainContext, Pretrained, pretrain_clip, pretrain_gpt2};
use crate::captioner::model_folder::{ModelFolder, Part, read_source, update_source};
use crate::device::Devices;
use crate::files;
use crate::train::caption::{TrainContext, train};
use crate::train::config::TrainConfig;
use crate::trainer::dashboard::{LogFn, Ui};
use crate::trainer::run;

/// The settings of all three parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    pub clip: PretrainConfig,
    pub gpt2: PretrainConfig,
    /// Its model is the one that the run makes, whatever stands here.
    pub mapper: TrainConfig,
}

/// Where the run happens and how it is seen.
pub struct SampleContext<'a> {
    /// The run's folder; it must exist.
    pub folder: &'a Path,
    /// The model folder that is written, or replaced, at the end.
    pub output: &'a Path,
    /// The folder for the sample and cached embeddings.
    pub dataset: &'a Path,
    pub devices: &'a Devices,
    pub ui: Ui,
    pub report: LogFn,
    pub interrupter: Interrupter,
    /// Whether a model that is in the output already may be replaced.
    pub overwrite: bool,
}

/// What a part took and came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartDone {
    /// All attempts together.
    pub seconds: f64,
    pub parameters: usize,
    /// The mapper's, on the test part: as a run writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Value>,
}

/// The parts of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleDone {
    pub clip: PartDone,
    pub gpt2: PartDone,
    pub mapper: PartDone,
}

/// Seconds that the attempts at a part took.
#[derive(Default, Serialize, Deserialize)]
struct Spent {
    seconds: f64,
}

/// The end of an attempt: what the part came to, unless it was stopped before.
type Attempt = Option<(usize, Option<Value>)>;

impl Default for SampleConfig {
    /// The sample model from nothing.
    fn default() -> Self {
        Self {
            clip: PretrainConfig::clip(),
            gpt2: PretrainConfig::gpt2(),
            mapper: TrainConfig::sample(PathBuf::from("model")),
        }
    }
}

/// Trains all parts and writes the model folder; `None` when it was stopped before its end.
///
/// # Errors
/// When the folder belongs to a run with other settings, or a part fails. What is finished stays.
pub fn pretrain_sample(
    config: &SampleConfig,
    context: &SampleContext,
) -> Result<Option<SampleDone>> {
    run::begin(&context.folder.join("sample.json"), config)?;
    let goes_on = context.folder.join("clip/config.json").is_file();
    let may = Existing::new(context.overwrite, goes_on);
    check_model(context.output, &config.clip, may)?;
    let model = context.folder.join("model");
    let pretrained = |done: Pretrained| (!done.interrupted).then_some((done.parameters, None));
    let clip = part("clip", context, |place| {
        pretrain_clip(&config.clip, place).map(pretrained)
    })?;
    let Some(clip) = clip else { return Ok(None) };
    let gpt2 = part("gpt2", context, |place| {
        pretrain_gpt2(&config.gpt2, place).map(pretrained)
    })?;
    let Some(gpt2) = gpt2 else { return Ok(None) };
    let settings = TrainConfig {
        model,
        ..config.mapper.clone()
    };
    let mapper = part("mapper", context, |place| {
        train_mapper(&settings, context, place)
    })?;
    let Some(mapper) = mapper else {
        return Ok(None);
    };
    let done = SampleDone { clip, gpt2, mapper };
    done.write(&context.folder.join("mapper/best"), context.output)?;
    Ok(Some(done))
}

/// Trains a part in its folder, unless an earlier attempt did.
fn part(
    name: &str,
    context: &SampleContext,
    work: impl FnOnce(&PretrainContext) -> Result<Attempt>,
) -> Result<Option<PartDone>> {
    let folder = context.folder.join(name);
    let (finished, attempts) = (folder.join("done.json"), folder.join("spent.json"));
    if finished.is_file() {
        let fix = || format!("delete {}, and the part is trained again", folder.display());
        return files::read_own_json(&finished, fix).map(Some);
    }
    (context.report)(&format!("{name}: {}", folder.display()));
    files::create_dir(&folder)?;
    let before: Spent = match attempts.is_file() {
        true => files::read_own_json(&attempts, || "delete it, for it only counts seconds".into())?,
        false => Spent::default(),
    };
    let started = Instant::now();
    let attempt = work(&PretrainContext {
        folder: &folder,
        output: &context.folder.join("model"),
        device: context.devices.main(),
        ui: context.ui,
        report: context.report.clone(),
        interrupter: context.interrupter.clone(),
        resume: folder.join("config.json").is_file(),
        overwrite: false,
    })
    .with_context(|| name.to_string())?;
    let seconds = before.seconds + started.elapsed().as_secs_f64();
    let Some((parameters, scores)) = attempt else {
        files::write_json(&attempts, &Spent { seconds })?;
        return Ok(None);
    };
    let done = PartDone {
        seconds,
        parameters,
        scores,
    };
    files::write_json(&finished, &done)?;
    // As later attempts will read it: the last digits of numbers may differ from what was written.
    files::read_json(&finished).map(Some)
}

fn train_mapper(
    settings: &TrainConfig,
    context: &SampleContext,
    place: &PretrainContext,
) -> Result<Attempt> {
    let trained = train(
        settings,
        &TrainContext {
            folder: place.folder,
            dataset: context.dataset,
            devices: context.devices,
            ui: place.ui,
            report: place.report.clone(),
            interrupter: place.interrupter.clone(),
            resume: place.resume,
            tensorboard: false,
        },
    )?;
    if let Some(epoch) = trained.diverged {
        bail!("the loss became NaN in epoch {epoch}: lower the learning rate");
    }
    if trained.interrupted {
        return Ok(None);
    }
    let mapper = ModelFolder::open(&trained.model)?.load_mapper(place.device)?;
    let scores = trained.scores.map(serde_json::to_value).transpose()?;
    Ok(Some((mapper.num_params(), scores)))
}

impl SampleDone {
    /// Time of all parts.
    pub fn seconds(&self) -> f64 {
        self.clip.seconds + self.gpt2.seconds + self.mapper.seconds
    }

    /// Copies the model of the mapper's run, with what each part took and came to in its `source.json`.
    fn write(&self, model: &Path, output: &Path) -> Result<()> {
        let folder = ModelFolder::open(model)?;
        let sources = read_source(model)?;
        files::replace_folder(output, |output| {
            for part in [Part::Clip, Part::Gpt2, Part::Mapper] {
                folder.copy_part(part, output)?;
            }
            files::write_json(&output.join("config.json"), &folder.config)?;
            for (name, done) in self.parts() {
                let mut entry = sources.get(name).cloned().unwrap_or_else(|| json!({}));
                if let (Some(entry), Value::Object(done)) =
                    (entry.as_object_mut(), serde_json::to_value(done)?)
                {
                    entry.extend(done);
                }
                update_source(output, name, entry)?;
            }
            Ok(())
        })
    }

    fn parts(&self) -> [(&'static str, &PartDone); 3] {
        [
            ("clip", &self.clip),
            ("gpt2", &self.gpt2),
            ("mapper", &self.mapper),
        ]
    }
}
