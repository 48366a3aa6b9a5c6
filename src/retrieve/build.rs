//! Building a datastore, so that nothing finished is lost: embeddings are appended to the files of a partial segment as they
//! come, each with its checksum, and a run that was cut off goes on after the last whole one.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::manifest::{self, Encoder, Known, Manifest};
use super::segment::{self, Line};
use super::{Datastore, Entry, Kind};
use crate::files::{self, Lock};
use crate::vector::normalized;

/// A datastore that is being built; one process at a time.
pub struct Builder {
    folder: PathBuf,
    pub(super) manifest: Manifest,
    /// What is there already, partial or finished.
    known: HashSet<Entry>,
    pub(super) partial: Partial,
    /// Entries that an earlier run that was cut off had got done.
    pub resumed: usize,
    _lock: Lock,
}

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Entries in all.
    pub entries: usize,
    /// Those that this run, or one that it went on from, added.
    pub added: usize,
    /// Whether a graph is searched.
    pub has_graph: bool,
}

impl Builder {
    /// Begins a datastore, goes on with one whose building was cut off, or with `append` adds to a finished one. `adding` says
    /// what is added, and tells a build from others; `note` is told when another process is waited for.
    ///
    /// # Errors
    /// When there is a finished one and nothing is to be added to it, one of other things or of another encoder, one to which
    /// something else was being added, or the folder cannot be written.
    pub fn open(
        folder: &Path,
        kind: Kind,
        encoder: Encoder,
        append: bool,
        adding: &str,
        note: &dyn Fn(&str),
    ) -> Result<Self> {
        if !folder.join(manifest::FILE).is_file() {
            files::check_free(folder)?;
        }
        files::create_dir(folder)?;
        let lock = Lock::wait(folder, note)?;
        let (mut manifest, mut known) = (Manifest::new(kind, encoder.clone()), HashSet::new());
        if folder.join(manifest::FILE).is_file() {
            manifest = Manifest::open(folder)?;
            manifest.check_encoder(folder, &encoder)?;
            if manifest.kind != kind {
                bail!(
                    "{} holds {}, and {kind} are to be added: name another folder",
                    folder.display(),
                    manifest.kind
                );
            }
            if let Some(before) = manifest.adding.as_deref().filter(|_| manifest.unfinished) {
                ensure!(
                    before == adding,
                    "{}: adding {before} was interrupted: finish that first by the same command, or delete the folder",
                    folder.display()
                );
            }
            if !manifest.segments.is_empty() {
                ensure!(
                    append || manifest.unfinished,
                    "{} is a datastore of {} {kind} already: add to it with --append, delete it, or name another folder",
                    folder.display(),
                    manifest.len()
                );
                let datastore = Datastore::open(folder)?;
                known.extend((0..datastore.len()).map(|row| datastore.entry(row).clone()));
            }
        }
        manifest.unfinished = true;
        manifest.adding = Some(adding.to_string());
        manifest.write(folder)?;
        let number = manifest.segments.len();
        let (partial, found) = Partial::open(folder, number, encoder.width)?;
        let resumed = found.len();
        known.extend(found);
        Ok(Self {
            folder: folder.to_path_buf(),
            manifest,
            known,
            partial,
            resumed,
            _lock: lock,
        })
    }

    /// Whether an entry is there, and need not be embedded.
    pub fn has(&self, entry: &Entry) -> bool {
        self.known.contains(entry)
    }

    /// Appends entries with their embeddings, of any length; those that are there are passed over.
    ///
    /// # Errors
    /// When a file cannot be written, or an embedding has another width or no direction.
    pub fn add(&mut self, rows: impl IntoIterator<Item = (Entry, Vec<f32>)>) -> Result<()> {
        let width = self.manifest.encoder.width;
        let (mut embeddings, mut lines) = (Vec::new(), Vec::new());
        for (entry, row) in rows {
            if self.known.contains(&entry) {
                continue;
            }
            let what = &entry.entry;
            ensure!(
                row.len() == width,
                "{what}: an embedding of {} values, where others have {width}",
                row.len()
            );
            let row = normalized(&row);
            ensure!(
                row.iter().all(|value| value.is_finite()) && row.iter().any(|&value| value != 0.0),
                "{what}: its embedding is zero or not a number: check the model"
            );
            let line = Line {
                entry: entry.clone(),
                crc32c: segment::checksum(&row),
            };
            embeddings.extend(segment::bytes(&row));
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
            self.partial.entries += 1;
            self.known.insert(entry);
        }
        self.partial.append(&embeddings, &lines)
    }

