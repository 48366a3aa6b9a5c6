//! The Hub names each file by a hash of it: large ones by their sha256, small ones by what git calls them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Digest as _;
use sha2::Digest as _;

use crate::files;

/// What a file would be called, by the kind of hash that `name` is; `None` when it is neither.
pub fn of_file(path: &Path, name: &str) -> io::Result<Option<String>> {
    if !name.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(None);
    }
    match name.len() {
        64 => sha256(path).map(Some),
        40 => git_blob(path).map(Some),
        _ => Ok(None),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = sha2::Sha256::new();
    read_all(path, |bytes| hash.update(bytes))?;
    Ok(files::hex(&hash.finalize()))
}

/// The sha1 of `blob`, the length, a zero byte and the content.
fn git_blob(path: &Path) -> io::Result<String> {
    let mut hash = sha1::Sha1::new();
    let length = std::fs::metadata(path)?.len();
    hash.update(format!("blob {length}\0").as_bytes());
    read_all(path, |bytes| hash.update(bytes))?;
    Ok(files::hex(&hash.finalize()))
}

fn read_all(path: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_hashed_as_git_and_its_large_file_storage_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello world\n").unwrap();
        let git = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
        assert_eq!(of_file(&path, git).unwrap().as_deref(), Some(git));
        let sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
        assert_eq!(of_file(&path, sha256).unwrap().as_deref(), Some(sha256));
        assert_eq!(of_file(&path, "weak-etag").unwrap(), None);
    }
}
