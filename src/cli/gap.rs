//! `clipcap gap`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clipcap::data::gap::Gap;
use clipcap::train::caption::DATASET;
use clipcap::train::dataset::embed_pairs;

use super::common::{DeviceArg, SAMPLE_MODEL, TruncatedArg, report};

/// Measure the gap between CLIP's embeddings of pictures and of their captions
///
/// It tells how much noise makes up for learning from captions alone: see `train --learn-from captions`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap gap\n  \
    clipcap gap --model model/mine --data captions.json --images photos/")]
pub struct GapArgs {
    /// Model folder that CLIP comes from
    #[arg(long, value_name = "DIR", default_value = SAMPLE_MODEL)]
    model: PathBuf,
    /// Captioned pictures, in any format that `train --data` reads [default: the generated sample]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder that the pictures named in --data are in; may be given several times
    #[arg(long, value_name = "DIR", requires = "data")]
    images: Vec<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(args: GapArgs) -> Result<ExitCode> {
    args.truncated.apply();
    let device = args.device.resolve()?;
    let data = args.data.as_deref().map(|data| (data, &args.images[..]));
    let (images, captions) =
        embed_pairs(&args.model, data, Path::new(DATASET), &device, &report())?;
    let gap = Gap::measure(&images, &captions).context("there is no picture with a caption")?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&gap)?),
        Format::Text => show(&gap),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(gap: &Gap) {
    println!(
        "{} images, {} captions, all embeddings normalised",
        gap.images, gap.captions
    );
    println!("norm of the images' mean      {:.4}", gap.image_center_norm);
    println!(
        "norm of the captions' mean    {:.4}",
        gap.caption_center_norm
    );
    println!("cosine of the two means       {:.4}", gap.center_cosine);
    println!("norm of the offset            {:.4}", gap.offset_norm);
    println!("cosine of image and caption   {:.4}", gap.pair_cosine);
    let (Some(cosine), Some(distance), Some(variance)) =
        (gap.caption_cosine, gap.caption_distance, gap.noise_variance)
    else {
        return;
    };
    println!("cosine of two captions        {cosine:.4}");
    println!("largest difference of two     {distance:.4}");
    println!("so, by CapDec's rule: --noise gaussian --noise-variance {variance:.4}");
}
