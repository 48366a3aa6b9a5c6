//! What wrappers put before a network's names: `torch.compile`, data-parallel training, Lightning.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::tensor::StoredTensor;

/// Parts before a name, in any order and depth.
const BEFORE: [&str; 6] = [
    "module",
    "_orig_mod",
    "model",
    "net",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];
/// Parts within a name, where a part of a network was wrapped. `model` and `net` may be names of its own there.
const WITHIN: [&str; 4] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// Tensors under their networks' own names, and what was taken off.
pub type Bare = (BTreeMap<String, StoredTensor>, BTreeSet<String>);

/// Takes off what wrappers put into names.
///
/// # Errors
/// When two different tensors would then have one name: which is meant cannot be told.
pub fn strip(tensors: BTreeMap<String, StoredTensor>) -> Result<Bare> {
    let mut bare: BTreeMap<String, (String, StoredTensor)> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (full, tensor) in tensors {
        let (name, wrapper) = split(&full);
        if let Some((other, before)) = bare.get(&name) {
            ensure!(
                before.equals(&tensor)?,
                "it holds both `{other}` and `{full}`, which differ and are both `{name}` without what wrappers add: save one of the two networks alone"
            );
            continue;
        }
        taken.extend(wrapper);
        bare.insert(name, (full, tensor));
    }
    let named = |(name, (_, tensor))| (name, tensor);
    Ok((bare.into_iter().map(named).collect(), taken))
}

/// A name without wrappers, and what they put there, if anything.
fn split(full: &str) -> (String, Option<String>) {
    let parts: Vec<&str> = full.split('.').collect();
    // The last part is always the tensor's own.
    let last = parts.len() - 1;
    let before = parts[..last]
        .iter()
        .take_while(|part| BEFORE.contains(part))
        .count();
    let kept = |&(place, part): &(usize, &str)| place == last || !WITHIN.contains(&part);
    let (kept, dropped): (Vec<_>, Vec<_>) = (before..)
        .zip(parts[before..].iter().copied())
        .partition(kept);
    let join = |parts: &[&str]| parts.join(".");
    let name = join(&kept.iter().map(|(_, part)| *part).collect::<Vec<_>>());
    let mut wrapper = parts[..before].to_vec();
    wrapper.extend(dropped.iter().map(|(_, part)| *part));
    (name, (!wrapper.is_empty()).then(|| join(&wrapper) + "."))
}

#[cfg(test)]
mod tests {
    use super::super::source::Section;
    use super::super::tensor::DType;
    use super::*;

    fn tensor(value: u8) -> StoredTensor {
        StoredTensor::whole(DType::U8, vec![1], Section::memory(vec![value])).unwrap()
    }

    #[test]
    fn wrappers_are_taken_off_in_any_order_and_depth_and_names_of_ones_own_stay() {
        for (full, name) in [
            ("module.wte.weight", "wte.weight"),
            ("_orig_mod.module.model.net.wte.weight", "wte.weight"),
            ("net.module._orig_mod.wte.weight", "wte.weight"),
            (
                "gpt._orig_mod.transformer.wte.weight",
                "gpt.transformer.wte.weight",
            ),
            (
                "model.clip_project.model.0.weight",
                "clip_project.model.0.weight",
            ),
            (
                "clip_project.module.model.2.bias",
                "clip_project.model.2.bias",
            ),
            ("model.net", "net"),
            ("model", "model"),
            ("vision_model.a", "vision_model.a"),
        ] {
            assert_eq!(split(full).0, name, "{full}");
        }
    }

    #[test]
    fn two_networks_that_would_become_one_are_told_apart_by_what_they_hold() {
        let all = |entries: &[(&str, u8)]| {
            let named = |&(name, value): &(&str, u8)| (name.to_string(), tensor(value));
            strip(entries.iter().map(named).collect())
        };
        let (bare, taken) = all(&[("model.a", 1), ("module.a", 1), ("b", 2)]).unwrap();
        assert_eq!(bare.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(taken.into_iter().collect::<Vec<_>>(), ["model."]);
        let error = all(&[("model.a", 1), ("module.a", 3)]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`model.a` and `module.a`"), "{error}");
    }
}
