//! Folders of good, bad, hostile and odd entries, and what is to become of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clipcap::path_text;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::image_files::{cut, heic, huge_png, jpeg, panicking_tiff, png, write};

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is an image that is read.
    Read,
    /// It is an error with this in it.
    Refused(&'static str),
    /// It is no image, and counted with its like.
    Other,
}

/// The entries by their paths. What is hidden is not among them.
pub type Entries = BTreeMap<PathBuf, Fate>;

/// Writes an entry of a folder that is called by a number.
type Make = fn(&Path, u32) -> Vec<(PathBuf, Fate)>;

fn entry(path: PathBuf, bytes: Vec<u8>, fate: Fate) -> Vec<(PathBuf, Fate)> {
    write(&path, &bytes);
    vec![(path, fate)]
}

fn read(path: PathBuf, bytes: Vec<u8>) -> Vec<(PathBuf, Fate)> {
    entry(path, bytes, Fate::Read)
}

fn refused(path: PathBuf, bytes: Vec<u8>, reason: &'static str) -> Vec<(PathBuf, Fate)> {
    entry(path, bytes, Fate::Refused(reason))
}

fn other(path: PathBuf, bytes: Vec<u8>) -> Vec<(PathBuf, Fate)> {
    entry(path, bytes, Fate::Other)
}

fn hidden(path: PathBuf, bytes: Vec<u8>) -> Vec<(PathBuf, Fate)> {
    write(&path, &bytes);
    Vec::new()
}

const KINDS: [Make; 22] = [
    |folder, n| read(folder.join(format!("{n}.png")), png(n)),
    |folder, n| read(folder.join(format!("{n}.JPG")), jpeg(n)),
    |folder, n| read(folder.join(format!("{n}.jfif")), jpeg(n)),
    |folder, n| read(folder.join(format!("{n} without an ending")), png(n)),
    |folder, n| read(folder.join(format!("{n}.txt.really")), png(n)),
    |folder, n| read(folder.join(format!("{n}.png/inside.png")), png(n)),
    |folder, n| read(folder.join(format!("{n} a\nb: c.png")), png(n)),
    |folder, n| {
        refused(
            folder.join(format!("{n}.jpg")),
            cut(jpeg(n)),
            "is damaged: it is cut short",
        )
    },
    |folder, n| {
        refused(
            folder.join(format!("{n}-half.png")),
            cut(png(n)),
            "is damaged: it is cut short",
        )
    },
    |folder, n| {
        refused(
            folder.join(format!("{n}-empty.png")),
            Vec::new(),
            "is empty",
        )
    },
    |folder, n| {
        refused(
            folder.join(format!("{n}-words.gif")),
            b"words".to_vec(),
            "but text",
        )
    },
    |folder, n| refused(folder.join(format!("{n}.heic")), heic(), "HEIC"),
    |folder, n| refused(folder.join(format!("{n}-phone")), heic(), "HEIC"),
    |folder, n| {
        refused(
            folder.join(format!("{n}-huge.png")),
            huge_png(),
            "too large",
        )
    },
    |folder, n| {
        refused(
            folder.join(format!("{n}.tif")),
            panicking_tiff(),
            "breaks the decoder",
        )
    },
    |folder, n| other(folder.join(format!("{n}.txt")), b"words".to_vec()),
    |folder, n| other(folder.join(format!("{n}-empty")), Vec::new()),
    |folder, n| {
        hidden(
            folder.join(format!("._{n}.png")),
            b"\0\x05\x16\x07".to_vec(),
        )
    },
    |folder, n| hidden(folder.join(format!(".ipynb_checkpoints/{n}.png")), png(n)),
    |folder, n| hidden(folder.join(format!("__MACOSX/{n}.png")), png(n)),
    |folder, _| hidden(folder.join("Thumbs.db"), png(0)),
    |folder, n| odd(folder, n),
];

/// What only Unix has.
#[cfg(unix)]
fn odd(folder: &Path, n: u32) -> Vec<(PathBuf, Fate)> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let path = |name: &str| folder.join(format!("{n}-{name}"));
    symlink(folder, path("loop")).unwrap();
    symlink("nowhere", path("broken.png")).unwrap();
    symlink(path("itself"), path("itself")).unwrap();
    write(&path("real.png"), &png(n));
    symlink(path("real.png"), path("second name.png")).unwrap();
    let pipe = Command::new("mkfifo").arg(path("pipe.png")).status();
    assert!(pipe.unwrap().success());
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    let mut found = vec![
        (path("broken.png"), Fate::Refused("leads to no file")),
        (path("itself"), Fate::Refused("leads to no file")),
        (path("real.png"), Fate::Read),
        (path("pipe.png"), Fate::Refused("a named pipe")),
        (path("socket"), Fate::Refused("a socket")),
    ];
    for byte in [0xfe, 0xff] {
        let mut name = format!("{n}-").into_bytes();
        name.extend([byte, b'.', b'p', b'n', b'g']);
        let path = folder.join(OsStr::from_bytes(&name));
        if fs::write(&path, png(n)).is_ok() {
            found.push((path, Fate::Read));
        }
    }
    found
}

#[cfg(not(unix))]
fn odd(_: &Path, _: u32) -> Vec<(PathBuf, Fate)> {
    Vec::new()
}

/// Writes `count` random entries into a folder and into subfolders of it: one of each kind, as far as they go, from the
/// kind that `first` counts to on, then as it comes.
pub fn write_mixed(folder: &Path, first: usize, count: usize, seed: u64) -> Entries {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut folder = folder.to_path_buf();
    let mut entries = Entries::new();
    for n in 0..count {
        if rng.random_bool(0.1) {
            folder.push(format!("sub{n}"));
        }
        let make = match n < KINDS.len() {
            true => &KINDS[(first + n) % KINDS.len()],
            false => KINDS.choose(&mut rng).unwrap(),
        };
        fs::create_dir_all(&folder).unwrap();
        entries.extend(make(&folder, n as u32));
    }
    entries
}

/// How many of the entries share a fate.
pub fn count(entries: &Entries, is_so: impl Fn(Fate) -> bool) -> usize {
    entries.values().filter(|&&fate| is_so(fate)).count()
}

pub fn is_refused(fate: Fate) -> bool {
    matches!(fate, Fate::Refused(_))
}

/// An entry's path within a folder, on one line, as messages have it.
pub fn named(root: &Path, path: &Path) -> String {
    path_text::one_line(path.strip_prefix(root).unwrap())
}
