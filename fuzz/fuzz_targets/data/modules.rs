// The parts of the program that read data sets and results, without burn: included by each target that needs them.

// Within a module, so that the folders beside these files are found.
#[path = "../../../src"]
mod program {
    pub mod guard;
    pub mod inputs;
    pub mod path_text;
    pub mod images;
}

#[allow(unused_imports)]
use program::{guard, images, inputs, path_text};

mod files {
    pub fn write_json<T>(_: &std::path::Path, _: &T) -> anyhow::Result<()> {
        Ok(())
    }
}

#[path = "../../../src/data"]
mod data {
    pub mod coco;
    pub mod left_out;
    pub mod image_source;
    pub mod shard_file;
    pub mod source;
    pub mod split;
    pub mod text;

    pub mod scenes {
        #[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
        pub struct Kind;
    }
}

/// Reads a data set. It must end with images that each have a caption, or with an error of one line that names it.
#[allow(unused)]
fn load(path: &std::path::Path) {
    match data::source::load(path, &[]) {
        Ok(data) => {
            assert!(!data.images.is_empty());
            for image in &data.images {
                assert!(!image.captions.is_empty());
                assert!(image.captions.iter().all(|caption| !caption.is_empty()));
            }
        }
        Err(error) => check(&error, path),
    }
}

/// An error is one line that names the file.
#[allow(unused)]
fn check(error: &anyhow::Error, path: &std::path::Path) {
    let text = format!("{error:#}");
    assert!(!text.contains('\n'), "{text}");
    assert!(text.contains(&path.display().to_string()), "{text}");
}

/// The first byte chooses between names, the rest is the file: it is written into a folder that is given back with it.
#[allow(unused)]
fn write(bytes: &[u8], names: &[&str]) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
    let (&choice, rest) = bytes.split_first()?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(names[usize::from(choice) % names.len()]);
    std::fs::write(&path, rest).unwrap();
    Some((folder, path))
}
