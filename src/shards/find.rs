//! The shards that names stand for, those of them that this process takes, and where their records go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::Format;
use crate::data::shard_members::{is_shard, stem};
use crate::images::format::has_image_ending;
use crate::inputs::{braces, files, matching};
use crate::path_text::one_line;

/// A shard, and the folder of its name that is laid out again for outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardFile {
    pub path: PathBuf,
    root: PathBuf,
}

/// Every `count`-th shard, from the one at `index`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: usize,
    count: usize,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let number = |text: &str| text.trim().parse::<usize>().ok();
            Some((number(index)?, number(count)?))
        });
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((_, 0)) | None => Err(format!(
                "`{text}` is not a share: give I/N, such as 0/4 for the first of 4"
            )),
            Some((_, count)) => Err(format!(
                "`{text}` is not a share: they are counted from 0, so the last of {count} is {}/{count}",
                count - 1
            )),
        }
    }
}

impl Share {
    /// The shards of this share. The shares of a count have every shard between them, and none twice.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter()
            .skip(self.index)
            .step_by(self.count)
            .collect()
    }
}

/// A shard and the files that it is made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub shard: PathBuf,
    /// The records; there once the shard is finished.
    pub output: PathBuf,
    /// How it went; there once it finished or failed.
    pub stats: PathBuf,
}

/// Whether ranges in names of shards, as in `{000..999}.tar`, make sense.
///
/// # Errors
/// When one goes backward, or stands for too many names.
pub fn check_names(named: &[PathBuf]) -> Result<()> {
    let shards = named
        .iter()
        .filter(|name| is_shard(name) || is_parquet(name));
    for name in shards.filter(|name| !name.is_dir()) {
        braces::expand(name)?;
    }
    Ok(())
}

/// The shards that names stand for, in their order, none twice: shards, numbered names such as `{000..999}.tar`, quoted
/// patterns, and folders that hold shards and no images. `None` when the names stand for no shards.
///
/// # Errors
/// When some names stand for shards and others do not, or a folder cannot be listed.
pub fn find(named: &[PathBuf], recursive: bool) -> Result<Option<Vec<ShardFile>>> {
    let (mut shards, mut others) = (Vec::new(), None);
    for name in named {
        match find_one(name, recursive)? {
            Some(found) => shards.extend(found),
            None => others = Some(name),
        }
    }
    if shards.is_empty() {
        return Ok(None);
    }
    if let Some(other) = others {
        bail!(
            "{}: is no shard, as {} is: name shards in one command and images in another",
            one_line(other),
            one_line(&shards[0].path)
        );
    }
    let mut seen = std::collections::HashSet::new();
    shards.retain(|shard| seen.insert(shard.path.clone()));
    Ok(Some(shards))
}

fn find_one(name: &Path, recursive: bool) -> Result<Option<Vec<ShardFile>>> {
    if name.is_dir() {
        return in_folder(name, recursive);
    }
    if is_parquet(name) && !cfg!(feature = "parquet") {
        bail!(
            "{}: Parquet is not read by this build: build it with the feature `parquet`",
            one_line(name)
        );
    }
    if !is_shard(name) && !is_parquet(name) {
        return Ok(None);
    }
    let shard = |root: &Path, path: PathBuf| ShardFile {
        path,
        root: root.to_path_buf(),
    };
    if let Some((root, paths)) = braces::expand(name)? {
        return Ok(Some(paths.map(|path| shard(&root, path)).collect()));
    }
    if let Some((root, found)) = matching(name)? {
        let paths = found.collect::<Result<Vec<PathBuf>, _>>()?;
        return Ok(Some(paths.into_iter().map(|p| shard(&root, p)).collect()));
    }
    let root = name.parent().unwrap_or(Path::new(""));
    Ok(Some(vec![shard(root, name.to_path_buf())]))
}

/// Whether a file is Parquet by its name.
pub(super) fn is_parquet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"))
}

/// The shards in a folder; Parquet files are where there is no other, since img2dataset writes tables of metadata beside its
/// shards. `None` where images lie beside them, or none is there.
fn in_folder(folder: &Path, recursive: bool) -> Result<Option<Vec<ShardFile>>> {
    let (mut shards, mut tables) = (Vec::new(), Vec::new());
    for file in files(folder, recursive) {
        // What cannot be looked into is told by whoever reads the folder.
        let Ok(path) = file else { continue };
        let shard = |path| ShardFile {
            path,
            root: folder.to_path_buf(),
        };
        if is_shard(&path) {
            shards.push(shard(path));
        } else if cfg!(feature = "parquet") && is_parquet(&path) {
            tables.push(shard(path));
        } else if has_image_ending(&path) {
            return Ok(None);
        }
    }
    let found = match shards.is_empty() {
        true => tables,
        false => shards,
    };
    Ok((!found.is_empty()).then_some(found))
}

