//! What `tune` tries: values for any fields of a run's configuration.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::suggest::nearest;
use crate::train::config::TrainConfig;

/// Fields that stand inside another, by the name alone.
const SHORT: [(&str, &str); 13] = [
    ("learning_rate", "schedule.learning_rate"),
    ("warmup_steps", "schedule.warmup_steps"),
    ("decay", "schedule.decay"),
    ("weight_decay", "optimizer.weight_decay"),
    ("clip_norm", "optimizer.clip_norm"),
    ("accumulation", "optimizer.accumulation"),
    ("noise_mode", "noise.mode"),
    ("noise_rate", "noise.rate"),
    ("noise_variance", "noise.variance"),
    ("layers", "mapper.layers"),
    ("clip_length", "mapper.clip_length"),
    ("heads", "mapper.heads"),
    ("mapper_kind", "mapper.name"),
];

/// What other programs call fields.
const SYNONYMS: [(&str, &str); 4] = [
    ("lr", "learning_rate"),
    ("wd", "weight_decay"),
    ("bs", "batch_size"),
    ("warmup", "warmup_steps"),
];

/// A field and what it may be: `learning_rate=1e-5,1e-4`, `noise.rate=0..0.3`, `learning_rate=1e-5..1e-3:log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dimension {
    /// Keys from the outside in.
    path: Vec<String>,
    values: Values,
    /// As it was written.
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    List(Vec<Value>),
    Range {
        low: f64,
        high: f64,
        whole: bool,
        logarithmic: bool,
    },
}

/// One value for each dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting(pub Vec<(String, Value)>);

impl FromStr for Dimension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            format!(
                "`{text}` {why}: write field=value,value or field=low..high, with :log for a logarithmic range, as in learning_rate=1e-5..1e-3:log"
            )
        };
        let (field, values) = text.split_once('=').ok_or_else(|| refuse("has no `=`"))?;
        let field = full_name(field.trim());
        let values = match values.split_once("..") {
            Some((low, high)) => range(low, high).ok_or_else(|| refuse("is not a range"))?,
            None => Values::List(values.split(',').map(|value| parse(value.trim())).collect()),
        };
        if field.is_empty() || values == Values::List(vec![Value::from("")]) {
            return Err(refuse("names no field or no value"));
        }
        Ok(Self {
            path: field.split('.').map(String::from).collect(),
            values,
            text: text.to_string(),
        })
    }
}

/// A field's name with those of the fields that it stands in.
pub fn full_name(field: &str) -> String {
    let found = SHORT.iter().find(|(short, _)| *short == field);
    found.map_or(field, |(_, long)| long).to_string()
}

fn range(low: &str, high: &str) -> Option<Values> {
    let (high, logarithmic) = match high.strip_suffix(":log") {
        Some(high) => (high, true),
        None => (high, false),
    };
    let whole = low.parse::<u64>().is_ok() && high.parse::<u64>().is_ok();
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    let fits = low < high && (!logarithmic || low > 0.0);
    fits.then_some(Values::Range {
        low,
        high,
        whole,
        logarithmic,
    })
}

