//! Captions in COCO's results format, which is one list: the file is whole whenever it is there.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::Place;
use crate::data::coco::{CaptionResult, ImageId, write_results};
use crate::evaluate::ids::ImageIds;
use crate::files::LockBeside;
use crate::inputs::Input;
use crate::path_text;

/// After so many captions the file is written again.
const SAVE_EVERY: usize = 1000;

/// A list of captions that grows.
#[derive(Debug)]
pub struct CocoResults {
    path: Option<PathBuf>,
    /// Keeps other processes from writing to it.
    _lock: Option<LockBeside>,
    ids: Arc<ImageIds>,
    results: Vec<CaptionResult>,
    unsaved: usize,
}

/// Which images want a caption.
#[derive(Debug)]
pub struct CocoWanted {
    ids: Arc<ImageIds>,
    done: HashSet<ImageId>,
    /// Which image of this run an id belongs to.
    owners: HashMap<ImageId, PathBuf>,
}

impl CocoResults {
    /// Begins a list, or resumes the one that is in `path` unless it is to be overwritten; tells also which images it lacks.
    ///
    /// # Errors
    /// When the file cannot be read, is of another format, or is being written by another process.
    pub fn open(
        path: Option<PathBuf>,
        ids: ImageIds,
        overwrite: bool,
    ) -> Result<(Self, CocoWanted)> {
        // Pipes and devices are for everybody.
        let file = path
            .as_deref()
            .filter(|path| path.is_file() || !path.exists());
        let lock = file.map(LockBeside::take).transpose()?;
        let results = match &path {
            Some(path) if !overwrite => read_back(path)?,
            _ => Vec::new(),
        };
        let ids = Arc::new(ids);
        let wanted = CocoWanted {
            ids: ids.clone(),
            done: results
                .iter()
                .map(|result| result.image_id.clone())
                .collect(),
            owners: HashMap::new(),
        };
        let results = Self {
            path,
            _lock: lock,
            ids,
            results,
            unsaved: 0,
        };
        Ok((results, wanted))
    }

    /// Adds an image's caption.
    ///
    /// # Errors
    /// When the image has no id, or the file cannot be written.
    pub fn push(&mut self, image: &Path, caption: &str) -> Result<()> {
        let image_id = match self.ids.of(&path_text::text(image)) {
            Ok(id) => id,
            Err(reason) => bail!("{}: {reason}", path_text::one_line(image)),
        };
        self.results.push(CaptionResult {
            image_id,
            caption: caption.to_string(),
        });
        self.unsaved += 1;
        if self.unsaved >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.unsaved = 0;
        match &self.path {
            Some(path) => write_results(path, &self.results),
            None => Ok(()),
        }
    }

    /// Writes what is not written yet: into the file, or without one to `out`.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn finish(&mut self, out: &mut dyn Write) -> Result<()> {
        if self.path.is_some() {
            return self.save();
        }
        serde_json::to_writer(&mut *out, &self.results)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
            .and_then(|()| out.flush())
            .context("writing to standard output")
    }
}

fn read_back(path: &Path) -> Result<Vec<CaptionResult>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| {
        anyhow::anyhow!(
            "{}: is not a list of COCO results ({error}): name another --output, or give --overwrite",
            path.display()
        )
    })
}

impl CocoWanted {
    /// Whether an image wants a caption; what is written has no file of its own.
    pub fn place(&mut self, input: &Input) -> Place {
        let image = path_text::one_line(&input.path);
        let id = match self.ids.of(&path_text::text(&input.path)) {
            Ok(id) => id,
            Err(reason) => return Place::Refused(format!("{image}: {reason}")),
        };
        match self.owners.get(&id) {
            Some(owner) if *owner == input.path => return Place::Kept,
            Some(owner) => {
                let owner = path_text::one_line(owner);
                return Place::Refused(format!("{image}: has the id {id}, as {owner} has"));
            }
            None => {}
        }
        self.owners.insert(id.clone(), input.path.clone());
        match self.done.contains(&id) {
            true => Place::Kept,
            false => Place::Write(PathBuf::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str) -> Input {
        Input::file(path.into(), None)
    }

    #[test]
    fn a_list_is_written_whole_and_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let open = || CocoResults::open(Some(path.clone()), ImageIds::default(), false).unwrap();
        let (mut results, mut wanted) = open();
        assert!(matches!(
            wanted.place(&input("a/0012.jpg")),
            Place::Write(_)
        ));
        results.push(Path::new("a/0012.jpg"), "A \"dog\".").unwrap();
        results.finish(&mut Vec::new()).unwrap();
        drop(results);

        let (mut results, mut wanted) = open();
        assert_eq!(wanted.place(&input("12.jpg")), Place::Kept);
        assert!(matches!(wanted.place(&input("13.jpg")), Place::Write(_)));
        results.push(Path::new("13.jpg"), "Two.").unwrap();
        results.finish(&mut Vec::new()).unwrap();
        drop(results);
        let text = std::fs::read_to_string(&path).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([
            {"image_id": 12, "caption": "A \"dog\"."}, {"image_id": 13, "caption": "Two."}
        ]);
        assert_eq!(found, expected);

        std::fs::write(&path, "{\"image\": 1}\n").unwrap();
        let error = CocoResults::open(Some(path.clone()), ImageIds::default(), false).unwrap_err();
        assert!(error.to_string().contains("--overwrite"), "{error}");
    }

    #[test]
    fn without_a_file_the_list_goes_out_at_the_end() {
        let (mut results, mut wanted) =
            CocoResults::open(None, ImageIds::default(), false).unwrap();
        results
            .push(Path::new("COCO_val2014_000000000007.jpg"), "A dog.")
            .unwrap();
        let mut out = Vec::new();
        results.finish(&mut out).unwrap();
        assert_eq!(out, b"[{\"image_id\":7,\"caption\":\"A dog.\"}]\n");

        assert!(matches!(wanted.place(&input("a/7.jpg")), Place::Write(_)));
        assert_eq!(wanted.place(&input("a/7.jpg")), Place::Kept);
        for (name, part) in [("b/7.png", "as a/7.jpg has"), ("dog.jpg", "--ids")] {
            let Place::Refused(reason) = wanted.place(&input(name)) else {
                panic!("{name} is not refused");
            };
            assert!(
                reason.starts_with(name) && reason.contains(part),
                "{reason}"
            );
        }
    }
}
