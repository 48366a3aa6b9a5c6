//! The images that a list of names stands for: files, folders, patterns, addresses, and `-` for more names, or for an
//! image, on standard input.
//!
//! Names are expanded as they are asked for, so that a list of any length, or one that is still being written, costs no
//! memory.

pub mod braces;
mod download;
mod list;
mod other;
mod pattern;
mod walk;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use crate::images::format::READ;
use crate::images::{self, OpenError};
use crate::path_text::one_line;

pub use other::{FileKinds, OtherFiles};
pub use walk::{Files, files, is_hidden, is_image};

/// What names an image on standard input, or a list of names there.
pub const STDIN: &str = "-";

/// Something to open as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it is called: the path of a file, an address, or `-`.
    pub path: PathBuf,
    /// The folder that was named, when the file was found in one: what `path` is relative to in a copy of it.
    pub root: Option<PathBuf>,
    /// Where its bytes are.
    pub content: Content,
}

/// Where an image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the file of its path.
    File,
    /// Here: they came on standard input.
    Bytes(Arc<Vec<u8>>),
    /// At this http or https address.
    Url(String),
}

/// How names are expanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Whether folders stand for what is in their subfolders too.
    pub recursive: bool,
    /// Whether http and https addresses are taken: without it they are errors.
    pub allow_urls: bool,
}

/// A name that leads to no image. Each message is one line that begins with the name.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{}: has no images ({READ}){}", one_line(path), if *recursive { "" } else { "; --recursive looks into its subfolders" })]
    EmptyFolder { path: PathBuf, recursive: bool },
    #[error("{}: cannot be read: {reason}", one_line(path))]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: is {kind}, which is not opened: only files are", one_line(path))]
    Special { path: PathBuf, kind: &'static str },
    #[error("{}: is a link that leads to no file", one_line(path))]
    BrokenLink { path: PathBuf },
    #[error(
        "{}: no file is called so, nor matches it as a pattern",
        one_line(path)
    )]
    NoMatch { path: PathBuf },
    #[error("{}: is not a pattern: {reason}", one_line(path))]
    BadPattern { path: PathBuf, reason: String },
    #[error("{}: is an address: --allow-urls downloads it", one_line(path))]
    Url { path: PathBuf },
}

impl Input {
    /// A file.
    pub fn file(path: PathBuf, root: Option<PathBuf>) -> Self {
        Self {
            path,
            root,
            content: Content::File,
        }
    }

    /// Opens the image as RGB. An address is downloaded.
    ///
    /// # Errors
    /// When it cannot be read or decoded; the message names it.
    pub fn open(&self) -> Result<RgbImage, OpenError> {
        match &self.content {
            Content::File => images::open(&self.path),
            Content::Bytes(bytes) => images::decode(bytes, &self.path),
            Content::Url(url) => {
                let bytes = download::download(url)
                    .map_err(|error| OpenError::Io(self.path.clone(), error))?;
                images::decode(&bytes, &self.path)
            }
        }
    }
}

impl InputError {
    /// The name that was at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::EmptyFolder { path, .. }
            | Self::Unreadable { path, .. }
            | Self::Special { path, .. }
            | Self::BrokenLink { path }
            | Self::NoMatch { path }
            | Self::BadPattern { path, .. }
            | Self::Url { path } => path,
        }
    }
}

type Found = Box<dyn Iterator<Item = Result<Input, InputError>> + Send>;

