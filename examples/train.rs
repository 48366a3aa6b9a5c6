//! Trains a captioner on your own captioned images: `cargo run --release --example train -- captions.json photos/`
//!
//! Without names, for one epoch on a part of the generated sample.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clipcap::trainer::dashboard::Ui;
use clipcap::{TrainConfig, TrainData, Trainer};

fn main() -> Result<()> {
    let mut names = std::env::args_os().skip(1).map(PathBuf::from);
    let model = PathBuf::from("model/sample");
    let config = match names.next() {
        Some(captions) => {
            let images = names.collect();
            TrainConfig::paper(TrainData::Files { captions, images }, model)
        }
        None => TrainConfig {
            epochs: 1,
            ..TrainConfig::sample(model)
        },
    };
    let trained = Trainer::new(config)
        .ui(Ui::Plain)
        .report(Arc::new(|line| eprintln!("{line}")))
        .train()?;
    for captioned in trained.test.iter().take(3) {
        println!("{}: {}", captioned.file_name, captioned.caption);
    }
    println!("the model is {}", trained.model.display());
    Ok(())
}
