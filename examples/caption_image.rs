//! Captions an image: `cargo run --release --example caption_image -- photo.jpg`
//!
//! Without a name, a generated scene, which the sample model can tell.

use anyhow::Result;
use clipcap::datasets::scenes;
use clipcap::{CaptionOptions, Captioner, images};

fn main() -> Result<()> {
    let captioner = Captioner::load("model/sample")?;
    let image = match std::env::args_os().nth(1) {
        Some(path) => images::open(path)?,
        None => scenes::draw(&scenes::scene(1, 0)),
    };
    println!("{}", captioner.caption(&image)?.caption);

    let options = CaptionOptions::beam(5).num_captions(3).max_length(20);
    for caption in &captioner.caption_batch(&[image], &options)?[0] {
        println!("{:7.3}  {}", caption.score, caption.caption);
    }
    Ok(())
}
