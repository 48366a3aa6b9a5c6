//! Models by name: in this folder, among the runs, in the user's data folder, in the program, and on the Hub.
//!
//! ```text
//! model/NAME              this folder's models
//! artifacts/NAME/best     what a run ended with
//! $CLIPCAP_HOME/model/    the user's: ~/.local/share/clipcap on Linux and macOS unless the variable says otherwise
//! sample                  the sample model, which is in the program
//! clipcap-coco, ...       what `fetch` knows
//! ```

mod list;
mod missing;
mod runs;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use serde_json::Value;

use crate::files;
use crate::hub::Named;
use crate::sample_model;
use crate::train::status::RunStatus;
use crate::trainer::run::ARTIFACTS;

pub use list::{Listed, Room};
pub use missing::Missing;
pub use runs::{LatestRun, PassedOver};

/// The folder of models, in the current folder and in the user's.
pub const MODELS: &str = "model";
/// A run's model, in its folder.
const BEST: &str = "best";

/// The user's folder for what is used from anywhere: `CLIPCAP_HOME`, else `clipcap` where the system keeps users' data. A
/// relative path in the variable would be another folder from every folder; it stands for none, as [`unusable_home`] says.
pub fn home() -> Option<PathBuf> {
    match named_home() {
        Some(home) => home.is_absolute().then_some(home),
        None => etcetera::choose_base_strategy()
            .ok()
            .map(|folders| folders.data_dir().join("clipcap")),
    }
}

fn named_home() -> Option<PathBuf> {
    let home = env::var_os("CLIPCAP_HOME").filter(|home| !home.is_empty());
    home.map(PathBuf::from)
}

/// Why the folder in `CLIPCAP_HOME` is no place for models at all; `None` where it is one, may become one, or the variable is
/// not set.
pub fn unusable_home() -> Option<String> {
    let home = named_home()?;
    let shown = home.display();
    if home.is_relative() {
        return Some(format!(
            "CLIPCAP_HOME is {shown}, which is another folder from every folder, and is passed over: give a path from the root"
        ));
    }
    let there = home.ancestors().find(|above| above.exists())?;
    (!there.is_dir()).then(|| {
        let there = there.display();
        format!("CLIPCAP_HOME is {shown}, but {there} is not a folder: give one")
    })
}

/// Where models are looked for.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// This folder's models.
    pub models: PathBuf,
    /// This folder's runs.
    pub artifacts: PathBuf,
    /// The user's models, where there is a place for them.
    pub home: Option<PathBuf>,
}

impl Default for Catalog {
    /// The current folder and the user's.
    fn default() -> Self {
        Self {
            models: MODELS.into(),
            artifacts: ARTIFACTS.into(),
            home: home().map(|home| home.join(MODELS)),
        }
    }
}

impl Catalog {
    /// The folder of the model that is meant: a model folder's or a run folder's path, or a name.
    ///
    /// # Errors
    /// [`Missing::CanFetch`] where it is on the Hub; else a message with the name that may have been meant.
    pub fn find(&self, name: impl AsRef<Path>) -> Result<PathBuf, Missing> {
        let name = name.as_ref();
        if let Some(model) = model_at(name) {
            return Ok(model);
        }
        let text = name.to_string_lossy();
        if let Some(model) = self.by_name(&text) {
            return Ok(model);
        }
        if text == sample_model::NAME || name == self.models.join(sample_model::NAME) {
            return self.sample().map_err(Missing::Sample);
        }
        for run in [name.to_path_buf(), self.artifacts.join(name)] {
            match RunStatus::read(&run) {
                Ok(None) => {}
                Ok(status) => {
                    return Err(Missing::Unfinished {
                        run: run.display().to_string(),
                        status: RunStatus::describe(status),
                    });
                }
                Err(error) => return Err(Missing::Damaged(error)),
            }
        }
        if name.exists() {
            // What is wrong with it is said by whoever opens it.
            return Ok(name.to_path_buf());
        }
        Err(match Named::parse(&text) {
            Some(named) if !text.starts_with("model/") && !text.starts_with("artifacts/") => {
                Missing::CanFetch(text.into_owned(), named)
            }
            _ => Missing::unknown(&text, self),
        })
    }

    /// The sample model's folder: this folder's, if it has one, else the user's, unpacked there when it is first asked for.
    /// Where that cannot be written, this folder gets one.
    ///
    /// # Errors
    /// When it can be written nowhere.
    pub fn sample(&self) -> Result<PathBuf> {
        let here = self.models.join(sample_model::NAME);
        if is_model(&here) {
            return Ok(here);
        }
        if let Some(folder) = self.sample_at_home().transpose().ok().flatten() {
            return Ok(folder);
        }
        sample_model::unpack(&here).context(
            "the sample model could not be unpacked: set CLIPCAP_HOME to a folder that can be written",
        )?;
        Ok(here)
    }

    /// Why the sample model is not kept in the user's folder, where there is one; it is unpacked there if it can be.
    pub fn homeless_sample(&self) -> Option<String> {
        if is_model(&self.models.join(sample_model::NAME)) {
            return None;
        }
        let error = self.sample_at_home()?.err()?;
        Some(format!(
            "{error:#}: the sample model goes to {} instead; set CLIPCAP_HOME to a folder of yours",
            self.models.display()
        ))
    }

    fn sample_at_home(&self) -> Option<Result<PathBuf>> {
        self.home.as_deref().map(sample_model::unpacked)
    }

