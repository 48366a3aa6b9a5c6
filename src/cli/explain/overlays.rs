//! Images with their heat maps, as files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clipcap::explain::{Explanation, overlay};
use clipcap::files;
use image::RgbImage;

/// A folder that they are written to.
pub struct Overlays {
    folder: PathBuf,
    /// Names that images have had, without what follows them.
    names: HashSet<String>,
}

impl Overlays {
    /// Makes the folder, if need be.
    pub fn new(folder: PathBuf) -> Result<Self> {
        files::create_dir(&folder)?;
        Ok(Self {
            folder,
            names: HashSet::new(),
        })
    }

    /// Writes one of the caption and one of each token. `crop`: what the encoder saw of the image at `path`.
    pub fn write(&mut self, path: &Path, crop: &RgbImage, explanation: &Explanation) -> Result<()> {
        let name = overlay_name(path, &mut self.names);
        let write = |name: String, cells: &[f32]| {
            let path = self.folder.join(name);
            let mut png = std::io::Cursor::new(Vec::new());
            overlay::draw(crop, cells, explanation.side)
                .write_to(&mut png, image::ImageFormat::Png)?;
            files::write_atomic(&path, |writer| writer.write_all(png.get_ref()))
        };
        write(format!("{name}.png"), &explanation.content_cells())?;
        for (place, token) in explanation.tokens.iter().enumerate() {
            let word = plain(&token.text);
            write(format!("{name}-{:02}-{word}.png", place + 1), &token.cells)?;
        }
        Ok(())
    }
}

/// An image's name without its ending, with a number where another image has it.
fn overlay_name(path: &Path, names: &mut HashSet<String>) -> String {
    let stem = path
        .file_stem()
        .map_or_else(|| "image".into(), |stem| stem.to_string_lossy());
    let stem = plain(&stem);
    let mut name = stem.clone();
    for number in 2.. {
        if names.insert(name.clone()) {
            break;
        }
        name = format!("{stem}-{number}");
    }
    name
}

/// What any file system takes as a part of a name.
fn plain(text: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let kept: String = (text.trim().chars().take(60))
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    match kept.trim_matches('.') {
        "" => "_".to_string(),
        kept => kept.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_overlays_are_plain_and_none_comes_twice() {
        let mut names = HashSet::new();
        let mut name = |path: &str| overlay_name(Path::new(path), &mut names);
        assert_eq!(name("a/x y.jpg"), "x_y");
        assert_eq!(name("b/x y.png"), "x_y-2");
        assert_eq!(name("c/x_y-2.png"), "x_y-2-2");
        assert_eq!(plain(" <|endoftext|>"), "__endoftext__");
        assert_eq!(plain("."), "_");
        assert_eq!(plain("größe"), "größe");
    }
}
