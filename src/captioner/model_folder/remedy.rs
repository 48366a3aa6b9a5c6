//! What to do about a file of a model folder that is missing or damaged.

use std::path::Path;

use serde_json::Value;

use super::Part;
use crate::files;
use crate::sample_model;

/// How to get a file again, by what the folder's `source.json` says made it. `part`: the one that the file is of; `None` of
/// those that are of the whole folder.
pub(super) fn remedy(folder: &Path, part: Option<Part>) -> String {
    if sample_model::is_name(folder) {
        return format!(
            "delete {}, and it is unpacked again when it is asked for",
            folder.display()
        );
    }
    let source: Value = (files::read_json_if_there(&folder.join("source.json")))
        .ok()
        .flatten()
        .unwrap_or_default();
    if source.get("hub").is_some() {
        return format!(
            "delete {}, and get the model again with `clipcap fetch`",
            folder.display()
        );
    }
    let made_by = |name: &str| source[name]["made_by"].as_str();
    let made_by = match part {
        Some(part) => made_by(part.name()),
        None => Part::ALL
            .into_iter()
            .rev()
            .find_map(|part| made_by(part.name())),
    };
    match made_by {
        Some(command) => format!("put back a copy, or make it again with `{command}`"),
        None => "put back a copy, or make the model folder again with `clipcap fetch`, `convert` or `train`".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_to_do_is_what_made_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let told = |part| remedy(folder.path(), part);
        assert!(told(None).contains("`clipcap fetch`, `convert` or `train`"));
        let source =
            r#"{"clip": {"made_by": "clipcap convert"}, "mapper": {"made_by": "clipcap train"}}"#;
        fs::write(folder.path().join("source.json"), source).unwrap();
        assert!(told(Some(Part::Clip)).ends_with("`clipcap convert`"));
        assert!(told(None).ends_with("`clipcap train`"));
        assert!(told(Some(Part::Gpt2)).contains("put back a copy"));
        fs::write(folder.path().join("source.json"), "{\"hub\": []}").unwrap();
        assert!(told(Some(Part::Gpt2)).ends_with("`clipcap fetch`"));
        fs::write(folder.path().join("source.json"), "{").unwrap();
        assert!(told(None).contains("put back a copy"));
    }
}
