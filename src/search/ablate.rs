//! Named settings, trained one by one and compared in a table.
//!
//! ```text
//! artifacts/<run>/
//!   ablation.json             everything that was set
//!   01-as-it-is/ ...          a run each; result.json is written when it is done
//!   table.md                  what they came to
//! ```
//!
//! A finished training is never run again, and one that was cut off goes on from its last checkpoint.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::space::{Setting, full_name};
use crate::datasets::scenes::SceneScores;
use crate::files;
use crate::train::caption::{TrainContext, train};
use crate::train::config::TrainConfig;
use crate::trainer::dashboard::Ui;
use crate::trainer::run;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// What all have in common.
    pub base: TrainConfig,
    pub variants: Vec<Variant>,
}

/// A setting with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    /// What differs from the base: fields of its configuration, as in `"noise.mode": "none"`.
    pub set: Map<String, Value>,
}

/// What a variant came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    /// The lowest of its epochs, with what the variant itself learns from.
    pub validation_loss: f64,
    /// CIDEr-D of the test part's captions.
    pub cider: Option<f64>,
    /// How the test part's captions hold against the scenes, where they are of generated ones.
    pub scenes: Option<SceneScores>,
    pub seconds: f64,
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

impl fmt::Display for Outcome {
    /// A row of [`table`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1}%", 100.0 * share);
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        write!(
            f,
            "| {} | {:.3} | {} | {} | {} | {:.0} |",
            self.name,
            self.validation_loss,
            or_none(self.cider.map(|value| format!("{value:.3}"))),
            or_none((self.scenes).map(|scenes| percent(scenes.true_captions))),
            or_none((self.scenes).map(|scenes| percent(scenes.right_main_objects))),
            self.seconds
        )
    }
}

/// Trains every variant.
///
/// # Errors
/// When a variant makes no configuration, the folder belongs to another comparison, or a training fails. What is finished
/// stays.
pub fn ablate(ablation: &Ablation, context: &TrainContext) -> Result<Vec<Outcome>> {
    let configs: Vec<TrainConfig> = (ablation.variants.iter())
        .map(|variant| variant.config(&ablation.base))
        .collect::<Result<_>>()?;
    run::begin(&context.folder.join("ablation.json"), ablation)?;
    let mut outcomes = Vec::new();
    for (place, (variant, config)) in ablation.variants.iter().zip(&configs).enumerate() {
        let folder = context.folder.join(variant.folder(place + 1));
        let outcome = outcome(&variant.name, config, context, &folder)?;
        (context.report)(&format!("{}/{}  {outcome}", place + 1, configs.len()));
        outcomes.push(outcome);
    }
    let text = table(&outcomes);
    files::write_atomic(&context.folder.join("table.md"), |writer| {
        writer.write_all(text.as_bytes())
    })?;
    Ok(outcomes)
}

/// One training, or what it left when it was run before.
fn outcome(
    name: &str,
    config: &TrainConfig,
    context: &TrainContext,
    folder: &Path,
) -> Result<Outcome> {
    let path = folder.join("result.json");
    if path.is_file() {
        return files::read_json(&path);
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
    let outcome = Outcome {
        name: name.to_string(),
        validation_loss,
        cider: (trained.scores.as_ref()).and_then(|scores| scores.metric("CIDEr")),
        scenes: trained.scores.and_then(|scores| scores.scenes),
        seconds: started.elapsed().as_secs_f64(),
    };
    files::write_json(&path, &outcome)?;
    Ok(outcome)
}

/// The outcomes as a Markdown table.
pub fn table(outcomes: &[Outcome]) -> String {
    let rows: String = outcomes
        .iter()
        .map(|outcome| format!("{outcome}\n"))
        .collect();
    format!(
        "| setting | validation loss | CIDEr | true captions | right main objects | seconds |\n| --- | ---: | ---: | ---: | ---: | ---: |\n{rows}"
    )
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
    fn a_table_has_a_row_an_outcome() {
        let outcome = Outcome {
            name: "no noise".into(),
            validation_loss: 1.23456,
            cider: None,
            scenes: Some(SceneScores {
                true_captions: 0.25,
                right_main_objects: 0.5,
            }),
            seconds: 9.6,
        };
        let text = table(&[outcome]);
        assert_eq!(
            text.lines().last(),
            Some("| no noise | 1.235 | - | 25.0% | 50.0% | 10 |")
        );
    }
}