/// The images that `named` stands for, in order. A folder stands for the images in it ([`images()`]), and with `recursive`
/// for those in its subfolders too. A name with `*`, `?`, `[...]` or `**` that is no file stands for the files that match
/// it. `-` stands for the names that `stdin` has, one a line, patterns not among them, or for the image that it holds.
/// `others` counts the files in folders that are not images.
pub fn expand<R: BufRead + Send + 'static>(
    named: Vec<PathBuf>,
    expansion: Expansion,
    stdin: R,
    others: &OtherFiles,
) -> impl Iterator<Item = Result<Input, InputError>> + Send + use<R> {
    let mut stdin = Some(stdin);
    let names = Names {
        expansion,
        others: others.clone(),
    };
    named.into_iter().flat_map(move |name| {
        if name == Path::new(STDIN) {
            match stdin.take() {
                Some(stdin) => list::read(stdin, names.clone()),
                None => nothing(),
            }
        } else if is_url(&name) {
            names.expand(name)
        } else {
            match matching(&name) {
                Err(error) => one(Err(error)),
                Ok(None) => names.expand(name),
                Ok(Some((root, files))) => {
                    Box::new(files.map(move |file| Ok(Input::file(file?, Some(root.clone())))))
                }
            }
        }
    })
}

/// The images in a folder, by name, those of its own before those of its subfolders; see [`files`] for what is in it.
/// A file is an image by its ending, whether or not it can be opened, or else by its first bytes.
pub fn images(
    folder: &Path,
    recursive: bool,
    others: &OtherFiles,
) -> impl Iterator<Item = Result<PathBuf, InputError>> + Send + use<> {
    let others = others.clone();
    files(folder, recursive).filter_map(move |file| match file {
        Ok(path) => match is_image(&path) {
            Ok(true) => Some(Ok(path)),
            Ok(false) => {
                others.note(&path);
                None
            }
            Err(error) => Some(Err(error)),
        },
        error => Some(error),
    })
}

fn nothing() -> Found {
    Box::new(std::iter::empty())
}

fn one(result: Result<Input, InputError>) -> Found {
    Box::new(std::iter::once(result))
}

fn is_url(name: &Path) -> bool {
    let bytes = name.as_os_str().as_encoded_bytes();
    ["http://", "https://"].iter().any(|scheme| {
        let start = bytes.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    })
}

/// What names that are no patterns stand for.
#[derive(Clone)]
struct Names {
    expansion: Expansion,
    others: OtherFiles,
}

impl Names {
    fn expand(&self, name: PathBuf) -> Found {
        if is_url(&name) {
            one(self.address(name))
        } else if name.is_dir() {
            self.folder(name)
        } else {
            one(Ok(Input::file(name, None)))
        }
    }

    fn address(&self, path: PathBuf) -> Result<Input, InputError> {
        match path.to_str() {
            Some(url) if self.expansion.allow_urls => Ok(Input {
                content: Content::Url(url.to_string()),
                path,
                root: None,
            }),
            _ => Err(InputError::Url { path }),
        }
    }

    fn folder(&self, root: PathBuf) -> Found {
        let recursive = self.expansion.recursive;
        let mut images = images(&root, recursive, &self.others).peekable();
        if images.peek().is_none() {
            return one(Err(InputError::EmptyFolder {
                path: root,
                recursive,
            }));
        }
        Box::new(images.map(move |image| Ok(Input::file(image?, Some(root.clone())))))
    }
}

/// Files that match a pattern.
pub type Matches = Box<dyn Iterator<Item = Result<PathBuf, InputError>> + Send>;

/// The files, not folders, that match a pattern, by name, and the folder before its first wildcard; `None` for a name that is
/// no pattern, or a file's.
///
/// # Errors
/// When it is none that can be read, or nothing matches it.
pub fn matching(name: &Path) -> Result<Option<(PathBuf, Matches)>, InputError> {
    if !pattern::is_pattern(name) {
        return Ok(None);
    }
    let files = pattern::matching(name).map_err(|error| InputError::BadPattern {
        path: name.to_path_buf(),
        reason: error.msg.to_string(),
    })?;
    let mut files = files.peekable();
    if files.peek().is_none() {
        return Err(InputError::NoMatch {
            path: name.to_path_buf(),
        });
    }
    Ok(Some((pattern::literal_folder(name), Box::new(files))))
}

#[cfg(test)]
mod tests;
