//! What the records of a folder were made with: they are not mixed with those of another model or search.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::files;

/// The file in the folder of records.
const FILE: &str = "settings.json";
/// Stretches of a file of weights that its sketch looks at, and their bytes.
const STRETCHES: u64 = 16;
const STRETCH: u64 = 1 << 16;

/// Settings by name, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Adds a setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), Value::String(value.into()));
        self
    }

    /// Adds what tells a model from any other: its settings, and a sketch of its weights.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub fn with_model(self, folder: &Path) -> Result<Self> {
        let mut names = fs::read_dir(folder)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<std::io::Result<Vec<_>>>()
            })
            .with_context(|| format!("cannot list {}", folder.display()))?;
        names.sort();
        let mut hash = Sha256::new();
        for name in names {
            let path = folder.join(&name);
            let is_part = ["json", "bpk"]
                .iter()
                .any(|ending| path.extension().is_some_and(|e| e == *ending));
            // What tells of the making changes nothing.
            if is_part && name != "source.json" {
                hash.update(name.as_encoded_bytes());
                sketch(&path, &mut hash)
                    .with_context(|| format!("cannot read {}", path.display()))?;
            }
        }
        Ok(self.with("model_sha256", files::hex(&hash.finalize())))
    }

    /// Notes these settings in a folder, or compares them with those that are there.
    ///
    /// # Errors
    /// When the folder holds records of other settings.
    pub fn claim(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        if path.exists() {
            let there: Map<String, Value> = files::read_own_json(&path, || {
                "delete it if the records beside it are of the same settings, or name another folder".into()
            })?;
            let names = self.0.keys().chain(there.keys());
            let differs = |name: &&String| self.0.get(*name) != there.get(*name);
            if let Some(name) = names.into_iter().find(differs) {
                let value = |settings: &Map<String, Value>| match settings.get(name) {
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                    None => "none".into(),
                };
                let (before, now) = (value(&there), value(&self.0));
                bail!(
                    "{}: holds records of another `{name}`, {} and not {}: give the same settings, name another folder, or delete this one",
                    folder.display(),
                    beside(&before, &now),
                    beside(&now, &before)
                );
            }
            return Ok(());
        }
        files::write_json(&path, &self.0)
    }
}

/// What a setting has that another has not, without what both have.
fn beside(setting: &str, other: &str) -> String {
    let fields = |text: &str| -> Vec<String> {
        let text = text.replace(['{', '}'], ",");
        let fields = text.split(',').map(|field| field.trim().to_string());
        fields.filter(|field| !field.is_empty()).collect()
    };
    let others = fields(other);
    let own: Vec<String> = (fields(setting).into_iter())
        .filter(|field| !others.contains(field))
        .collect();
    match own.is_empty() {
        true => "without it".to_string(),
        false => format!("`{}`", own.join(", ")),
    }
}

/// Adds a file's length and stretches of it to a hash: all of a short one. Files of weights that are gigabytes long are told
/// apart by them in no time.
fn sketch(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let step = length.div_ceil(STRETCHES).max(STRETCH);
    let mut buffer = Vec::new();
    for start in (0..length).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        buffer.clear();
        file.seek(SeekFrom::Start(start))?;
        (&mut file).take(STRETCH).read_to_end(&mut buffer)?;
        hash.update(&buffer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_searches_what_differs_is_told() {
        let search = |strategy: &str| {
            format!("Search {{ decode: Config {{ {strategy}, max_length: 67 }}, rerank: None }}")
        };
        let (greedy, beam) = (
            search("strategy: Greedy"),
            search("strategy: Beam { size: 5 }"),
        );
        assert_eq!(beside(&greedy, &beam), "`strategy: Greedy`");
        assert_eq!(beside(&beam, &greedy), "`strategy: Beam, size: 5`");
    }

    #[test]
    fn a_folder_keeps_to_its_settings() {
        let place = tempfile::tempdir().unwrap();
        let (model, out) = (place.path().join("model"), place.path().join("out"));
        fs::create_dir(&model).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        let mut weights = vec![0_u8; 3 << 20];
        fs::write(model.join("gpt2.bpk"), &weights).unwrap();
        let settings = || {
            let settings = Settings::default().with("search", "greedy");
            settings.with_model(&model).unwrap()
        };
        settings().claim(&out).unwrap();
        settings().claim(&out).unwrap();
        fs::write(model.join("source.json"), "{}").unwrap();
        settings().claim(&out).unwrap();
        let error = settings().with("search", "beam").claim(&out).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("another `search`, `greedy` and not `beam`"),
            "{error}"
        );
        weights[(3 << 20) / 16 * 5 + 7] = 1;
        fs::write(model.join("gpt2.bpk"), &weights).unwrap();
        let error = settings().claim(&out).unwrap_err();
        assert!(
            error.to_string().contains("another `model_sha256`"),
            "{error}"
        );
    }
}
