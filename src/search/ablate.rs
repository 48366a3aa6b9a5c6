//! Named settings, trained one by one and compared in a table.
//!
//! ```text
//! artifacts/<run>/
//!   ablation.json             everything that was set
//!   01-as-it-is/ ...          a run each; result.json is written when it is done
//!   01-as-it-is/seed-1/ ...   or, with several seeds, a run each
//!   table.md                  what they came to
//! ```
//!
//! A finished training is never run again, and one that was cut off goes on from its last checkpoint.

mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::space::{Setting, full_name};
use super::tune::again;
use crate::datasets::scenes::SceneScores;
use crate::files;
use crate::train::caption::{TrainContext, train};
use crate::train::config::TrainConfig;
use crate::train::dataset::check_unchanged;
use crate::trainer::dashboard::Ui;
use crate::trainer::run;

pub use table::table;
use table::told;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// What all have in common.
    pub base: TrainConfig,
    pub variants: Vec<Variant>,
    /// Times that each is trained, with the base's seed and those that follow it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub seeds: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_one(seeds: &usize) -> bool {
    *seeds == 1
}

/// A setting with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    /// What differs from the base: fields of its configuration, as in `"noise.mode": "none"`.
    pub set: Map<String, Value>,
}

/// What one training of a variant came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    /// The lowest of its epochs, with what the variant itself learns from.
    pub validation_loss: f64,
    /// CIDEr-D of the test part's captions.
    pub cider: Option<f64>,
    /// BLEU-4 of the same.
    #[serde(default)]
    pub bleu_4: Option<f64>,
    /// How the test part's captions hold against the scenes, where they are of generated ones.
    pub scenes: Option<SceneScores>,
    pub seconds: f64,
}

/// What a variant came to with each seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    pub name: String,
    pub outcomes: Vec<Outcome>,
}

impl Variant {
    fn config(&self, base: &TrainConfig) -> Result<TrainConfig> {
        let fields = self.set.clone().into_iter();
        let setting = Setting(
            fields
                .map(|(name, value)| (full_name(&name), value))
                .collect(),
        );
        (setting.apply(base)).with_context(|| format!("`{}`", self.name))
    }

    /// `No noise!` of number 2 is `02-no-noise`.
    fn folder(&self, number: usize) -> String {
        let parts = self.name.split(|c: char| !c.is_alphanumeric());
        let words: Vec<String> = parts
            .filter(|part| !part.is_empty())
            .map(str::to_lowercase)
            .collect();
        format!("{number:02}-{}", words.join("-"))
    }
}

/// One training to be done.
struct Training {
    /// The variant's name and, of several, the seed.
    name: String,
    config: TrainConfig,
    folder: PathBuf,
}

/// The trainings of a variant, one a seed. Images stay in their parts: what differs between them is chance in training.
fn trainings(
    ablation: &Ablation,
    number: usize,
    variant: &Variant,
    run: &Path,
) -> Result<Vec<Training>> {
    let config = variant.config(&ablation.base)?;
    let folder = run.join(variant.folder(number));
    let seeded = |place: usize| {
        let seed = config.seed + place as u64;
        let split_seed = match place {
            0 => config.split_seed,
            _ => Some(config.split_seed()),
        };
        Training {
            name: format!("{}, seed {seed}", variant.name),
            folder: folder.join(format!("seed-{seed}")),
            config: TrainConfig {
                seed,
                split_seed,
                ..config.clone()
            },
        }
    };
    Ok(match ablation.seeds {
        1 => vec![Training {
            name: variant.name.clone(),
            config,
            folder,
        }],
        seeds => (0..seeds).map(seeded).collect(),
    })
}

/// Trains every variant with every seed.
///
/// # Errors
/// When a variant makes no configuration, the folder belongs to another comparison, or a training fails. What is finished
/// stays.
pub fn ablate(ablation: &Ablation, context: &TrainContext) -> Result<Vec<Compared>> {
    let variants = ablation.variants.iter().enumerate();
    let trainings: Vec<Vec<Training>> = variants
        .map(|(place, variant)| trainings(ablation, place + 1, variant, context.folder))
        .collect::<Result<_>>()?;
    run::begin(&context.folder.join("ablation.json"), ablation)?;
    check_unchanged(&ablation.base, context)?;
    let total = trainings.iter().map(Vec::len).sum::<usize>();
    let mut done = 0;
    let mut compared = Vec::new();
    for (variant, trainings) in ablation.variants.iter().zip(&trainings) {
        let mut outcomes = Vec::new();
        for training in trainings {
            let outcome = outcome(training, context)?;
            done += 1;
            (context.report)(&format!(
                "{done}/{total}  {}: {}",
                training.name,
                told(&outcome)
            ));
            outcomes.push(outcome);
        }
        compared.push(Compared {
            name: variant.name.clone(),
            outcomes,
        });
    }
    let text = table(&compared);
    files::write_atomic(&context.folder.join("table.md"), |writer| {
        writer.write_all(text.as_bytes())
    })?;
    Ok(compared)
}

