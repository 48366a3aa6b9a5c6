//! `clipcap gap`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::data::gap::Gap;
use clipcap::datasets;
use clipcap::train::dataset::embed_pairs;

use super::common::{DeviceArg, TruncatedArg, report};
use super::out;
use super::{complete, find};
use clipcap::sample_model::NAME as SAMPLE;

/// Measure the gap between CLIP's embeddings of images and of their captions
///
/// It tells how much noise makes up for learning from captions alone: see `train --learn-from captions`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap gap\n  \
    clipcap gap --model model/mine --data captions.json --images photos/")]
pub struct GapArgs {
    /// Model that CLIP comes from: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", default_value = SAMPLE, add = complete::models())]
    model: PathBuf,
    /// Captioned images, in any format that `train --data` reads [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the images named in --data are in; may be given several times
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Vec<PathBuf>,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Lines for a person
    Text,
    /// One JSON object
    Json,
}

pub fn run(args: GapArgs) -> Result<ExitCode> {
    args.truncated.apply();
    let device = args.device.resolve()?;
    let data = args.data.as_deref().map(|data| (data, &args.images[..]));
    let model = find::folder(&args.model)?;
    let dataset = Path::new(datasets::FOLDER);
    let (images, captions) = embed_pairs(&model, data, dataset, &device, &report())?;
    let gap = Gap::measure(&images, &captions).context("there is no image with a caption")?;
    match args.format {
        Format::Json => out::line(serde_json::to_string(&gap)?)?,
        Format::Text => out::text(&show(&gap))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(gap: &Gap) -> String {
    let mut text = format!(
        "{} images, {} captions, all embeddings normalized\n",
        gap.images, gap.captions
    );
    let mut row = |name: &str, value: f64| text.push_str(&format!("{name:<29} {value:.4}\n"));
    row("norm of the images' mean", gap.image_center_norm);
    row("norm of the captions' mean", gap.caption_center_norm);
    row("cosine of the two means", gap.center_cosine);
    row("norm of the offset", gap.offset_norm);
    row("cosine of image and caption", gap.pair_cosine);
    if let (Some(cosine), Some(distance), Some(variance)) =
        (gap.caption_cosine, gap.caption_distance, gap.noise_variance)
    {
        row("cosine of two captions", cosine);
        row("largest difference of two", distance);
        text.push_str(&format!(
            "so, by CapDec's rule: --noise gaussian --noise-variance {variance:.4}\n"
        ));
    }
    text
}
