//! A set of embeddings on disk.
//!
//! While they are computed, rows are appended to `<key>.partial`, which one process at a time has locked, so that a run that
//! is cut off goes on where it was, and two at once share the work. A whole set is `<key>.safetensors`, with the sha256 of its
//! values, which is checked whenever it is read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{BATCH, Progress};
use crate::captioner::model_folder::ModelFolder;
use crate::data::embedding_file::{self, Embedding, EmbeddingFile};
use crate::files::{self, Lock};

/// The files of one set of embeddings.
pub struct Cache {
    whole: PathBuf,
    partial: PathBuf,
    width: usize,
    count: usize,
}

impl Cache {
    /// The set that goes by this hash, in a folder that is made if need be.
    pub fn new(folder: &Path, hash: Sha256, model: &ModelFolder, count: usize) -> Result<Self> {
        files::create_dir(folder)?;
        let width = model.embedding_dim()?;
        Ok(Self::named(
            folder,
            &files::hex(&hash.finalize()[..12]),
            width,
            count,
        ))
    }

    fn named(folder: &Path, key: &str, width: usize, count: usize) -> Self {
        Self {
            whole: folder.join(format!("{key}.safetensors")),
            partial: folder.join(format!("{key}.partial")),
            width,
            count,
        }
    }

    /// Makes the whole file, unless it is there: from the partial one, and `embed` for what it lacks.
    pub fn fill(
        &self,
        progress: &dyn Progress,
        mut embed: impl FnMut(Range<usize>) -> Result<Vec<Option<Vec<f32>>>>,
    ) -> Result<()> {
        if self.whole.is_file() {
            progress.done(self.count);
            return Ok(());
        }
        let Some(partial) = self.claim(progress)? else {
            progress.done(self.count);
            return Ok(());
        };
        let mut file = partial.file();
        let mut done = (self.cut_to_rows(file)).with_context(|| cannot_write(&self.partial))?;
        while done < self.count {
            let rows = embed(done..self.count.min(done + BATCH))?;
            let bytes = rows
                .iter()
                .flat_map(|row| embedding_file::bytes(row.as_deref(), self.width));
            let bytes: Vec<u8> = bytes.collect();
            file.write_all(&bytes)
                .with_context(|| cannot_write(&self.partial))?;
            done += rows.len();
            progress.done(done);
        }
        embedding_file::write(&self.whole, self.count, self.width, |give| {
            let mut given = Ok(());
            embedding_file::scan(partial.reader()?, self.width, |row| {
                if given.is_ok() {
                    given = give(row);
                }
            })?;
            given
        })?;
        // What is left of it does no harm.
        let _ = fs::remove_file(&self.partial);
        Ok(())
    }

    /// The partial file, for this process alone; `None` when another one has made the whole file in the meantime.
    fn claim(&self, progress: &dyn Progress) -> Result<Option<Partial>> {
        loop {
            let lock = Lock::wait(&self.partial, &|line| progress.waiting(line))
                .with_context(|| cannot_write(&self.partial))?;
            if self.whole.is_file() {
                // It may have been made again by waiting for it.
                let _ = fs::remove_file(&self.partial);
                return Ok(None);
            }
            if !lock.is_effective {
                let folder = self.partial.parent().unwrap_or(Path::new("."));
                let file = tempfile::tempfile_in(folder);
                let file = file.with_context(|| cannot_write(folder))?;
                return Ok(Some(Partial::Own(file)));
            }
            if files::is_at(lock.file(), &self.partial) {
                return Ok(Some(Partial::Shared(lock, self.partial.clone())));
            }
        }
    }

    /// The rows that an earlier run got done; a row cut short is done again.
    fn cut_to_rows(&self, file: &File) -> io::Result<usize> {
        let row = 4 * self.width as u64;
        let done = (file.metadata()?.len() / row).min(self.count as u64);
        file.set_len(done * row)?;
        Ok(done as usize)
    }

    /// The rows of the whole file.
    pub fn rows(&self) -> Result<Vec<Option<Embedding>>> {
        Ok(EmbeddingFile::open(&self.whole, self.count, self.width)?.rows())
    }

