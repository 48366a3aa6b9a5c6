//! The files of a folder: one walk for every command.
//!
//! Hidden names are left out, links are followed but lead to each file and folder only once, and only regular files are
//! given: a named pipe, a socket or a device is an error by name, and is never opened.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::InputError;
use crate::images::format::{SNIFF_BYTES, has_image_ending, sniff};
use crate::images::special;

/// Names of what desktops, tools and archivers leave beside the files people put somewhere. Names with a dot at the start
/// are hidden too.
const CLUTTER: [&str; 5] = [
    "__MACOSX",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN",
];

/// Whether a file or folder of this name is left out of folders, patterns and archives.
pub fn is_hidden(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".")
        || CLUTTER
            .iter()
            .any(|clutter| bytes.eq_ignore_ascii_case(clutter.as_bytes()))
}

/// Whether a file is an image: one by its ending, or else by its first bytes.
///
/// # Errors
/// When its ending does not tell and it cannot be read.
pub fn is_image(path: &Path) -> Result<bool, InputError> {
    if has_image_ending(path) {
        return Ok(true);
    }
    let mut first = Vec::with_capacity(SNIFF_BYTES);
    fs::File::open(path)
        .and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut first))
        .map_err(|error| unreadable(path, &error))?;
    Ok(sniff(&first).is_some())
}

/// The regular files in a folder, those of its own by name, and with `recursive` then those of its subfolders. What could
/// be none of them or cannot be looked into is an error that names it; the walk goes on after it.
pub fn files(folder: &Path, recursive: bool) -> Files {
    Files::new(folder, if recursive { usize::MAX } else { 1 })
}

/// An iterator over files; see [`files`].
pub struct Files {
    /// What is left of the folders that are being listed, outermost first.
    open: Vec<std::vec::IntoIter<Entry>>,
    max_depth: usize,
    /// The error of the folder itself.
    first: Option<InputError>,
    folders: HashSet<FileId>,
    /// Files given by their own names, and by links.
    named: HashSet<FileId>,
    linked: HashSet<FileId>,
    enter: Enter,
}

/// Tells by its name and depth, from 1, whether a subfolder is listed.
type Enter = Box<dyn Fn(&OsStr, usize) -> bool + Send>;

struct Entry {
    path: PathBuf,
    kind: EntryKind,
    is_link: bool,
}

enum EntryKind {
    File(FileId),
    Folder,
    Error(InputError),
}

impl Files {
    pub(super) fn new(folder: &Path, max_depth: usize) -> Self {
        let mut files = Self {
            open: Vec::new(),
            max_depth,
            first: None,
            folders: HashSet::new(),
            named: HashSet::new(),
            linked: HashSet::new(),
            enter: Box::new(|_, _| true),
        };
        files.first = files.list(folder).err();
        files
    }

    /// Only subfolders of which this is true are listed; see [`Files::enter`].
    pub(super) fn entering(
        mut self,
        enter: impl Fn(&OsStr, usize) -> bool + Send + 'static,
    ) -> Self {
        self.enter = Box::new(enter);
        self
    }

    /// Begins with a folder, unless it was listed already.
    fn list(&mut self, folder: &Path) -> Result<(), InputError> {
        // The current folder, whose files have no folder in their names.
        let place = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let metadata = fs::metadata(place).map_err(|error| unreadable(folder, &error))?;
        if !self.folders.insert(FileId::of(folder, &metadata)) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(place).map_err(|error| unreadable(folder, &error))? {
            match entry {
                Ok(entry) if is_hidden(&entry.file_name()) => {}
                Ok(entry) => entries.push(look(folder, &entry, &metadata)),
                Err(error) => entries.push(Entry::error(folder, unreadable(folder, &error))),
            }
        }
        // Subfolders after files, and links to folders after those that are in place.
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        self.open.push(entries.into_iter());
        Ok(())
    }

    /// Whether a file is new; a file with several names of its own (hard links) is new by each.
    fn is_new(&mut self, id: FileId, is_link: bool) -> bool {
        if self.linked.contains(&id) || (is_link && self.named.contains(&id)) {
            return false;
        }
        let seen = match is_link {
            true => &mut self.linked,
            false => &mut self.named,
        };
        seen.insert(id);
        true
    }
}

