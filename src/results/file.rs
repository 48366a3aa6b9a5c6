//! A file of results that a run resumes where an earlier one was interrupted.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Format, Layout};
use crate::files::{self, Lock, Tried};

/// A file that grows by whole images.
#[derive(Debug)]
pub struct ResultsFile {
    path: PathBuf,
    /// Keeps other processes from writing to it.
    lock: Lock,
}

impl ResultsFile {
    /// Begins a file, or resumes one, and gives the names of the images that have their captions in it.
    ///
    /// What an interruption may have left is cut off: half a line, and the last image when it has fewer than
    /// `num_captions`. Images that failed are taken out, so that they are tried again.
    ///
    /// # Errors
    /// When the file is of another format, cannot be read or written, or is being written by another process.
    pub fn open(
        path: &Path,
        layout: Layout,
        num_captions: usize,
    ) -> Result<(Self, HashSet<String>)> {
        let mut lock = claim(path)?;
        let mut done = HashSet::new();
        let begun = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        if begun {
            let kept = read_back(path, layout, num_captions, &mut done)?;
            keep_only(path, &kept)?;
            if lock.is_effective && !files::is_at(lock.file(), path) {
                lock = claim(path)?; // it was written again
            }
        }
        Ok((Self::begin(path, lock, layout)?, done))
    }

    /// Begins a file again, whatever is in it.
    ///
    /// # Errors
    /// When it cannot be written, or is being written by another process.
    pub fn open_anew(path: &Path, layout: Layout) -> Result<Self> {
        let lock = claim(path)?;
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            (lock.file().set_len(0)).with_context(|| cannot_write(path))?;
        }
        Self::begin(path, lock, layout)
    }

    fn begin(path: &Path, lock: Lock, layout: Layout) -> Result<Self> {
        let mut results = Self {
            path: path.to_path_buf(),
            lock,
        };
        let empty = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
        if empty {
            results.append(&layout.head()?)?;
        }
        Ok(results)
    }

    /// Adds lines, at once.
    pub fn append(&mut self, lines: &str) -> Result<()> {
        let mut file = self.lock.file();
        file.write_all(lines.as_bytes())
            .with_context(|| cannot_write(&self.path))
    }
}

/// The file, for this process alone.
fn claim(path: &Path) -> Result<Lock> {
    loop {
        match Lock::try_take(path).with_context(|| cannot_write(path))? {
            Tried::Held(lock) if !lock.is_effective || files::is_at(lock.file(), path) => {
                return Ok(lock);
            }
            Tried::Held(_) => {} // it was replaced just now
            Tried::Taken(who) => bail!(
                "{}: {who} is writing to it: wait for it, or name another --output",
                path.display()
            ),
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {}: check its folder, permissions and free space",
        path.display()
    )
}

/// One caption or error of the file.
struct Record {
    /// Where it stands.
    bytes: Range<u64>,
    /// What the image may be called: text leaves it open which `: ` ends the name.
    names: Vec<String>,
    failed: bool,
}

/// The stretches of the file that are worth keeping; adds to `done` the images in them.
fn read_back(
    path: &Path,
    layout: Layout,
    num_captions: usize,
    done: &mut HashSet<String>,
) -> Result<Vec<Range<u64>>> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut reader = BufReader::new(File::open(path).with_context(cannot_read)?);
    let mut kept: Vec<Range<u64>> = Vec::new();
    // The captions of the last image so far.
    let mut last: Vec<Record> = Vec::new();
    let mut keep = |records: &mut Vec<Record>| {
        for record in records.drain(..) {
            match kept.last_mut() {
                Some(range) if range.end == record.bytes.start => range.end = record.bytes.end,
                _ => kept.push(record.bytes),
            }
            done.extend(record.names);
        }
    };
    let mut position = 0;
    for number in 1.. {
        let read = read_record(&mut reader, layout.format).with_context(cannot_read)?;
        let Some(text) = read else {
            break;
        };
        let bytes = position..position + text.len() as u64;
        position = bytes.end;
        let record = if number == 1 && !layout.head()?.is_empty() {
            head_record(&text, bytes, layout)
        } else {
            parse(&text, bytes, layout)
        };
        let Some(record) = record else {
            bail!(
                "{}: record {number} is none that this format of infer wrote: name another --output, or give --overwrite",
                path.display()
            );
        };
        if last
            .first()
            .is_some_and(|first| first.names.first() != record.names.first())
        {
            keep(&mut last);
        }
        if !record.failed {
            last.push(record);
        }
    }
    if last.len() >= num_captions || last.iter().all(|record| record.names.is_empty()) {
        keep(&mut last);
    }
    Ok(kept)
}

/// A whole line with its end, or a row of a table, whose fields may hold line ends between quotes.
fn read_record(reader: &mut impl BufRead, format: Format) -> io::Result<Option<Vec<u8>>> {
    let mut record = Vec::new();
    loop {
        reader.read_until(b'\n', &mut record)?;
        if !record.ends_with(b"\n") {
            return Ok(None);
        }
        let quotes = record.iter().filter(|&&byte| byte == b'"').count();
        if format != Format::Csv || quotes.is_multiple_of(2) {
            return Ok(Some(record));
        }
        if reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
    }
}

fn head_record(text: &[u8], bytes: Range<u64>, layout: Layout) -> Option<Record> {
    let head = layout.head().ok()?;
    (text == head.as_bytes()).then_some(Record {
        bytes,
        names: Vec::new(),
        failed: false,
    })
}