    /// Writes the whole file again, with some of its rows in the places of those before.
    pub fn replace(
        &self,
        rows: &[Option<Embedding>],
        found: &HashMap<usize, Vec<f32>>,
    ) -> Result<()> {
        embedding_file::write(&self.whole, self.count, self.width, |give| {
            for (place, before) in rows.iter().enumerate() {
                let row = match (found.get(&place), before) {
                    (Some(row), _) => Some(row.clone()),
                    (None, Some(row)) => Some(row.read().map_err(io::Error::other)?),
                    (None, None) => None,
                };
                give(&embedding_file::bytes(row.as_deref(), self.width))?;
            }
            Ok(())
        })
    }
}

/// Rows on their way into a whole file.
enum Partial {
    /// Any process may resume it, one at a time.
    Shared(Lock, PathBuf),
    /// Where files cannot be locked: nobody else sees it.
    Own(File),
}

impl Partial {
    /// Takes rows at its end.
    fn file(&self) -> &File {
        match self {
            Self::Shared(lock, _) => lock.file(),
            Self::Own(file) => file,
        }
    }

    /// The rows from the first on.
    fn reader(&self) -> io::Result<File> {
        match self {
            Self::Shared(_, path) => File::open(path),
            Self::Own(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            }
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {}: check permissions and free space",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path, count: usize) -> Cache {
        Cache::named(folder, "key", 2, count)
    }

    fn read(cache: &Cache) -> Vec<Option<Vec<f32>>> {
        let rows = cache.rows().unwrap().into_iter();
        rows.map(|row| Some(row?.read().unwrap())).collect()
    }

    /// Embeds place `i` as `[i, 0.5]`, and place 1 not at all; notes what it was asked for.
    fn fill(cache: &Cache) -> Vec<(usize, usize)> {
        let mut asked = Vec::new();
        cache
            .fill(&|_: usize| (), |part| {
                asked.push((part.start, part.end));
                let row = |i| (i != 1).then(|| vec![i as f32, 0.5]);
                Ok(part.map(row).collect())
            })
            .unwrap();
        asked
    }

    #[test]
    fn what_was_embedded_is_read_and_not_embedded_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 3);
        assert_eq!(fill(&cache), vec![(0, 3)]);
        let expected = [Some(vec![0.0, 0.5]), None, Some(vec![2.0, 0.5])];
        assert_eq!(read(&cache), expected);
        assert!(fill(&cache).is_empty());
        let found = HashMap::from([(1, vec![7.0, 8.0])]);
        cache.replace(&cache.rows().unwrap(), &found).unwrap();
        assert_eq!(
            read(&cache)[1..],
            [Some(vec![7.0, 8.0]), expected[2].clone()]
        );
    }

    #[test]
    fn a_process_that_comes_second_waits_and_uses_what_the_first_made() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (cache(folder.path(), 3), cache(folder.path(), 3));
        let Some(Partial::Shared(lock, _)) = first.claim(&|_: usize| ()).unwrap() else {
            return; // this file system has no locks
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || fill(&second));
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(!waiting.is_finished());
            let rows = [1.0_f32, 2.0, 3.0];
            embedding_file::write(&first.whole, 3, 2, |give| {
                let row = |value: &f32| embedding_file::bytes(Some(&[*value, 0.5]), 2);
                rows.iter().try_for_each(|value| give(&row(value)))
            })
            .unwrap();
            fs::remove_file(&first.partial).unwrap();
            drop(lock);
            assert!(waiting.join().unwrap().is_empty(), "nothing was embedded");
        });
        assert_eq!(read(&first)[2], Some(vec![3.0, 0.5]));
        assert!(!first.partial.exists());
    }

    #[test]
    fn what_was_cut_off_goes_on_after_its_last_whole_row() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 4);
        let mut bytes = embedding_file::bytes(Some(&[9.0, 9.0]), 2);
        bytes.extend([7, 7, 7]);
        fs::write(folder.path().join("key.partial"), bytes).unwrap();
        assert_eq!(fill(&cache), vec![(1, 4)]);
        let rows = read(&cache);
        assert_eq!(rows[0], Some(vec![9.0, 9.0]));
        assert_eq!(rows[3], Some(vec![3.0, 0.5]));
    }
}