    /// Makes what was added a finished segment, and from `exact_below` entries on a graph of all. `progress` is told of the
    /// graph's nodes, now and then.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no entry at all.
    pub fn finish(mut self, exact_below: usize, progress: &dyn Fn(&str)) -> Result<Built> {
        let added = self.partial.entries;
        let known = self.partial.finish()?;
        if let Some(known) = known {
            self.manifest.segments.push(known);
            self.manifest.write(&self.folder)?;
        }
        let entries = self.manifest.len();
        if entries == 0 {
            let _ = fs::remove_file(self.folder.join(manifest::FILE));
            bail!(
                "{}: nothing could be embedded, so there is no datastore",
                self.folder.display()
            );
        }
        let has_graph = entries >= exact_below || self.manifest.graph.is_some();
        if has_graph {
            self.extend_graph(progress)?;
        }
        self.manifest.unfinished = false;
        self.manifest.adding = None;
        self.manifest.write(&self.folder)?;
        Ok(Built {
            entries,
            added,
            has_graph,
        })
    }

    fn extend_graph(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let mut datastore = Datastore::open(&self.folder)?;
        let graph = datastore.graph.take().unwrap_or_default();
        let total = datastore.len();
        graph.extend(datastore.rows(), &self.folder, |known| {
            progress(&format!("graph of {} of {total} entries", known.entries));
            self.manifest.graph = Some(known);
            self.manifest.write(&self.folder)
        })
    }
}

/// The files of a segment that is not finished.
pub(super) struct Partial {
    folder: PathBuf,
    number: usize,
    embeddings: File,
    lines: File,
    entries: usize,
}

impl Partial {
    /// Opens the files of a segment, made if need be, cut after their last whole entry; and the entries.
    fn open(folder: &Path, number: usize, width: usize) -> Result<(Self, Vec<Entry>)> {
        let names = segment::names(number);
        for name in &names {
            // A run was cut off between renaming them and saying so.
            if folder.join(name).is_file() {
                rename(&folder.join(name), &partial(folder, name))?;
            }
        }
        let [embeddings, lines] = names.map(|name| partial(folder, &name));
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(path)
                .with_context(|| cannot_write(path))
        };
        let (rows, text) = (open(&embeddings)?, open(&lines)?);
        let (entries, length) = whole_entries(&rows, &text, width)
            .with_context(|| format!("cannot read {}", lines.display()))?;
        rows.set_len((4 * width * entries.len()) as u64)
            .with_context(|| cannot_write(&embeddings))?;
        text.set_len(length).with_context(|| cannot_write(&lines))?;
        let partial = Self {
            folder: folder.to_path_buf(),
            number,
            embeddings: rows,
            lines: text,
            entries: entries.len(),
        };
        Ok((partial, entries))
    }

    /// Embeddings first: a line is of what is there.
    fn append(&mut self, embeddings: &[u8], lines: &[u8]) -> Result<()> {
        self.embeddings
            .write_all(embeddings)
            .and_then(|()| self.lines.write_all(lines))
            .with_context(|| cannot_write(&self.folder))
    }

    /// Gives the files their names; `None` where there is nothing in them.
    pub(super) fn finish(&mut self) -> Result<Option<Known>> {
        let names = segment::names(self.number);
        if self.entries == 0 {
            for name in &names {
                let _ = fs::remove_file(partial(&self.folder, name));
            }
            return Ok(None);
        }
        for file in [&self.embeddings, &self.lines] {
            file.sync_all()
                .with_context(|| cannot_write(&self.folder))?;
        }
        let text = partial(&self.folder, &names[1]);
        let bytes = fs::read(&text).with_context(|| format!("cannot read {}", text.display()))?;
        for name in &names {
            rename(&partial(&self.folder, name), &self.folder.join(name))?;
        }
        Ok(Some(Known {
            entries: self.entries,
            crc32c: crc32c::crc32c(&bytes),
        }))
    }
}

/// The entries whose line and embedding are whole, up to the first that is not, and the length of their lines.
fn whole_entries(mut rows: &File, mut text: &File, width: usize) -> io::Result<(Vec<Entry>, u64)> {
    let mut lines = Vec::new();
    text.read_to_end(&mut lines)?;
    let mut reader = io::BufReader::new(&mut rows);
    let (mut entries, mut length) = (Vec::new(), 0);
    let mut row = vec![0; 4 * width];
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let Ok(Line { entry, crc32c }) = serde_json::from_slice(line) else {
            break;
        };
        let is_whole = line.ends_with(b"\n")
            && reader.read_exact(&mut row).is_ok()
            && crc32c::crc32c(&row) == crc32c;
        if !is_whole {
            break;
        }
        entries.push(entry);
        length += line.len() as u64;
    }
    Ok((entries, length))
}

fn partial(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.partial"))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| cannot_write(to))
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {}: check permissions and free space",
        path.display()
    )
}