/// One training, or what it left when it was run before.
fn outcome(training: &Training, context: &TrainContext) -> Result<Outcome> {
    let Training {
        name,
        config,
        folder,
    } = training;
    let path = folder.join("result.json");
    if path.is_file() {
        return files::read_own_json(&path, || again(folder));
    }
    files::create_dir(folder)?;
    let started = Instant::now();
    let trained = train(
        config,
        &TrainContext {
            folder,
            ui: Ui::Quiet,
            report: std::sync::Arc::new(|_| {}),
            interrupter: context.interrupter.clone(),
            tensorboard: false,
            resume: folder.join("config.json").is_file(),
            ..*context
        },
    )
    .with_context(|| format!("`{name}`"))?;
    if trained.interrupted {
        bail!("stopped; resume with the same command and --run");
    }
    let (_, validation_loss) =
        (trained.best).with_context(|| format!("`{name}`: no epoch was finished"))?;
    let score = |name| {
        trained
            .scores
            .as_ref()
            .and_then(|scores| scores.metric(name))
    };
    let outcome = Outcome {
        name: name.clone(),
        validation_loss,
        cider: score("CIDEr"),
        bleu_4: score("Bleu_4"),
        scenes: (trained.scores.as_ref()).and_then(|scores| scores.scenes),
        seconds: started.elapsed().as_secs_f64(),
    };
    files::write_json(&path, &outcome)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variant_is_the_base_with_its_own_values() {
        let base = TrainConfig::sample("m".into());
        let config = |set: Value| {
            let variant = json!({"name": "A  linear one!", "set": set});
            let variant: Variant = serde_json::from_value(variant).unwrap();
            assert_eq!(variant.folder(3), "03-a-linear-one");
            variant.config(&base).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(config(json!({})).unwrap(), base);
        let found = config(json!({"mapper": {"name": "linear"}, "layers": 3}));
        assert!(found.unwrap_err().contains("`mapper.layers`"));
        let found = config(json!({"learning_rate": 0.5, "mapper": {"name": "linear"}})).unwrap();
        assert_eq!(found.mapper, crate::models::mapper::MapperKind::Linear);
        assert_eq!(found.schedule.learning_rate, 0.5);
        let error = config(json!({"depth": 3})).unwrap_err();
        assert!(
            error.contains("`A  linear one!`") && error.contains("`depth`"),
            "{error}"
        );
    }

    #[test]
    fn the_committed_comparison_makes_configurations() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ablation.json");
        let variants: Vec<Variant> = files::read_json(&path).unwrap();
        for variant in variants {
            variant.config(&TrainConfig::sample("m".into())).unwrap();
        }
    }

    #[test]
    fn seeds_follow_each_other_and_leave_the_images_in_their_parts() {
        let variant = |set: Value| -> Variant {
            serde_json::from_value(json!({"name": "x", "set": set})).unwrap()
        };
        let mut ablation = Ablation {
            base: TrainConfig::sample("m".into()),
            variants: vec![variant(json!({})), variant(json!({"seed": 7}))],
            seeds: 3,
        };
        let run = Path::new("run");
        let all = |ablation: &Ablation, number: usize| {
            trainings(ablation, number, &ablation.variants[number - 1], run).unwrap()
        };
        let seeds = |trainings: &[Training]| -> Vec<(u64, u64)> {
            let both = |training: &Training| (training.config.seed, training.config.split_seed());
            trainings.iter().map(both).collect()
        };
        let first = all(&ablation, 1);
        assert_eq!(seeds(&first), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(first[1].folder, run.join("01-x/seed-2"));
        assert_eq!(seeds(&all(&ablation, 2)), [(7, 7), (8, 7), (9, 7)]);
        ablation.seeds = 1;
        let text = serde_json::to_value(&ablation).unwrap();
        assert!(
            text.get("seeds").is_none(),
            "as it was before there were seeds"
        );
        assert_eq!(serde_json::from_value::<Ablation>(text).unwrap(), ablation);
        assert_eq!(all(&ablation, 1)[0].folder, run.join("01-x"));
    }
}
