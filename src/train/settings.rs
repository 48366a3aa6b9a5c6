//! A run's settings as names and values: all of them, those in which two runs differ, and those that the user chose.

use serde::Serialize;
use serde_json::Value;

use super::config::{Preset, TrainConfig, TrainData};

/// A setting of one or both of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// With the names of those that it stands in, as in `noise.rate`.
    pub name: String,
    /// `None` where the first has no such setting.
    pub a: Option<Value>,
    pub b: Option<Value>,
}

/// The settings that hold values, each with the names of those that it stands in.
pub fn leaves(config: &TrainConfig) -> Vec<(String, Value)> {
    fn add(value: Value, name: String, found: &mut Vec<(String, Value)>) {
        let Value::Object(entries) = value else {
            return found.push((name, value));
        };
        for (key, value) in entries {
            let name = match name.as_str() {
                "" => key,
                outer => format!("{outer}.{key}"),
            };
            add(value, name, found);
        }
    }
    let mut found = Vec::new();
    let value = serde_json::to_value(config).unwrap_or_default();
    add(value, String::new(), &mut found);
    found
}

/// The settings in which two runs differ.
pub fn differences(a: &TrainConfig, b: &TrainConfig) -> Vec<Changed> {
    let (a, b) = (leaves(a), leaves(b));
    let find = |list: &[(String, Value)], name: &str| {
        let found = list.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let mut names: Vec<&String> = a.iter().map(|(name, _)| name).collect();
    names.extend(
        b.iter()
            .map(|(name, _)| name)
            .filter(|name| find(&a, name).is_none()),
    );
    names
        .into_iter()
        .map(|name| Changed {
            name: name.clone(),
            a: find(&a, name),
            b: find(&b, name),
        })
        .filter(|changed| changed.a != changed.b)
        .collect()
}

/// A value as people write it.
pub fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// The preset that a run's settings are nearest to, and in what they differ from it; where two are as near, what `train`
/// takes by itself. Model and data are no part of a preset.
pub fn nearest_preset(config: &TrainConfig) -> (&'static str, Vec<Changed>) {
    let (data, model) = (&config.data, &config.model);
    let preset = |preset| TrainConfig::preset(preset, data.clone(), model.clone());
    let sample = TrainConfig {
        data: data.clone(),
        ..TrainConfig::sample(model.clone())
    };
    let mut presets = vec![
        ("paper", preset(Preset::Paper)),
        ("sample", sample),
        ("clipcap-mlp", preset(Preset::ClipcapMlp)),
        ("clipcap-transformer", preset(Preset::ClipcapTransformer)),
        ("capdec", preset(Preset::Capdec)),
    ];
    if *data == TrainData::Sample {
        presets.swap(0, 1);
    }
    presets
        .into_iter()
        .map(|(name, preset)| (name, differences(&preset, config)))
        .min_by_key(|(_, differences)| differences.len())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::mapper::MapperKind;

    #[test]
    fn a_run_is_told_by_the_preset_it_is_nearest_to() {
        let files = TrainData::Files {
            captions: "captions.json".into(),
            images: Vec::new(),
        };
        let mut config = TrainConfig::sample("m".into());
        assert_eq!(nearest_preset(&config), ("sample", Vec::new()));
        config.epochs = 2;
        config.mapper = MapperKind::Linear;
        let (name, differs) = nearest_preset(&config);
        assert_eq!(name, "sample");
        let shown: Vec<String> = (differs.iter())
            .map(|one| {
                format!(
                    "{} {} {}",
                    one.name,
                    show(one.a.as_ref()),
                    show(one.b.as_ref())
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "mapper.name transformer linear",
                "mapper.clip_length 10 -",
                "mapper.layers 8 -",
                "mapper.heads 8 -",
                "epochs 5 2"
            ]
        );
        let capdec = TrainConfig::capdec(files.clone(), "m".into());
        assert_eq!(nearest_preset(&capdec), ("capdec", Vec::new()));
        let paper = TrainConfig::paper(files, "m".into());
        assert_eq!(nearest_preset(&paper).0, "paper");
    }
}
