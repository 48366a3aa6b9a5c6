//! Why a model was not found, and what to do.

use std::fs;

use super::{Catalog, model_at};
use crate::hub::{self, Named};
use crate::{sample_model, suggest};

/// Why there is no folder for a model's name.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// It can be fetched from the Hub.
    #[error("{0} is not here yet: get it with `clipcap fetch {0}`")]
    CanFetch(String, Named),
    /// It is a run that ended before it had a model.
    #[error(
        "{run} is a run without a model: it {status}; resume it with `clipcap train --resume {run}`, or name another"
    )]
    Unfinished { run: String, status: &'static str },
    /// It is a run without a model, and a file of it cannot be read.
    #[error("{0:#}")]
    Damaged(anyhow::Error),
    /// Nothing is called so.
    #[error(
        "{name} is not a model folder, nor the name of a model: {hint}`clipcap models` lists those that are here and those that can be fetched"
    )]
    Unknown { name: String, hint: String },
    /// The sample model could not be unpacked.
    #[error(transparent)]
    Sample(anyhow::Error),
}

impl Missing {
    /// With the name that may have been meant.
    pub(super) fn unknown(name: &str, catalog: &Catalog) -> Self {
        let mut known = names(catalog);
        known.extend(hub::names().split(", ").map(String::from));
        known.push(sample_model::NAME.to_string());
        let meant = suggest::nearest(name, known.iter().map(String::as_str));
        Self::Unknown {
            name: name.to_string(),
            hint: meant.map_or(String::new(), |meant| format!("did you mean `{meant}`? ")),
        }
    }
}

/// Names of the models in all folders.
pub(super) fn names(catalog: &Catalog) -> Vec<String> {
    let places = [&catalog.models, &catalog.artifacts];
    let mut names = Vec::new();
    for place in places.into_iter().chain(catalog.home.as_ref()) {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if model_at(&entry.path()).is_some() && !catalog.is_sample(&entry.path()) {
                names.push(name);
            }
        }
    }
    names.sort();
    names.dedup();
    names
}