impl Iterator for Files {
    type Item = Result<PathBuf, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.first.take() {
            return Some(Err(error));
        }
        loop {
            let depth = self.open.len();
            let Some(Entry {
                path,
                kind,
                is_link,
            }) = self.open.last_mut()?.next()
            else {
                self.open.pop();
                continue;
            };
            match kind {
                EntryKind::File(id) => {
                    if self.is_new(id, is_link) {
                        return Some(Ok(path));
                    }
                }
                EntryKind::Error(error) => return Some(Err(error)),
                EntryKind::Folder => {
                    let name = path.file_name().unwrap_or_default();
                    if depth < self.max_depth
                        && (self.enter)(name, depth)
                        && let Err(error) = self.list(&path)
                    {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

impl Entry {
    fn error(path: &Path, error: InputError) -> Self {
        Self {
            path: path.to_path_buf(),
            kind: EntryKind::Error(error),
            is_link: false,
        }
    }

    fn order(&self) -> (bool, bool, &OsStr) {
        let is_folder = matches!(self.kind, EntryKind::Folder);
        let name = self.path.file_name().unwrap_or_default();
        (is_folder, is_folder && self.is_link, name)
    }
}

/// What an entry of a folder is. Only links are asked of the file system: for a file the listing tells enough.
fn look(folder: &Path, entry: &DirEntry, metadata: &Metadata) -> Entry {
    let path = folder.join(entry.file_name());
    let file_type = match entry.file_type() {
        Ok(file_type) => file_type,
        Err(error) => return Entry::error(&path, unreadable(&path, &error)),
    };
    let is_link = file_type.is_symlink();
    let kind = if is_link {
        match fs::metadata(&path) {
            Ok(metadata) => {
                entry_kind(&path, metadata.file_type(), || FileId::of(&path, &metadata))
            }
            Err(_) => EntryKind::Error(InputError::BrokenLink { path: path.clone() }),
        }
    } else {
        entry_kind(&path, file_type, || FileId::listed(entry, metadata))
    };
    Entry {
        path,
        kind,
        is_link,
    }
}

fn entry_kind(path: &Path, file_type: FileType, id: impl FnOnce() -> FileId) -> EntryKind {
    if file_type.is_dir() {
        EntryKind::Folder
    } else if file_type.is_file() {
        EntryKind::File(id())
    } else {
        EntryKind::Error(InputError::Special {
            path: path.to_path_buf(),
            kind: special(file_type),
        })
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> InputError {
    InputError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

/// What tells a file from all others, whatever names lead to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileId(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

#[cfg(unix)]
impl FileId {
    fn of(_: &Path, metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self((metadata.dev(), metadata.ino()))
    }

    /// Of a file, not a link, in a folder.
    fn listed(entry: &DirEntry, folder: &Metadata) -> Self {
        use std::os::unix::fs::{DirEntryExt, MetadataExt};
        Self((folder.dev(), entry.ino()))
    }
}

#[cfg(not(unix))]
impl FileId {
    fn of(path: &Path, _: &Metadata) -> Self {
        Self(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))
    }

    fn listed(entry: &DirEntry, folder: &Metadata) -> Self {
        Self::of(&entry.path(), folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    fn found(folder: &Path, recursive: bool) -> Vec<String> {
        let relative = |path: PathBuf| {
            let path = path.strip_prefix(folder).unwrap();
            path.display().to_string().replace('\\', "/")
        };
        files(folder, recursive)
            .map(|file| relative(file.unwrap()))
            .collect()
    }

    #[test]
    fn files_come_by_name_before_those_of_subfolders_and_hidden_ones_do_not() {
        let folder = place(&[
            "b",
            "a.txt",
            ".hidden",
            "._a.txt",
            ".git/x",
            "__MACOSX/a",
            "sub/c",
            "sub/Thumbs.db",
            "sub/.ipynb_checkpoints/c-checkpoint",
            "sub/desktop.INI",
            "sub/deep/d",
        ]);
        assert_eq!(found(folder.path(), false), ["a.txt", "b"]);
        let all = ["a.txt", "b", "sub/c", "sub/deep/d"];
        assert_eq!(found(folder.path(), true), all);
        // A hidden folder that is named is meant.
        assert_eq!(found(&folder.path().join(".git"), true), ["x"]);
    }

    #[test]
    #[cfg(unix)]
    fn links_lead_to_each_file_and_folder_once() {
        use std::os::unix::fs::symlink;
        let folder = place(&["all/a", "all/b", "elsewhere/c"]);
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink(folder.path().join("all"), root.join("one")).unwrap();
        symlink(folder.path().join("all"), root.join("two")).unwrap();
        symlink(&root, root.join("loop")).unwrap();
        symlink("file-loop", root.join("file-loop")).unwrap();
        symlink(folder.path().join("elsewhere/c"), root.join("c")).unwrap();
        symlink(folder.path().join("elsewhere/c"), root.join("c again")).unwrap();
        symlink(folder.path().join("all/a"), root.join("one-a")).unwrap();
        let (files, errors): (Vec<_>, Vec<_>) = super::files(&root, true).partition(Result::is_ok);
        let names: Vec<_> = (files.into_iter())
            .map(|file| file.unwrap().strip_prefix(&root).unwrap().to_path_buf())
            .collect();
        assert_eq!(names, ["c", "one-a", "one/b"].map(PathBuf::from));
        assert_eq!(errors.len(), 1);
        let error = errors[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("file-loop: is a link"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_with_two_names_of_its_own_is_given_by_both() {
        let folder = place(&["a"]);
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_eq!(found(folder.path(), false), ["a", "b"]);
    }

    #[test]
    #[cfg(unix)]
    fn special_files_are_errors_by_name_and_the_walk_goes_on() {
        let folder = place(&["a", "z"]);
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let files: Vec<_> = files(folder.path(), true).collect();
        assert_eq!(files.len(), 3);
        let error = files[1].as_ref().unwrap_err();
        assert_eq!(error.path(), socket);
        assert!(error.to_string().contains("is a socket"), "{error}");
        let missing: Vec<_> = super::files(&folder.path().join("no"), true).collect();
        assert!(missing.len() == 1 && missing[0].is_err());
    }

    #[test]
    #[cfg(unix)]
    fn names_are_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let folder = place(&[]);
        for name in [&b"\xff.png"[..], b"\xfe.png"] {
            let path = folder.path().join(OsStr::from_bytes(name));
            // Not every file system takes such names.
            if fs::write(path, "").is_err() {
                return;
            }
        }
        let files: HashSet<PathBuf> = files(folder.path(), false).map(Result::unwrap).collect();
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn content_tells_what_an_ending_does_not() {
        let folder = place(&["text", "words.txt", "named.png"]);
        fs::write(folder.path().join("image"), b"\x89PNG\r\n\x1a\n").unwrap();
        let images = ["text", "words.txt", "named.png", "image"]
            .map(|name| is_image(&folder.path().join(name)).unwrap());
        assert_eq!(images, [false, false, true, true]);
    }
}
