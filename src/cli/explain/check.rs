//! `clipcap explain --check`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use caption_metrics::bootstrap::choose;
use clipcap::captioner::{Caption, Captioner, Search};
use clipcap::data::unreadable;
use clipcap::evaluate::model::part_images;
use clipcap::explain::check::{Check, CheckOptions};
use clipcap::explain::{Faithfulness, Method};
use indicatif::ProgressBar;

use super::{ExplainArgs, Format, text};
use crate::cli::evaluate::{of_run, sample_or};
use crate::cli::out;

pub fn run(
    args: &ExplainArgs,
    model: &Path,
    captioner: &Captioner,
    search: &Search,
) -> Result<ExitCode> {
    let options = args.check.options();
    let methods = match args.method {
        Some(method) => vec![method.into()],
        None if captioner.modules()?.clip.is_some() => vec![Method::Attention, Method::Occlusion],
        None => vec![Method::Occlusion],
    };
    let mut checks: Vec<(Method, Check)> = (methods.into_iter())
        .map(|method| (method, Check::new(method, options)))
        .collect();
    check_images(args, model, captioner, search, &mut checks)?;
    let found: Vec<Faithfulness> = checks.iter().map(|(_, check)| check.finish()).collect();
    match args.format {
        Format::Text => {
            let table = text::faithfulness(&found, options.draws, options.bootstrap.confidence);
            out::text(&table)?;
        }
        Format::Jsonl => {
            for found in &found {
                out::line(serde_json::to_string(found)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Explains the best captions of some images of the part, and covers what was found.
fn check_images(
    args: &ExplainArgs,
    model: &Path,
    captioner: &Captioner,
    search: &Search,
    checks: &mut [(Method, Check)],
) -> Result<()> {
    let own = (args.check.data.clone()).map(|data| (data, args.check.images.clone()));
    let (data, folders) = sample_or(own)?;
    let (shares, seed) = of_run(Some(model))?;
    let shares = args.check.shares.clone().unwrap_or(shares);
    let seed = args.check.split_seed.unwrap_or(seed);
    let report = |line: &str| out::note(line);
    let images = part_images(&data, &folders, args.check.split(), &shares, seed, &report)?;
    let chosen = choose(
        images.len(),
        args.check.count(),
        CheckOptions::default().seed,
    );
    ensure!(
        !chosen.is_empty(),
        "the {} part of {} has no image to check on",
        args.check.split(),
        data.display()
    );
    let bar = match out::shows_bars() {
        true => ProgressBar::new(chosen.len() as u64),
        false => ProgressBar::hidden(),
    };
    let mut failed = Vec::new();
    let total = chosen.len();
    for place in chosen {
        let image = &images[place];
        let source = (image.source.as_ref())
            .ok_or_else(|| anyhow!("{} has no image of {}", data.display(), image.file_name))?;
        match source.open() {
            Ok(opened) => {
                let crop = captioner.encoder.crop(&opened);
                let crops = std::slice::from_ref(&crop);
                let captions = captioner.caption_crops(crops, search)?;
                let best: Caption = (captions.into_iter().flatten().next())
                    .with_context(|| format!("{} got no caption", image.file_name))?;
                for (method, check) in &mut *checks {
                    let options = args.options().method(*method).alternatives(0).neighbors(0);
                    let explanation = captioner.explain_caption(&crop, &best, search, &options)?;
                    let caption = (&best, search);
                    check.add(captioner, &crop, caption, &explanation, place as u64)?;
                }
            }
            Err(error) => failed.push(error),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    unreadable::check(&failed, total, data.display(), &report)
}
