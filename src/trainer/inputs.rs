//! What a run begins with and must still find when it goes on, in a file of its folder with a hash of each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use crate::files;

/// The file of a training of a captioner, and of a search over trainings.
pub const TRAINING: &str = "inputs.json";
/// The file of what trains encoders.
pub const ENCODER: &str = "data.json";

/// Something that a run reads: networks, captions, images, a datastore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it goes by in the file.
    pub name: String,
    /// What tells it from others, in hexadecimal.
    pub hash: String,
    /// What the run was begun with, where it is another now, and the fix: as in `other captions than a.json has now: ..`.
    pub changed: String,
}

/// Notes in a run's file what it begins with or, where that is noted, checks that it is the same. What an earlier version did
/// not note is added.
///
/// # Errors
/// When one of the inputs is another than it was, or the file cannot be read or written.
pub fn check(run: &Path, file: &str, inputs: &[Input]) -> Result<()> {
    let path = run.join(file);
    let mut known: BTreeMap<String, String> = match path.is_file() {
        true => files::read_own_json(&path, || {
            "put back a copy, or delete it if all that the run reads is as it was".into()
        })?,
        false => BTreeMap::new(),
    };
    let before = known.len();
    for input in inputs {
        match known.get(&input.name) {
            Some(hash) if *hash != input.hash => {
                bail!("{} was begun with {}", run.display(), input.changed)
            }
            Some(_) => {}
            None => drop(known.insert(input.name.clone(), input.hash.clone())),
        }
    }
    match known.len() > before {
        true => files::write_json(&path, &known),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_changed_is_refused_and_one_that_is_new_is_noted() {
        let run = tempfile::tempdir().unwrap();
        let input = |name: &str, hash: &str| Input {
            name: name.into(),
            hash: hash.into(),
            changed: format!("another {name}"),
        };
        check(run.path(), ENCODER, &[input("a", "1")]).unwrap();
        check(run.path(), ENCODER, &[input("a", "1"), input("b", "2")]).unwrap();
        check(run.path(), ENCODER, &[input("b", "2")]).unwrap();
        let error = check(run.path(), ENCODER, &[input("b", "3")]).unwrap_err();
        assert!(
            error.to_string().ends_with("was begun with another b"),
            "{error}"
        );
    }
}