    /// Whether a folder is the sample model's.
    pub fn is_sample(&self, folder: &Path) -> bool {
        let parent = folder.parent();
        let is_here = parent == Some(&self.models) || parent == self.home.as_deref();
        is_here && sample_model::is_name(folder)
    }

    /// A model called so. An id of the Hub stands for the folder that was made of that repository.
    fn by_name(&self, name: &str) -> Option<PathBuf> {
        let mut places = vec![self.models.clone()];
        places.extend(self.home.clone());
        if let Some(Named::Repo(id)) = Named::parse(name)
            && id == name
        {
            let folder = id.rsplit('/').next().unwrap_or_default().to_string();
            return (places.iter())
                .map(|place| place.join(&folder))
                .find(|model| is_model(model) && is_from(model, &id));
        }
        if Path::new(name).components().count() != 1 || name.starts_with('.') {
            return None;
        }
        places.insert(1, self.artifacts.clone());
        places.iter().find_map(|place| model_at(&place.join(name)))
    }
}

/// The model folder at a path: the path itself, or the best model of the run that it is.
fn model_at(path: &Path) -> Option<PathBuf> {
    let best = path.join(BEST);
    if is_model(&best) {
        return Some(best);
    }
    is_model(path).then(|| path.to_path_buf())
}

/// A run's folder has a `config.json` too, but of its settings.
fn is_model(folder: &Path) -> bool {
    folder.join("config.json").is_file() && !RunStatus::is_noted(folder)
}

/// Whether a model folder was made of this repository of the Hub.
fn is_from(model: &Path, id: &str) -> bool {
    repositories(model)
        .iter()
        .any(|from| from["repository"] == id)
}

/// The repositories of the Hub that a model folder was made of, as `fetch` noted them.
fn repositories(model: &Path) -> Vec<Value> {
    let source: Value = files::read_json(&model.join("source.json")).unwrap_or_default();
    source["hub"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn catalog(root: &Path) -> Catalog {
        Catalog {
            models: root.join("model"),
            artifacts: root.join("artifacts"),
            home: Some(root.join("home/model")),
        }
    }

    fn write(folder: PathBuf, source: &str) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        fs::write(folder.join("source.json"), source).unwrap();
    }

    #[test]
    fn names_are_looked_up_here_then_among_runs_then_in_the_users_folder() {
        let root = tempfile::tempdir().unwrap();
        let catalog = catalog(root.path());
        let find = |name: &str| catalog.find(Path::new(name)).unwrap();
        write(root.path().join("home/model/a"), "{}");
        assert_eq!(find("a"), root.path().join("home/model/a"));
        write(root.path().join("artifacts/a/best"), "{}");
        assert_eq!(find("a"), root.path().join("artifacts/a/best"));
        write(root.path().join("model/a"), "{}");
        assert_eq!(find("a"), root.path().join("model/a"));
        let run = root.path().join("artifacts/a");
        assert_eq!(catalog.find(&run).unwrap(), run.join("best"));
        let hub = r#"{"hub": [{"repository": "me/b"}]}"#;
        write(root.path().join("home/model/b"), hub);
        assert_eq!(find("me/b"), root.path().join("home/model/b"));
        let other = catalog.find(Path::new("you/b")).unwrap_err();
        assert!(matches!(other, Missing::CanFetch(name, _) if name == "you/b"));
    }

    #[test]
    fn the_sample_is_there_without_a_source_and_where_home_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let mut catalog = catalog(root.path());
        let sample = catalog.find(Path::new("sample")).unwrap();
        assert!(sample.starts_with(root.path().join("home")), "{sample:?}");
        assert!(catalog.is_sample(&sample));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        catalog.home = Some(file.join("model"));
        let here = root.path().join("model/sample");
        let told = catalog.homeless_sample().unwrap();
        assert!(
            told.contains("CLIPCAP_HOME") && told.contains("file"),
            "{told}"
        );
        assert_eq!(catalog.sample().unwrap(), here);
        assert!(here.join("clip.bpk").is_file() && catalog.is_sample(&here));
        assert_eq!(catalog.homeless_sample(), None, "it is here");
        catalog.models = file;
        let error = format!("{:#}", catalog.sample().unwrap_err());
        assert!(error.contains("CLIPCAP_HOME"), "{error}");
    }

    #[test]
    fn what_is_missing_is_to_be_fetched_or_comes_with_the_name_that_was_meant() {
        let root = tempfile::tempdir().unwrap();
        let catalog = catalog(root.path());
        write(root.path().join("model/flowers"), "{}");
        let missing = |name: &str| catalog.find(Path::new(name)).unwrap_err();
        let coco = missing("clipcap-coco").to_string();
        assert!(coco.contains("clipcap fetch clipcap-coco"), "{coco}");
        for (wrong, meant) in [("flower", "flowers"), ("clipcap-cocoa", "clipcap-coco")] {
            let error = missing(wrong).to_string();
            assert!(
                error.contains(&format!("did you mean `{meant}`?")),
                "{error}"
            );
        }
        let run = root.path().join("artifacts/early");
        write(run.clone(), "{}");
        RunStatus::Begun.write(&run).unwrap();
        for name in ["early", run.to_str().unwrap()] {
            let error = missing(name).to_string();
            assert!(
                error.contains("early is a run without a model: it is not finished"),
                "{error}"
            );
        }
        let path = missing("model/nothing").to_string();
        assert!(
            path.contains("model/nothing is not a model folder"),
            "{path}"
        );
    }
}