/// Where the records of shards go: under `output` with the shard's name, laid out as in the folder that was named.
///
/// # Errors
/// When two shards would have the same file.
pub fn jobs(shards: Vec<ShardFile>, output: &Path, format: Format) -> Result<Vec<Job>> {
    let mut owners: HashMap<PathBuf, PathBuf> = HashMap::with_capacity(shards.len());
    let mut jobs = Vec::with_capacity(shards.len());
    for ShardFile { path, root } in shards {
        let inside = path
            .strip_prefix(&root)
            .ok()
            .and_then(Path::parent)
            .with_context(|| format!("{}: has no name of its own", one_line(&path)))?;
        let base = output.join(inside).join(match is_parquet(&path) {
            true => path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            false => stem(&path),
        });
        let file = |ending: &str| {
            let mut name = base.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let job = Job {
            output: file(format.ending()),
            stats: file(".stats.json"),
            shard: path,
        };
        if let Some(other) = owners.insert(job.output.clone(), job.shard.clone()) {
            bail!(
                "{} and {} would both be written to {}: write them into two folders",
                one_line(&other),
                one_line(&job.shard),
                one_line(&job.output)
            );
        }
        jobs.push(job);
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(shards: &[ShardFile]) -> Vec<String> {
        let name = |shard: &ShardFile| shard.path.display().to_string().replace('\\', "/");
        shards.iter().map(name).collect()
    }

    #[test]
    fn shares_have_every_shard_between_them_and_none_twice() {
        for count in 1..7 {
            let share = |index| Share { index, count }.of((0..10).collect::<Vec<_>>());
            let mut all: Vec<usize> = (0..count).flat_map(share).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
        assert_eq!("1/3".parse(), Ok(Share { index: 1, count: 3 }));
        for (text, part) in [
            ("3/3", "the last of 3 is 2/3"),
            ("1", "give I/N"),
            ("0/0", "give I/N"),
            ("-1/3", "give I/N"),
            ("/", "give I/N"),
        ] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_stand_for_shards_and_outputs_are_laid_out_like_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "a/1.tar",
            "a/0.tar.gz",
            "a/sub/0.tar",
            "a/x.json",
            "mixed/0.tar",
            "mixed/0.png",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        let found = |name: &str, recursive| find(&[root.join(name)], recursive).unwrap();
        let inside = |found: Option<Vec<ShardFile>>| {
            let jobs = jobs(found.unwrap(), Path::new("out"), Format::Jsonl).unwrap();
            let output = |job: &Job| job.output.display().to_string().replace('\\', "/");
            jobs.iter().map(output).collect::<Vec<_>>()
        };
        assert_eq!(inside(found("a", false)), ["out/0.jsonl", "out/1.jsonl"]);
        let all = ["out/0.jsonl", "out/1.jsonl", "out/sub/0.jsonl"];
        assert_eq!(inside(found("a", true)), all);
        assert_eq!(inside(found("a/*.tar", false)), ["out/1.jsonl"]);
        assert_eq!(
            inside(found("a/{0..2}.tar", false)),
            ["out/0.jsonl", "out/1.jsonl", "out/2.jsonl"]
        );
        assert_eq!(inside(found("a/none.tar", false)), ["out/none.jsonl"]);
        assert_eq!(found("mixed", false), None);
        assert_eq!(found("mixed/0.png", false), None);

        let twice = find(&[root.join("a/1.tar"), root.join("a/1.tar")], false)
            .unwrap()
            .unwrap();
        assert_eq!(names(&twice).len(), 1);
        let both = find(&[root.join("a/1.tar"), root.join("mixed/0.png")], false);
        assert!(both.unwrap_err().to_string().contains("0.png: is no shard"));
        let same = find(&[root.join("a/0.tar.gz"), root.join("mixed/0.tar")], false).unwrap();
        let error = jobs(same.unwrap(), Path::new("out"), Format::Jsonl).unwrap_err();
        assert!(
            error.to_string().contains("would both be written to"),
            "{error}"
        );
    }
}
