//! Names with `*`, `?`, `[...]` or `**` in them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

use super::InputError;
use super::walk::Files;

/// What makes a name that is no file a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// The name in a pattern that stands for any number of folders.
const ANY_DEPTH: &str = "**";

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

pub(super) fn is_pattern(name: &Path) -> bool {
    has_wildcard(name.as_os_str()) && !name.exists()
}

fn has_wildcard(name: &OsStr) -> bool {
    name.to_string_lossy().contains(WILDCARDS)
}

/// The part of a pattern before the first name that has a wildcard.
pub(super) fn literal_folder(pattern: &Path) -> PathBuf {
    pattern
        .components()
        .skip_while(|component| *component == Component::CurDir)
        .take_while(|component| !has_wildcard(component.as_os_str()))
        .collect()
}

/// The files that match a pattern, by name: only folders are listed whose names match what it says of them.
pub(super) fn matching(
    name: &Path,
) -> Result<impl Iterator<Item = Result<PathBuf, InputError>> + Send + use<>, PatternError> {
    // What is wrong is told of the whole.
    Pattern::new(&name.to_string_lossy())?;
    let root = literal_folder(name);
    let names: Vec<String> = texts(name).split_off(texts(&root).len());
    let names = (names.iter())
        .map(|name| Pattern::new(name))
        .collect::<Result<Vec<_>, _>>()?;
    let any_depth = names.iter().position(|name| name.as_str() == ANY_DEPTH);
    let depth = any_depth.map_or(names.len(), |_| usize::MAX);
    let literal = any_depth.unwrap_or(names.len());
    let folders = names.clone();
    let enter = move |name: &OsStr, depth: usize| {
        depth > literal || folders[depth - 1].matches_with(&name.to_string_lossy(), OPTIONS)
    };
    // Without the folder nothing matches.
    let is_there = root.as_os_str().is_empty() || root.is_dir();
    let walk = is_there.then(|| Files::new(&root, depth).entering(enter));
    Ok(walk.into_iter().flatten().filter(move |file| {
        let path = match file {
            Ok(path) => path,
            Err(InputError::Special { path, .. } | InputError::BrokenLink { path }) => path,
            Err(_) => return true,
        };
        let inside = path.strip_prefix(&root).unwrap_or(path);
        matches(&names, &texts(inside))
    }))
}

/// The names in a path.
fn texts(path: &Path) -> Vec<String> {
    path.components()
        .skip_while(|component| *component == Component::CurDir)
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .collect()
}

/// Whether names from the literal folder on are those of the pattern; `**` stands for any number of folders.
fn matches(pattern: &[Pattern], names: &[String]) -> bool {
    match pattern {
        [] => names.is_empty(),
        [any, rest @ ..] if any.as_str() == ANY_DEPTH => {
            // At the end it stands for files too.
            if rest.is_empty() {
                return !names.is_empty();
            }
            (0..=names.len()).any(|skipped| matches(rest, &names[skipped..]))
        }
        [first, rest @ ..] => names
            .split_first()
            .is_some_and(|(name, names)| first.matches_with(name, OPTIONS) && matches(rest, names)),
    }
}
