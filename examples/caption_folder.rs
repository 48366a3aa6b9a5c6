//! Captions every image of a folder: `cargo run --release --example caption_folder -- photos/`
//!
//! Images are opened and cropped on all cores, and captioned together. What cannot be opened is named.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clipcap::inputs::{self, Expansion, OtherFiles};
use clipcap::{CaptionOptions, Captioner};
use rayon::prelude::*;

/// Images captioned together.
const BATCH: usize = 16;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("give a folder")?;
    let captioner = Captioner::load("model/sample")?;
    let search = CaptionOptions::default().search(&captioner)?;
    let named = vec![PathBuf::from(folder)];
    let nothing = std::io::empty();
    let found: Vec<_> =
        inputs::expand(named, Expansion::default(), nothing, &OtherFiles::default()).collect();
    for batch in found.chunks(BATCH) {
        let opened: Vec<_> = batch
            .par_iter()
            .map(|input| {
                let input = input.as_ref().map_err(ToString::to_string)?;
                let image = input.open().map_err(|error| error.to_string())?;
                Ok((&input.path, captioner.encoder.crop(&image)))
            })
            .collect();
        let (readable, failed): (Vec<_>, Vec<Result<_, String>>) =
            opened.into_iter().partition(Result::is_ok);
        let (paths, crops): (Vec<_>, Vec<_>) = readable.into_iter().flatten().unzip();
        for (path, captions) in paths.iter().zip(captioner.caption_crops(&crops, &search)?) {
            println!("{}: {}", path.display(), captions[0].caption);
        }
        for error in failed.into_iter().filter_map(Result::err) {
            eprintln!("{error}");
        }
    }
    Ok(())
}
