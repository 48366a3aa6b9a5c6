//! Names that stand for several by their numbers, as WebDataset and shells write them: `{00000..00999}.tar`, `{a,b}.tar`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::path_text::one_line;

/// The most names that one stands for.
const MOST: usize = 10_000_000;

/// A part of a name: text, or what stands in its place one after the other.
enum Part {
    Text(String),
    Numbers { first: u64, last: u64, width: usize },
    Choices(Vec<String>),
}

impl Part {
    fn count(&self) -> usize {
        match self {
            Self::Text(_) => 1,
            Self::Numbers { first, last, .. } => usize::try_from(last - first)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            Self::Choices(choices) => choices.len(),
        }
    }

    fn get(&self, index: usize) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Numbers { first, width, .. } => format!("{:0width$}", first + index as u64),
            Self::Choices(choices) => choices[index].clone(),
        }
    }
}

/// What a name with braces stands for, the last brace counting fastest, and the folder before the first brace. `None` when
/// it has none, or a file is called so.
///
/// # Errors
/// When a range goes backward, or the name stands for more than ten million.
pub fn expand(name: &Path) -> Result<Option<(PathBuf, impl Iterator<Item = PathBuf> + use<>)>> {
    let Some(text) = name.to_str().filter(|_| !name.exists()) else {
        return Ok(None);
    };
    let parts = parse(text, name)?;
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return Ok(None);
    }
    let count = parts
        .iter()
        .fold(1_usize, |count, part| count.saturating_mul(part.count()));
    if count > MOST {
        bail!(
            "{}: stands for more than {MOST} names: name folders or fewer",
            one_line(name)
        );
    }
    let before = text.split('{').next().unwrap_or_default();
    let root = before.rfind('/').map_or("", |slash| &before[..=slash]);
    let names = (0..count).map(move |index| PathBuf::from(nth(&parts, index)));
    Ok(Some((PathBuf::from(root), names)))
}

/// The name at `index`: its digits, of mixed radix, are the places in the parts.
fn nth(parts: &[Part], mut index: usize) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(parts.len());
    for part in parts.iter().rev() {
        texts.push(part.get(index % part.count()));
        index /= part.count();
    }
    texts.into_iter().rev().collect()
}

/// Braces with neither a range nor a comma in them are text, as in shells.
fn parse(text: &str, name: &Path) -> Result<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(open) = rest.find('{') {
        let Some(length) = rest[open..].find('}') else {
            break;
        };
        let inside = &rest[open + 1..open + length];
        let end = open + length + 1;
        match part(inside, name)? {
            Some(part) => {
                parts.push(Part::Text(rest[..open].to_string()));
                parts.push(part);
            }
            None => parts.push(Part::Text(rest[..end].to_string())),
        }
        rest = &rest[end..];
    }
    parts.push(Part::Text(rest.to_string()));
    Ok(parts)
}

fn part(inside: &str, name: &Path) -> Result<Option<Part>> {
    if let Some((first, last)) = inside.split_once("..") {
        let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else {
            return Ok(None);
        };
        if from > to {
            bail!(
                "{}: the range {{{inside}}} goes backward: give the smaller number first",
                one_line(name)
            );
        }
        let is_padded = |text: &str| text.len() > 1 && text.starts_with('0');
        let width = match is_padded(first) || is_padded(last) {
            true => first.len().max(last.len()),
            false => 1,
        };
        return Ok(Some(Part::Numbers {
            first: from,
            last: to,
            width,
        }));
    }
    let choices = || inside.split(',').map(String::from).collect();
    Ok(inside.contains(',').then(|| Part::Choices(choices())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(name: &str) -> Vec<String> {
        let (_, names) = expand(Path::new(name)).unwrap().expect("braces");
        names.map(|name| name.display().to_string()).collect()
    }

    #[test]
    fn ranges_and_choices_are_those_of_a_shell() {
        assert_eq!(
            expanded("a/{08..11}.tar"),
            ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
        );
        assert_eq!(expanded("{9..10}.tar"), ["9.tar", "10.tar"]);
        assert_eq!(expanded("{0..001}"), ["000", "001"]);
        assert_eq!(
            expanded("{x,y}-{0..1}.tar"),
            ["x-0.tar", "x-1.tar", "y-0.tar", "y-1.tar"]
        );
        assert_eq!(expanded("{}{a}{1,2}"), ["{}{a}1", "{}{a}2"]);
        for plain in [
            "a.tar",
            "{a}.tar",
            "{1..b}.tar",
            "{1..2.tar",
            "}{",
            "{-1..2}",
        ] {
            assert!(expand(Path::new(plain)).unwrap().is_none(), "{plain}");
        }
        let (root, _) = expand(Path::new("/data/{a,b}/{0..9}.tar"))
            .unwrap()
            .unwrap();
        assert_eq!(root, Path::new("/data/"));
    }

    #[test]
    fn what_stands_for_too_many_or_goes_backward_is_an_error() {
        for (name, part) in [
            ("{0..99999999999}.tar", "more than 10000000 names"),
            ("{0..18446744073709551615}.tar", "more than 10000000 names"),
            (
                "{0..9999}{0..9999}{0..9999}.tar",
                "more than 10000000 names",
            ),
            ("{5..3}.tar", "goes backward"),
        ] {
            let error = expand(Path::new(name)).err().unwrap().to_string();
            assert!(error.starts_with(name) && error.contains(part), "{error}");
        }
    }
}
