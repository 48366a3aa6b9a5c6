//! The sample model, which is in the program: a small captioner of the real architectures, trained on images of shapes.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::DeflateDecoder;

use crate::files;

/// The sample model's name.
pub const NAME: &str = "sample";

// FINGERPRINT: what tells this sample model from another's; FILES: name, length and deflated bytes of each file.
include!(concat!(env!("OUT_DIR"), "/sample_model.rs"));

/// Whether a folder of this name is a sample model's: its name, with or without the fingerprint of one that was unpacked,
/// by this program or another. A user's own `sample-mine` is none.
pub fn is_name(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_fingerprint = |text: &str| {
        text.len() == FINGERPRINT.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match name.strip_prefix(NAME) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(is_fingerprint),
        None => false,
    }
}

/// Bytes of its files.
pub fn size() -> u64 {
    FILES.iter().map(|(_, length, _)| length).sum()
}

/// The sample model as a folder in `models`, unpacked unless it is there already. Its name has a fingerprint in it, so
/// that programs with different sample models do not share one.
///
/// # Errors
/// When it cannot be written.
pub fn unpacked(models: &Path) -> Result<PathBuf> {
    let folder = models.join(format!("{NAME}-{FINGERPRINT}"));
    if is_whole(&folder) {
        return Ok(folder);
    }
    match unpack(&folder) {
        // Another process was faster.
        Err(_) if is_whole(&folder) => Ok(folder),
        unpacked => unpacked.map(|()| folder),
    }
}

/// Writes the sample model, in the place of the folder that is there, if there is one.
///
/// # Errors
/// When it cannot be written.
pub fn unpack(folder: &Path) -> Result<()> {
    files::replace_folder(folder, |folder| {
        for (name, length, deflated) in FILES {
            let mut bytes = Vec::with_capacity(usize::try_from(*length).unwrap_or_default());
            DeflateDecoder::new(*deflated)
                .read_to_end(&mut bytes)
                .with_context(|| format!("{name} of the sample model is damaged"))?;
            let path = folder.join(name);
            files::write_atomic(&path, |writer| writer.write_all(&bytes))?;
        }
        Ok(())
    })
}

/// Whether all files are there, at their length.
fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|(name, length, _)| {
        let found = fs::metadata(folder.join(name));
        found.is_ok_and(|found| found.len() == *length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sources_and_comes_back_when_a_file_is_lost() {
        let place = tempfile::tempdir().unwrap();
        let folder = unpacked(place.path()).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/sample");
        let files: Vec<_> = fs::read_dir(&source).unwrap().map(Result::unwrap).collect();
        for file in &files {
            let (here, there) = (folder.join(file.file_name()), file.path());
            assert_eq!(fs::read(here).unwrap(), fs::read(there).unwrap());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), files.len());
        let total: u64 = files
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum();
        assert_eq!(size(), total);
        fs::remove_file(folder.join("mapper.bpk")).unwrap();
        assert_eq!(unpacked(place.path()).unwrap(), folder);
        assert!(folder.join("mapper.bpk").is_file());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_is_a_sample_models_with_a_whole_fingerprint_or_none() {
        let place = tempfile::tempdir().unwrap();
        assert!(is_name(&unpacked(place.path()).unwrap()));
        for name in ["sample", "model/sample", "x/sample-0123456789abcdef"] {
            assert!(is_name(Path::new(name)), "{name}");
        }
        for name in [
            "sample-mine",
            "samples",
            "sample-0123456789abcdeg",
            "sample/x",
            "",
        ] {
            assert!(!is_name(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_said_with_its_place() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let error = unpacked(&place.path().join("file")).unwrap_err();
        assert!(error.to_string().contains("file"), "{error:#}");
    }
}
