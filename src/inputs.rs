//! The images that a list of names stands for: files, folders, patterns, addresses, and `-` for more names, or for an
//! image, on standard input.
//!
//! Names are expanded as they are asked for, so that a list of any length, or one that is still being written, costs no
//! memory.

mod download;
mod list;
mod other;
mod pattern;
mod walk;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use crate::path_text::one_line;
use crate::picture::format::READ;
use crate::picture::{self, PictureError};

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
    #[error("{}: is no pattern: {reason}", one_line(path))]
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
    pub fn open(&self) -> Result<RgbImage, PictureError> {
        match &self.content {
            Content::File => picture::open(&self.path),
            Content::Bytes(bytes) => picture::decode(bytes, &self.path),
            Content::Url(url) => {
                let bytes = download::download(url)
                    .map_err(|error| PictureError::Io(self.path.clone(), error))?;
                picture::decode(&bytes, &self.path)
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

/// The images that `named` stands for, in order. A folder stands for the images in it ([`images`]), and with `recursive`
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
        } else if !is_url(&name) && pattern::is_pattern(&name) {
            matching(&name)
        } else {
            names.expand(name)
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

/// The files, not folders, that match a pattern, by name.
fn matching(name: &Path) -> Found {
    let mut files = match pattern::matching(name) {
        Ok(files) => files.peekable(),
        Err(error) => {
            return one(Err(InputError::BadPattern {
                path: name.to_path_buf(),
                reason: error.msg.to_string(),
            }));
        }
    };
    if files.peek().is_none() {
        return one(Err(InputError::NoMatch {
            path: name.to_path_buf(),
        }));
    }
    let root = pattern::literal_folder(name);
    Box::new(files.map(move |file| Ok(Input::file(file?, Some(root.clone())))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with files of these names, and what names in it stand for, relative to it.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(names: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            Self(folder)
        }

        fn results(
            &self,
            named: &[&str],
            recursive: bool,
            list: &str,
        ) -> Vec<Result<Input, InputError>> {
            let named = named
                .iter()
                .map(|&name| match name {
                    "-" => PathBuf::from(name),
                    name => self.0.path().join(name),
                })
                .collect();
            let list = list.replace('@', self.0.path().to_str().unwrap());
            expand(named, recursive, std::io::Cursor::new(list)).collect()
        }

        fn found(&self, named: &[&str], recursive: bool, list: &str) -> Vec<String> {
            let results = self.results(named, recursive, list);
            let relative = |path: &Path| {
                let path = path.strip_prefix(self.0.path()).unwrap();
                path.display().to_string().replace('\\', "/")
            };
            results
                .into_iter()
                .map(|result| relative(&result.unwrap().path))
                .collect()
        }
    }

    const NAMES: [&str; 7] = [
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.png",
        "sub/c.webp",
        "sub/deep/d.gif",
        ".cache/e.png",
    ];

    #[test]
    fn a_folder_stands_for_its_pictures_by_name_and_subfolders_come_after() {
        let tree = Tree::new(&NAMES);
        assert_eq!(tree.found(&[""], false, ""), ["a.png", "b.JPG"]);
        assert_eq!(
            tree.found(&[""], true, ""),
            ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.gif"]
        );
        let inputs = tree.results(&["sub"], true, "");
        for input in inputs {
            assert_eq!(input.unwrap().root, Some(tree.0.path().join("sub")));
        }
    }

    #[test]
    fn a_file_that_is_named_is_taken_whatever_it_is_called() {
        let tree = Tree::new(&NAMES);
        assert_eq!(
            tree.found(&["notes.txt", "missing.png"], false, ""),
            ["notes.txt", "missing.png"]
        );
    }

    #[test]
    fn patterns_stand_for_the_files_that_match() {
        let tree = Tree::new(&NAMES);
        assert_eq!(tree.found(&["*.png"], false, ""), ["a.png"]);
        assert_eq!(
            tree.found(&["**/*.[gw]*"], false, ""),
            ["sub/c.webp", "sub/deep/d.gif"]
        );
        let inputs = tree.results(&["sub/*/*.gif"], false, "");
        assert_eq!(
            inputs[0].as_ref().unwrap().root,
            Some(tree.0.path().join("sub"))
        );
        let error = tree.results(&["*.bmp"], false, "").remove(0).unwrap_err();
        assert!(error.to_string().ends_with("matches it as a pattern"));
        let error = tree.results(&["a***b"], false, "").remove(0).unwrap_err();
        assert!(error.to_string().contains("is no pattern"), "{error}");
    }

    #[test]
    fn a_file_whose_name_looks_like_a_pattern_is_the_file() {
        let tree = Tree::new(&["[1].png", "1.png"]);
        assert_eq!(tree.found(&["[1].png"], false, ""), ["[1].png"]);
    }

    #[test]
    fn a_list_has_files_and_folders_one_a_line() {
        let tree = Tree::new(&NAMES);
        let list = "@/a.png\r\n\n@/sub\n@/last.png";
        assert_eq!(
            tree.found(&["b.JPG", "-", "-"], false, list),
            ["b.JPG", "a.png", "sub/c.webp", "last.png"]
        );
    }

    #[test]
    fn a_folder_without_pictures_is_an_error_that_says_so() {
        let tree = Tree::new(&["only/notes.txt", "only/deep/a.png"]);
        let error = tree.results(&["only"], false, "").remove(0).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("has no images") && text.contains("--recursive"),
            "{text}"
        );
        assert_eq!(error.path(), tree.0.path().join("only"));
    }

    #[test]
    #[cfg(unix)]
    fn links_in_circles_come_to_an_end() {
        let tree = Tree::new(&["sub/a.png"]);
        std::os::unix::fs::symlink(tree.0.path(), tree.0.path().join("sub/up")).unwrap();
        assert_eq!(tree.found(&[""], true, ""), ["sub/a.png"]);
    }
}
