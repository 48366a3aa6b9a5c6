//! All models that can be named.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{BEST, Catalog, is_model, repositories};
use crate::captioner::model_folder::{ModelConfig, ModelFolder, Part};
use crate::hub::SETS;
use crate::sample_model;
use crate::train::status::RunStatus;

/// The license of the sample model, which this program made.
const SAMPLE_LICENSE: &str = "MIT or Apache-2.0";

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// In the program.
    Program,
    /// In this folder.
    Here,
    /// A run of this folder.
    Run,
    /// In the user's folder.
    Home,
    /// On the Hub.
    Hub,
}

/// A model that can be named.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    pub name: String,
    pub room: Room,
    /// Its folder; `None` for what is to be unpacked or fetched first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What it is, in a line.
    pub about: String,
    /// Bytes on disk, or about as many to download.
    pub bytes: u64,
    pub license: String,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How a run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
}

impl Catalog {
    /// All models: those of the folders, by name, and those that can be fetched.
    pub fn list(&self) -> Vec<Listed> {
        let mut all = Vec::new();
        if !is_model(&self.models.join(sample_model::NAME)) {
            all.push(Listed {
                name: sample_model::NAME.into(),
                room: Room::Program,
                path: None,
                about: "CLIP, mapper and GPT-2, small, for images of shapes".into(),
                bytes: sample_model::size(),
                license: SAMPLE_LICENSE.into(),
                problem: None,
                status: None,
            });
        }
        for model in entries(&self.models) {
            all.push(self.listed(Room::Here, &model, &model));
        }
        for run in entries(&self.artifacts) {
            if is_model(&run.join(BEST)) {
                let mut listed = self.listed(Room::Run, &run, &run.join(BEST));
                match RunStatus::read(&run) {
                    Ok(status) => listed.status = status,
                    Err(error) => listed.problem = Some(format!("{error:#}")),
                }
                all.push(listed);
            }
        }
        for model in self.home.iter().flat_map(|home| entries(home)) {
            if !self.is_sample(&model) {
                all.push(self.listed(Room::Home, &model, &model));
            }
        }
        all.extend(SETS.iter().map(|set| Listed {
            name: set.name.into(),
            room: Room::Hub,
            path: None,
            about: set.about.into(),
            bytes: u64::from(set.megabytes) * 1_000_000,
            license: set.license.into(),
            problem: None,
            status: None,
        }));
        all
    }

    fn listed(&self, room: Room, named: &Path, model: &Path) -> Listed {
        let opened = ModelFolder::open(model);
        let license = match self.is_sample(model) {
            true => SAMPLE_LICENSE.into(),
            false => licenses(model),
        };
        Listed {
            name: file_name(named),
            room,
            path: Some(model.to_path_buf()),
            about: opened
                .as_ref()
                .map_or(String::new(), |folder| describe(&folder.config)),
            bytes: bytes(model),
            license,
            problem: match &opened {
                Ok(folder) => lacking(folder),
                Err(error) => Some(format!("{error:#}")),
            },
            status: None,
        }
    }
}

/// The folders in a folder, by name, without hidden ones.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = (fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !file_name(path).starts_with('.'))
        .collect();
    found.sort();
    found
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let length = |entry: fs::DirEntry| entry.metadata().ok().map(|file| file.len());
    files.filter_map(length).sum()
}

/// What a model folder has.
fn describe(config: &ModelConfig) -> String {
    let parts = [
        (config.clip.is_some(), "CLIP"),
        (config.encoder.is_some(), "another encoder"),
        (config.mapper.is_some(), "mapper"),
        (config.gpt2.is_some(), "GPT-2"),
    ];
    let parts = parts.into_iter().filter(|(has, _)| *has);
    let names: Vec<&str> = parts.map(|(_, name)| name).collect();
    match (config.mapper.is_some(), &names[..]) {
        (_, []) => "nothing".into(),
        (true, names) => names.join(", "),
        (false, names) => format!("{}: to train with", names.join(", ")),
    }
}

/// A weight file that the configuration tells of and the folder does not have.
fn lacking(folder: &ModelFolder) -> Option<String> {
    let config = &folder.config;
    let parts = [
        (config.clip.is_some(), Part::Clip),
        (config.gpt2.is_some(), Part::Gpt2),
        (config.mapper.is_some(), Part::Mapper),
    ];
    let mut names = parts
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, part)| part.file_name());
    let name = names.find(|name| !folder.path.join(name).is_file())?;
    Some(format!("{name} is missing: convert or fetch it again"))
}

/// What the repositories say that a model was made of.
fn licenses(model: &Path) -> String {
    let mut licenses: Vec<String> = (repositories(model).iter())
        .map(|from| {
            from["license"]
                .as_str()
                .unwrap_or("none stated")
                .to_string()
        })
        .collect();
    licenses.sort();
    licenses.dedup();
    licenses.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_is_here_and_what_can_be_had() {
        let root = tempfile::tempdir().unwrap();
        let catalog = Catalog {
            models: root.path().join("model"),
            artifacts: root.path().join("artifacts"),
            home: Some(root.path().join("home")),
        };
        let list = catalog.list();
        assert_eq!(list.len(), 1 + SETS.len());
        assert!(list[0].room == Room::Program && list[0].bytes > 1_000_000);
        assert!(list[1].bytes > 500_000_000 && list[1].license.contains("MIT"));

        sample_model::unpack(&root.path().join("model/mine")).unwrap();
        sample_model::unpack(&root.path().join("artifacts/train-1/best")).unwrap();
        sample_model::unpacked(&root.path().join("home")).unwrap();
        RunStatus::Diverged
            .write(&root.path().join("artifacts/train-1"))
            .unwrap();
        fs::remove_file(root.path().join("model/mine/gpt2.bpk")).unwrap();
        let list = catalog.list();
        let names: Vec<_> = list[..3]
            .iter()
            .map(|model| (&*model.name, model.room))
            .collect();
        let expected = [
            ("sample", Room::Program),
            ("mine", Room::Here),
            ("train-1", Room::Run),
        ];
        assert_eq!(names, expected);
        assert_eq!(
            list.len(),
            3 + SETS.len(),
            "the unpacked sample is no other model"
        );
        assert_eq!(list[1].about, "CLIP, mapper, GPT-2");
        assert!(
            list[1]
                .problem
                .as_ref()
                .unwrap()
                .contains("gpt2.bpk is missing")
        );
        assert_eq!(
            (list[2].status, &list[2].problem),
            (Some(RunStatus::Diverged), &None)
        );
    }
}
