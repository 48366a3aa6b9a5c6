//! A folder of pictures with a text file beside each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Collector;
use crate::picture::is_picture_name;

/// Reads a folder and those in it: `name.txt` beside `name.jpg` holds its captions, one a line.
pub fn read(root: &Path, collector: &mut Collector) -> Result<()> {
    let mut folders = vec![root.to_path_buf()];
    let mut pictures = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot list {}", folder.display()))?
                .path();
            if path.is_dir() {
                folders.push(path);
            } else if is_picture_name(&path) {
                pictures.push(path);
            }
        }
    }
    pictures.sort();
    for picture in pictures {
        let text = picture.with_extension("txt");
        let name = picture
            .strip_prefix(root)
            .unwrap_or(&picture)
            .to_string_lossy()
            .into_owned();
        let captions = match fs::read_to_string(&text) {
            Ok(captions) => captions,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", text.display()));
            }
        };
        let captions = captions.lines().map(String::from).collect::<Vec<_>>();
        collector.add_row(&name, captions, None, &[root.to_path_buf()])?;
    }
    Ok(())
}
