//! METEOR's data files, which this program does not bring: `meteor-1.5.jar` is a zip archive of them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use zip::ZipArchive;

use super::Meteor;
use super::normalize::normalize;
use super::paraphrases::Paraphrases;
use super::synonyms::Synonyms;
use crate::corpus::Corpus;

const JAR: &str = "meteor-1.5.jar";
const SYNSETS: &str = "synonym/english.synsets";
const EXCEPTIONS: &str = "synonym/english.exceptions";
const PARAPHRASES: &str = "paraphrase-en.gz";

/// Why METEOR's data could not be used. Each message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "{0}: has neither {1} nor {JAR}: give a folder with METEOR 1.5's jar and {PARAPHRASES}"
    )]
    Missing(PathBuf, &'static str),
    #[error("{0}: cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0}: is not as expected: {1}")]
    Damaged(PathBuf, String),
}

type Result<T> = std::result::Result<T, DataError>;

/// Reads everything; of the paraphrase table, which is large, what the corpus can use.
pub(super) fn load(folder: &Path, corpus: &Corpus) -> Result<Meteor> {
    let (path, synsets) = text(folder, SYNSETS)?;
    let (_, exceptions) = text(folder, EXCEPTIONS)?;
    let synonyms = Synonyms::read(&synsets, &exceptions);
    Ok(Meteor {
        name: "METEOR",
        synonyms: Some(synonyms.map_err(|error| DataError::Damaged(path, error))?),
        paraphrases: Some(read_paraphrases(folder, &vocabulary(corpus))?),
        ..Meteor::exact_stem()
    })
}

/// A text of the folder, or of the jar in it, and the file it stands in.
fn text(folder: &Path, name: &'static str) -> Result<(PathBuf, String)> {
    let path = folder.join(name);
    if path.is_file() {
        return match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(DataError::Unreadable(path, error)),
        };
    }
    let jar = folder.join(JAR);
    if !jar.is_file() {
        return Err(DataError::Missing(folder.to_path_buf(), name));
    }
    let read = || -> io::Result<String> {
        let mut text = String::new();
        ZipArchive::new(BufReader::new(File::open(&jar)?))?
            .by_name(name)?
            .read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok((jar, text)),
        Err(error) => Err(DataError::Unreadable(jar, error)),
    }
}

/// Every word that the corpus has after METEOR's normalisation.
fn vocabulary(corpus: &Corpus) -> FxHashSet<String> {
    corpus
        .images
        .par_iter()
        .fold(FxHashSet::default, |mut words, image| {
            for caption in std::iter::once(&image.candidate).chain(&image.references) {
                words.extend(normalize(&caption.text));
            }
            words
        })
        .reduce(FxHashSet::default, |mut words, more| {
            words.extend(more);
            words
        })
}

fn read_paraphrases(folder: &Path, vocabulary: &FxHashSet<String>) -> Result<Paraphrases> {
    let path = [
        folder.join(PARAPHRASES),
        folder.join("data").join(PARAPHRASES),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .ok_or_else(|| DataError::Missing(folder.to_path_buf(), PARAPHRASES))?;
    let read = || {
        let table = MultiGzDecoder::new(BufReader::new(File::open(&path)?));
        Paraphrases::read(BufReader::with_capacity(1 << 20, table), vocabulary)
    };
    read().map_err(|error| DataError::Unreadable(path.clone(), error))
}
