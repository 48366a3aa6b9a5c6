//! `clipcap search`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use clipcap::captioner::ImageEncoder;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::images;
use clipcap::retrieve::{Datastore, Hit, Kind};
use serde_json::{Value, json};

use super::common::{DeviceArg, TruncatedArg};
use super::{complete, find, out};

/// Find the images or captions of a datastore that are nearest to a text or an image, by the cosine of CLIP's embeddings
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap search --index stores/photos 'a dog on a beach'\n  \
    clipcap search --index stores/photos photo.jpg --top 3\n  \
    clipcap search --index stores/captions photo.jpg --format json")]
pub struct SearchArgs {
    /// What is looked for: an image, where a file is called so, else a text
    #[arg(value_name = "TEXT|IMAGE", required = true)]
    queries: Vec<String>,
    /// Folder of the datastore that `index` built
    #[arg(long, value_name = "DIR", add = complete::indexes())]
    index: PathBuf,
    /// Entries found for each
    #[arg(long, value_name = "K", default_value = "10")]
    top: std::num::NonZeroUsize,
    /// Model whose CLIP embeds what is looked for; it must be the one that embedded the datastore [default: the model that
    /// the datastore was built with]
    #[arg(long, value_name = "DIR|NAME", add = complete::models())]
    model: Option<PathBuf>,
    /// How what was found is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    /// A line an entry: cosine, and caption or image
    Text,
    /// One JSON object a line, for each text or image that is looked for
    Json,
}

pub fn run(args: SearchArgs) -> Result<ExitCode> {
    args.truncated.apply();
    let device = args.device.resolve()?;
    let datastore = Datastore::open(&args.index)?;
    let named = Path::new(&datastore.encoder().model);
    let model = match &args.model {
        Some(model) => find::folder(model)?,
        None => find::folder(named).with_context(|| {
            format!(
                "{} was built with the model {}: name where it is now with --model",
                args.index.display(),
                named.display()
            )
        })?,
    };
    let folder = ModelFolder::open(&model)?;
    datastore.check_encoder(&folder.encoder_identity()?)?;
    let encoder = ImageEncoder::load(&folder, &device)?;
    let queries: Vec<Vec<f32>> = (args.queries.iter())
        .map(|query| embed(&encoder, query))
        .collect::<Result<_>>()?;
    let found = datastore.nearest(&queries, args.top.get(), &|_, _| true)?;
    for (query, hits) in args.queries.iter().zip(found) {
        match args.format {
            Format::Json => out::line(json!({
                "query": query,
                "hits": hits.iter().map(|hit| as_json(&datastore, hit)).collect::<Vec<_>>(),
            }))?,
            Format::Text => {
                if args.queries.len() > 1 {
                    out::line(format_args!("{}:", out::one_line(query)))?;
                }
                for hit in &hits {
                    let entry = out::one_line(&datastore.entry(hit.row).entry);
                    out::line(format_args!("{:.3} {entry}", hit.cosine))?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The embedding of what is looked for.
fn embed(encoder: &ImageEncoder, query: &str) -> Result<Vec<f32>> {
    let path = Path::new(query);
    let rows = if path.is_file() {
        encoder.embed_images(&[images::open(path)?])?
    } else {
        if images::is_image_name(path) && !query.contains(' ') {
            bail!("{query}: no file is called so, and it is no text to look for either");
        }
        encoder.check_texts()?;
        if let Some(line) = encoder.cut_texts([query])?.told() {
            out::note(line);
        }
        encoder.embed_texts(&[query.to_string()])?
    };
    rows.into_iter().next().context("nothing was embedded")
}

fn as_json(datastore: &Datastore, hit: &Hit) -> Value {
    let entry = datastore.entry(hit.row);
    match datastore.kind() {
        Kind::Images => json!({"image": entry.entry, "cosine": hit.cosine}),
        Kind::Captions => {
            let mut value = json!({"caption": entry.entry, "cosine": hit.cosine});
            if let Some(image) = &entry.image {
                value["image_id"] = json!(image);
            }
            value
        }
    }
}
