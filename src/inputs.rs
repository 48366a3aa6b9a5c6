//! The pictures that a list of names stands for: files, folders, patterns, and `-` for more names on standard input.
//!
//! Names are expanded as they are asked for, so that a list of any length, or one that is still being written, costs no
//! memory.

use std::io::BufRead;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Endings of the files that are taken from a folder.
const PICTURE_ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// What makes a name that is no file a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// A file to open as a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    /// The folder that was named, when the file was found in one: what `path` is relative to in a copy of it.
    pub root: Option<PathBuf>,
}

/// A name that leads to no picture. Each message is one line that begins with the name.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{}: has no pictures (JPEG, PNG, WebP, GIF, BMP or TIFF){}", path.display(), if *recursive { "" } else { "; --recursive looks into its subfolders" })]
    EmptyFolder { path: PathBuf, recursive: bool },
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: no file is called so, nor matches it as a pattern", path.display())]
    NoMatch { path: PathBuf },
    #[error("{}: is no pattern: {reason}", path.display())]
    BadPattern { path: PathBuf, reason: String },
}

impl InputError {
    /// The name that was at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::EmptyFolder { path, .. }
            | Self::Unreadable { path, .. }
            | Self::NoMatch { path }
            | Self::BadPattern { path, .. } => path,
        }
    }
}

type Found = Box<dyn Iterator<Item = Result<Input, InputError>> + Send>;

/// The pictures that `named` stands for, in order. A folder stands for the pictures in it by name, hidden ones left out,
/// and with `recursive` for those in its subfolders too. A name with `*`, `?`, `[...]` or `**` that is no file stands for
/// the files that match it. `-` stands for the names that `list` has, one a line, patterns not among them.
pub fn expand(
    named: Vec<PathBuf>,
    recursive: bool,
    list: impl BufRead + Send + 'static,
) -> impl Iterator<Item = Result<Input, InputError>> + Send {
    let mut list = Some(list);
    named.into_iter().flat_map(move |name| {
        if name == Path::new("-") {
            match list.take() {
                Some(list) => Box::new(listed(list, recursive)),
                None => nothing(),
            }
        } else if is_pattern(&name) {
            matching(&name)
        } else {
            named_file_or_folder(name, recursive)
        }
    })
}

fn nothing() -> Found {
    Box::new(std::iter::empty())
}

fn one(result: Result<Input, InputError>) -> Found {
    Box::new(std::iter::once(result))
}

fn file(path: PathBuf) -> Found {
    one(Ok(Input { path, root: None }))
}

fn named_file_or_folder(name: PathBuf, recursive: bool) -> Found {
    if name.is_dir() {
        folder(name, recursive)
    } else {
        file(name)
    }
}

/// The names in a list, one a line.
fn listed(
    list: impl BufRead + Send + 'static,
    recursive: bool,
) -> impl Iterator<Item = Result<Input, InputError>> + Send {
    list.split(b'\n').flat_map(move |line| match line {
        Ok(line) => {
            let name = line.strip_suffix(b"\r").unwrap_or(&line);
            if name.is_empty() {
                nothing()
            } else {
                named_file_or_folder(path_from_bytes(name), recursive)
            }
        }
        Err(error) => one(Err(InputError::Unreadable {
            path: PathBuf::from("-"),
            reason: error.to_string(),
        })),
    })
}

#[cfg(unix)]
fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The pictures in a folder by name, those of its own before those of its subfolders.
fn folder(root: PathBuf, recursive: bool) -> Found {
    let walk = WalkDir::new(&root)
        .min_depth(1)
        .max_depth(if recursive { usize::MAX } else { 1 })
        .follow_links(true)
        .sort_by(|a, b| {
            let key = |entry: &DirEntry| (entry.file_type().is_dir(), entry.file_name().to_owned());
            key(a).cmp(&key(b))
        });
    let within = root.clone();
    let mut pictures = walk
        .into_iter()
        .filter_entry(|entry| !is_hidden(entry))
        .filter_map(move |entry| match entry {
            Ok(entry) if entry.file_type().is_dir() || !is_picture(entry.path()) => None,
            Ok(entry) => Some(Ok(Input {
                path: entry.into_path(),
                root: Some(within.clone()),
            })),
            // A link to a folder that it lies in: what is there was seen.
            Err(error) if error.loop_ancestor().is_some() => None,
            Err(error) => Some(Err(InputError::Unreadable {
                path: error.path().unwrap_or(&within).to_path_buf(),
                reason: error
                    .io_error()
                    .map_or_else(|| "unknown".into(), ToString::to_string),
            })),
        })
        .peekable();
    if pictures.peek().is_none() {
        return one(Err(InputError::EmptyFolder {
            path: root,
            recursive,
        }));
    }
    Box::new(pictures)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| PICTURE_ENDINGS.contains(&ending.to_lowercase().as_str()))
}

fn is_pattern(name: &Path) -> bool {
    let text = name.to_string_lossy();
    text.contains(WILDCARDS) && !name.exists()
}

/// The files, not folders, that match a pattern, by name.
fn matching(name: &Path) -> Found {
    let pattern = name.to_string_lossy();
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..Default::default()
    };
    let matches = match glob::glob_with(&pattern, options) {
        Ok(matches) => matches,
        Err(error) => {
            return one(Err(InputError::BadPattern {
                path: name.to_path_buf(),
                reason: error.msg.to_string(),
            }));
        }
    };
    let root = literal_folder(name);
    let mut files = matches
        .filter_map(move |entry| match entry {
            Ok(path) if path.is_dir() => None,
            Ok(path) => Some(Ok(Input {
                path,
                root: Some(root.clone()),
            })),
            Err(error) => Some(Err(InputError::Unreadable {
                path: error.path().to_path_buf(),
                reason: error.error().to_string(),
            })),
        })
        .peekable();
    if files.peek().is_none() {
        return one(Err(InputError::NoMatch {
            path: name.to_path_buf(),
        }));
    }
    Box::new(files)
}

/// The part of a pattern before the first name that has a wildcard.
fn literal_folder(pattern: &Path) -> PathBuf {
    let has_wildcard = |component: &Component| {
        let text = component.as_os_str().to_string_lossy();
        text.contains(WILDCARDS)
    };
    pattern
        .components()
        .skip_while(|component| *component == Component::CurDir)
        .take_while(|component| !has_wildcard(component))
        .collect()
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
            text.contains("has no pictures") && text.contains("--recursive"),
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