fn parse(text: &[u8], bytes: Range<u64>, layout: Layout) -> Option<Record> {
    let (names, failed) = match layout.format {
        Format::Text => {
            let line = std::str::from_utf8(text).ok()?;
            let ends = line.match_indices(": ");
            (
                ends.map(|(end, _)| line[..end].to_string()).collect(),
                false,
            )
        }
        Format::Jsonl => {
            let line: Value = serde_json::from_slice(text).ok()?;
            let name = line.get("image")?.as_str()?.to_string();
            (vec![name], line.get("error").is_some())
        }
        Format::Csv => {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(text);
            let row = reader.records().next()?.ok()?;
            if row.len() != layout.columns().len() {
                return None;
            }
            (vec![row[0].to_string()], !row[row.len() - 1].is_empty())
        }
    };
    (!names.is_empty()).then_some(Record {
        bytes,
        names,
        failed,
    })
}

/// Cuts everything but some stretches out of a file.
fn keep_only(path: &Path, kept: &[Range<u64>]) -> Result<()> {
    let mut source = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = source.metadata()?.len();
    match kept {
        [all] if *all == (0..length) => Ok(()),
        // Only an end is cut off, so nothing has to be moved.
        [] | [Range { start: 0, .. }] => {
            let end = kept.first().map_or(0, |range| range.end);
            let file = OpenOptions::new().write(true).open(path);
            file.and_then(|file| file.set_len(end))
                .with_context(|| cannot_write(path))
        }
        ranges => files::write_atomic(path, |writer| {
            for range in ranges {
                source.seek(SeekFrom::Start(range.start))?;
                let mut part = (&mut source).take(range.end - range.start);
                io::copy(&mut part, writer)?;
            }
            Ok(())
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::captioner::Caption;

    fn layout(format: Format) -> Layout {
        Layout {
            format,
            similarity: false,
            consensus: false,
        }
    }

    fn captions(texts: &[&str]) -> Vec<Caption> {
        let caption = |text: &&str| Caption {
            caption: text.to_string(),
            tokens: vec![1, 2],
            log_prob: -1.5,
            score: -0.75,
            similarity: None,
            consensus: None,
        };
        texts.iter().map(caption).collect()
    }

    /// A finished file of three images, two captions each, with one that failed before the last.
    fn whole(layout: Layout) -> String {
        let pair = captions(&["A \"red\" one, \n twice: yes.", "naïve 犬: no."]);
        [
            layout.head().unwrap(),
            layout.captions("a: b.png", &pair).unwrap(),
            layout.captions("c.png", &pair).unwrap(),
            layout.error("bad.png", "bad.png: is \"damaged\"").unwrap(),
            layout.captions("d.png", &pair).unwrap(),
        ]
        .concat()
    }

    const FORMATS: [Format; 3] = [Format::Text, Format::Jsonl, Format::Csv];
    const NAMES: [&str; 3] = ["a: b.png", "c.png", "d.png"];

    #[test]
    fn a_file_cut_anywhere_is_taken_up_again_and_ends_as_if_it_had_not_been() {
        for format in FORMATS {
            let layout = layout(format);
            let whole = whole(layout);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("results");
            let pair = captions(&["A \"red\" one, \n twice: yes.", "naïve 犬: no."]);
            for cut in 0..=whole.len() {
                fs::write(&path, &whole.as_bytes()[..cut]).unwrap();
                let (mut file, done) = ResultsFile::open(&path, layout, 2).unwrap();
                for name in NAMES {
                    if !done.contains(name) {
                        file.append(&layout.captions(name, &pair).unwrap()).unwrap();
                    }
                }
                let text = fs::read_to_string(&path).unwrap();
                let failed = layout.error("bad.png", "bad.png: is \"damaged\"").unwrap();
                let without = whole.replacen(&failed, "", usize::from(!failed.is_empty()));
                assert_eq!(text, without, "{format:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        for (written, opened) in [
            (Format::Jsonl, Format::Csv),
            (Format::Csv, Format::Jsonl),
            (Format::Text, Format::Jsonl),
            (Format::Text, Format::Csv),
        ] {
            let text = whole(layout(written));
            fs::write(&path, &text).unwrap();
            let error = ResultsFile::open(&path, layout(opened), 2).unwrap_err();
            assert!(error.to_string().contains("record 1"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "notes\n").unwrap();
        assert!(ResultsFile::open(&path, layout(Format::Text), 1).is_err());
    }

    #[test]
    fn a_file_is_written_by_one_at_a_time_and_begun_anew_when_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let layout = layout(Format::Csv);
        fs::write(&path, whole(layout)).unwrap();
        let (first, _) = ResultsFile::open(&path, layout, 2).unwrap();
        if first.lock.is_effective {
            for second in [
                ResultsFile::open(&path, layout, 2).map(|(file, _)| file),
                ResultsFile::open_anew(&path, layout),
            ] {
                let error = second.unwrap_err().to_string();
                assert!(error.contains("results.csv: another run"), "{error}");
            }
        }
        drop(first);
        ResultsFile::open_anew(&path, layout).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), layout.head().unwrap());
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error =
            ResultsFile::open(Path::new("no/such/file"), layout(Format::Jsonl), 1).unwrap_err();
        assert!(format!("{error:#}").contains("no/such/file"), "{error:#}");
    }
}