/// A number, `true`, `null` or a list as JSON has it; anything else is a text.
fn parse(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| value.into())
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Dimension {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Dimension> for String {
    fn from(dimension: Dimension) -> Self {
        dimension.text
    }
}

impl Dimension {
    fn name(&self) -> String {
        self.path.join(".")
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Value {
        match &self.values {
            Values::List(values) => values.choose(rng).expect("a list has a value").clone(),
            &Values::Range {
                low,
                high,
                whole: true,
                ..
            } => rng.random_range(low as u64..=high as u64).into(),
            &Values::Range {
                low,
                high,
                logarithmic: true,
                ..
            } => rng.random_range(low.ln()..high.ln()).exp().into(),
            &Values::Range { low, high, .. } => rng.random_range(low..high).into(),
        }
    }
}

/// Every combination of the dimensions' values.
///
/// # Errors
/// When one of them is a range: a range can only be drawn from.
pub fn grid(space: &[Dimension]) -> Result<Vec<Setting>> {
    let mut settings = vec![Setting(Vec::new())];
    for dimension in space {
        let Values::List(values) = &dimension.values else {
            bail!(
                "`{dimension}` is a range, which a grid cannot go through: list values, or draw with --random N"
            );
        };
        settings = settings
            .into_iter()
            .flat_map(|setting| {
                values.iter().map(move |value| {
                    let mut more = setting.clone();
                    more.0.push((dimension.name(), value.clone()));
                    more
                })
            })
            .collect();
    }
    Ok(settings)
}

/// `count` random combinations.
pub fn random(space: &[Dimension], count: usize, rng: &mut ChaCha8Rng) -> Vec<Setting> {
    let draw = |rng: &mut ChaCha8Rng| {
        Setting(
            space
                .iter()
                .map(|dimension| (dimension.name(), dimension.draw(rng)))
                .collect(),
        )
    };
    (0..count).map(|_| draw(rng)).collect()
}

impl Setting {
    /// A configuration with these values in it.
    ///
    /// # Errors
    /// When there is no such field, or the value is none for it.
    pub fn apply(&self, base: &TrainConfig) -> Result<TrainConfig> {
        let mut value = serde_json::to_value(base)?;
        for (name, new) in &self.0 {
            let mut place = &mut value;
            for key in name.split('.') {
                place = (place.get_mut(key)).ok_or_else(|| unknown(name, base))?;
            }
            *place = new.clone();
        }
        let config: TrainConfig = serde_json::from_value(value)
            .with_context(|| format!("{self} makes no configuration"))?;
        config.validate().with_context(|| self.to_string())?;
        Ok(config)
    }
}

/// A field that a run does not have: what was meant, or which there are.
fn unknown(name: &str, base: &TrainConfig) -> anyhow::Error {
    let mut fields = Vec::new();
    if let Ok(value) = serde_json::to_value(base) {
        leaves(&value, "", &mut fields);
    }
    let short = SHORT
        .iter()
        .filter(|(_, long)| fields.iter().any(|field| field == long));
    let synonyms = SYNONYMS.iter().find(|(short, _)| *short == name);
    let known = (fields.iter().map(String::as_str)).chain(short.map(|(short, _)| *short));
    let hint = match synonyms
        .map(|(_, field)| *field)
        .or_else(|| nearest(name, known))
    {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("it has {}", fields.join(", ")),
    };
    anyhow!("a run has no field `{name}` with this mapper and these settings: {hint}")
}

/// The fields that hold values, each with those that it stands in.
fn leaves(value: &Value, name: &str, fields: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = match name {
                    "" => key.clone(),
                    outer => format!("{outer}.{key}"),
                };
                leaves(value, &name, fields);
            }
        }
        _ => fields.push(name.to_string()),
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{}={value}", last(name)))
            .collect();
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::noise::NoiseMode;
    use rand::SeedableRng;

    fn space(texts: &[&str]) -> Vec<Dimension> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_grid_is_every_combination_and_each_lands_in_its_field() {
        let settings = grid(&space(&[
            "learning_rate=1e-4,5e-5",
            "noise_mode=none,ball",
            "layers=2",
        ]))
        .unwrap();
        assert_eq!(settings.len(), 4);
        let config = settings[3].apply(&TrainConfig::sample("m".into())).unwrap();
        assert_eq!(config.schedule.learning_rate, 5e-5);
        assert_eq!(config.noise.mode, NoiseMode::Ball);
        assert_eq!(
            settings[3].to_string(),
            "learning_rate=0.00005 mode=\"ball\" layers=2"
        );
    }

    #[test]
    fn what_is_drawn_lies_in_the_range_and_repeats_with_the_seed() {
        let space = space(&[
            "learning_rate=1e-5..1e-3:log",
            "prefix_length=4..9",
            "noise_rate=0..0.5",
        ]);
        let draw = || random(&space, 20, &mut ChaCha8Rng::seed_from_u64(3));
        assert_eq!(draw(), draw());
        for setting in draw() {
            let config = setting.apply(&TrainConfig::sample("m".into())).unwrap();
            assert!((1e-5..1e-3).contains(&config.schedule.learning_rate));
            assert!((4..=9).contains(&config.prefix_length));
            assert!((0.0..0.5).contains(&config.noise.rate));
        }
        assert!(grid(&space).unwrap_err().to_string().contains("--random"));
    }

    #[test]
    fn fields_that_are_none_and_values_that_do_not_fit_are_refused_by_name() {
        let apply = |text: &str| {
            let setting = grid(&space(&[text])).unwrap().remove(0);
            format!(
                "{:#}",
                setting.apply(&TrainConfig::sample("m".into())).unwrap_err()
            )
        };
        assert!(apply("prefix=3").contains("no field `prefix`"));
        for (written, meant) in [
            ("learning_rat=1", "learning_rate"),
            ("lr=1", "learning_rate"),
            ("noise.rates=1", "noise.rate"),
            ("prefix=3", "prefix_length"),
        ] {
            let error = apply(written);
            let hint = format!("did you mean `{meant}`?");
            assert!(error.contains(&hint), "{written}: {error}");
        }
        assert!(apply("temperature=3").contains("it has model"));
        assert!(apply("epochs=many").contains("epochs"));
        assert!(apply("batch_size=0").contains("batch size is 0"));
        for text in ["learning_rate", "a=2..1", "a=0..1:log", "=3", "a="] {
            assert!(
                text.parse::<Dimension>().unwrap_err().contains(text),
                "{text}"
            );
        }
    }
}
