//! Published data sets that come as one archive: downloaded, checked, unpacked.
//!
//! A download that was cut off is resumed, in the same call or the next. What does not have the published checksum is
//! not unpacked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::GzDecoder;
use md5::{Digest, Md5};

use super::Watch;
use super::retry::retrying;
use crate::files::{self, Lock};

const CHUNK: usize = 1 << 16;

/// Where a data set is and what it is like.
#[derive(Clone, Debug)]
pub struct Archive {
    pub name: &'static str,
    pub about: &'static str,
    /// A gzipped tar file.
    pub url: String,
    /// Checksum of the archive, as its publisher, or torchvision 0.29, gives it.
    pub md5: &'static str,
    /// The folder in it.
    pub folder: &'static str,
    /// How long a lost connection is left alone, doubled each time.
    pub patience: Duration,
}

/// The data sets that can be fetched.
pub fn known() -> [Archive; 2] {
    let archive = |name, about, url: &str, md5, folder| Archive {
        name,
        about,
        url: url.to_string(),
        md5,
        folder,
        patience: Duration::from_millis(500),
    };
    [
        archive(
            "cifar10",
            "CIFAR-10: 60,000 images of 32 pixels in 10 classes, 170 MB",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
        ),
        archive(
            "stl10",
            "STL-10: 13,000 images of 96 pixels in 10 classes, 100,000 without, 2.6 GB",
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "91f7769df0f17e558f3565bffb0c7dfb",
            "stl10_binary",
        ),
    ]
}

/// Downloads an archive unless it was, and unpacks it below `dataset`. Returns the data set's folder.
///
/// # Errors
/// When the server is out of reach or refuses, the disk is full, or the checksum is another.
pub fn fetch(archive: &Archive, dataset: &Path, watch: &dyn Watch) -> Result<PathBuf> {
    let folder = dataset.join(archive.folder);
    if folder.is_dir() {
        watch.note(&format!("{} is there already", folder.display()));
        return Ok(folder);
    }
    files::create_dir(dataset)?;
    let part = dataset.join(format!("{}.tar.gz.part", archive.folder));
    let _lock = claim(&part, watch)?;
    if folder.is_dir() {
        let _ = fs::remove_file(&part); // made by waiting for it
        watch.note(&format!("{} was fetched by another run", folder.display()));
        return Ok(folder);
    }
    download(archive, &part, watch).inspect_err(|_| remove_empty(&part))?;
    check(archive, &part)?;
    watch.note(&format!("unpacking {}", folder.display()));
    unpack(archive, &part, &folder)?;
    let _ = fs::remove_file(&part); // what is left of it does no harm
    Ok(folder)
}

/// The part, for this process alone: one that another process is filling is waited for.
fn claim(part: &Path, watch: &dyn Watch) -> Result<Lock> {
    loop {
        let lock = Lock::wait(part, &|line| watch.note(line))?;
        if !lock.is_effective || files::is_at(lock.file(), part) {
            return Ok(lock);
        }
    }
}

/// A part that nothing has come of yet is not worth keeping.
fn remove_empty(part: &Path) {
    if fs::metadata(part).is_ok_and(|metadata| metadata.len() == 0) {
        let _ = fs::remove_file(part);
    }
}

fn download(archive: &Archive, part: &Path, watch: &dyn Watch) -> Result<()> {
    let lost = |failure: &Failure| match failure {
        Failure::Cut(reason) => Some(reason.clone()),
        Failure::Final(_) => None,
    };
    retrying(
        archive.patience,
        watch,
        &archive.url,
        || attempt(archive, part, watch),
        lost,
    )
    .map_err(|failure| match failure {
        Failure::Final(error) => error,
        Failure::Cut(reason) => anyhow!(
            "{}: the connection was lost: {reason}: what has come is kept, run the command again to resume",
            archive.url
        ),
    })
}

/// Whether it makes sense to try again.
enum Failure {
    Cut(String),
    Final(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Final(error)
    }
}

/// Goes on where the part ends.
fn attempt(archive: &Archive, part: &Path, watch: &dyn Watch) -> Result<(), Failure> {
    let there = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = ureq::get(&archive.url);
    if there > 0 {
        request = request.header("Range", format!("bytes={there}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        // Nothing is left to come.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        Err(ureq::Error::StatusCode(status @ 500..)) => {
            return Err(Failure::Cut(format!("the server answers {status}")));
        }
        Err(error) => {
            let error = anyhow!(
                "{} is out of reach: {error}: check the connection, or download it by other means and unpack it so that {} is there",
                archive.url,
                part.with_file_name(archive.folder).display()
            );
            return Err(error.into());
        }
    };
    // A server that does not go on begins again.
    let start = if response.status() == 206 { there } else { 0 };
    let rest = response
        .headers()
        .get("content-length")
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let cannot_write = || {
        format!(
            "cannot write {}: check permissions and free space",
            part.display()
        )
    };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(start == 0)
        .append(start > 0)
        .open(part)
        .with_context(cannot_write)?;
    watch.begin(archive.name, start + rest.unwrap_or(0));
    watch.advance(start);
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; CHUNK];
    let mut came = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                file.write_all(&buffer[..read]).with_context(cannot_write)?;
                came += read as u64;
                watch.advance(read as u64);
            }
            Err(error) => return Err(Failure::Cut(error.to_string())),
        }
    }
    match rest {
        Some(rest) if came < rest => Err(Failure::Cut(format!("{came} of {rest} bytes came"))),
        _ => {
            watch.end();
            Ok(())
        }
    }
}

/// A file with another checksum is removed.
fn check(archive: &Archive, part: &Path) -> Result<()> {
    let mut hash = Md5::new();
    let mut file = File::open(part).with_context(|| format!("cannot read {}", part.display()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", part.display()))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let found = files::hex(&hash.finalize());
    if found == archive.md5 {
        return Ok(());
    }
    fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))?;
    bail!(
        "{} is not what was published: its MD5 is {found}, not {}: it was removed, fetch it again",
        archive.url,
        archive.md5
    )
}

/// Unpacks the archive's folder; it is there whole, or not at all.
fn unpack(archive: &Archive, part: &Path, folder: &Path) -> Result<()> {
    files::write_folder(folder, |temporary| {
        let file = File::open(part).with_context(|| format!("cannot read {}", part.display()))?;
        let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
        let damaged = || format!("{} is damaged: delete it and fetch again", part.display());
        for entry in tar.entries().with_context(damaged)? {
            let mut entry = entry.with_context(damaged)?;
            let path = entry.path().with_context(damaged)?.into_owned();
            // Files right below the folder; nothing in an archive may lead elsewhere.
            let (Some(name), true) = (path.file_name(), entry.header().entry_type().is_file())
            else {
                continue;
            };
            let target = temporary.join(name);
            let mut out = File::create(&target)
                .with_context(|| format!("cannot write {}", target.display()))?;
            io::copy(&mut entry, &mut out).with_context(|| {
                format!("cannot unpack {} to {}", archive.name, target.display())
            })?;
        }
        Ok(())
    })
}
