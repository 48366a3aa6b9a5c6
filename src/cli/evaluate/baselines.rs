//! `clipcap evaluate --baselines`

use std::process::ExitCode;

use anyhow::Result;
use clipcap::data::coco::{CaptionResult, ImageId, write_results};
use clipcap::evaluate::baselines::{
    Baseline, BaselineCaptions, BaselineConfig, Row, caption, table,
};
use clipcap::evaluate::score::{Evaluation, ScoreOptions, score};
use clipcap::evaluate::table::Style;
use clipcap::files;
use serde_json::json;

use super::part::{data_and_images, division, from_model};
use super::{EvaluateArgs, Format, find, out, print_json};

/// Scores the baselines, and the model where one is named, on the same part.
pub fn run(args: &EvaluateArgs, options: &ScoreOptions) -> Result<ExitCode> {
    let (data, images) = data_and_images(args)?;
    let model = args.model.as_deref().map(find::folder).transpose()?;
    let (split, split_seed) = division(args, model.as_deref())?;
    let config = BaselineConfig {
        data: &data,
        image_folders: std::slice::from_ref(&images),
        part: args.split(),
        split: &split,
        split_seed,
        seed: args.seed,
    };
    let found = caption(&config, &|line| out::note(line))?;
    let mut scored: Vec<(String, String, Evaluation)> = Vec::new();
    for said in found.captions {
        keep(args, &said)?;
        let scores = score(said.images, options, Vec::new())?;
        scored.push((said.baseline.name().into(), said.about, scores));
    }
    if let Some(model) = &args.model {
        let loaded = from_model(args, &find::folder(model)?)?;
        let mut scores = score(loaded.images, options, Vec::new())?;
        scores.scenes = loaded.scenes;
        if let Some(path) = &loaded.metrics {
            files::write_json(path, &scores)?;
            out::note(format_args!("scores: {}", path.display()));
        }
        scored.push((model.display().to_string(), "the model".into(), scores));
    }
    let rows: Vec<Row> = (scored.iter())
        .map(|(name, about, scores)| Row {
            name,
            about,
            scores,
        })
        .collect();
    for row in &rows {
        out::note(format_args!("{}: {}", row.name, row.about));
    }
    let markdown = || table(&rows, Style::Markdown);
    args.markdown.write(markdown)?;
    match args.format {
        Format::Text => out::text(&table(&rows, Style::Text))?,
        Format::Markdown => out::text(&markdown())?,
        Format::Json => print_json(&json!({
            "data": data,
            "part": args.split().to_string(),
            "train_images": found.train_images,
            "rows": rows,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a baseline's captions where a folder is named, to be compared with a model's.
fn keep(args: &EvaluateArgs, said: &BaselineCaptions) -> Result<()> {
    let Some(folder) = &args.output else {
        return Ok(());
    };
    files::create_dir(folder)?;
    let results: Vec<CaptionResult> = (said.images.iter())
        .map(|image| CaptionResult {
            image_id: ImageId::parse(&image.id),
            caption: image.sample.candidate.clone(),
        })
        .collect();
    let path = folder.join(format!(
        "predictions-{}-{}.json",
        args.split(),
        slug(said.baseline)
    ));
    write_results(&path, &results)?;
    out::note(format_args!("captions: {}", path.display()));
    Ok(())
}

/// As JSON calls a baseline.
fn slug(baseline: Baseline) -> String {
    let name = serde_json::to_value(baseline).unwrap_or_default();
    name.as_str().unwrap_or_default().to_string()
}
