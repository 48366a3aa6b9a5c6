//! `clipcap embed`

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::captioner::{ImageEncoder, open_crops};
use clipcap::images;
use clipcap::inputs::{self, FileKinds, Input, InputError, OtherFiles};
use clipcap::path_text;
use clipcap::shards::{self, Settings, ShardFile, Task};
use serde_json::json;

use super::common::{DeviceArg, FoundArgs, usage, valid};
use super::model::PrecisionArg;
use super::out;
use super::shards::{ShardOutput, ShareArg};
use super::{complete, find};
use clipcap::sample_model::NAME as SAMPLE;

/// Images embedded together.
const BATCH: usize = 32;

/// Print the CLIP embeddings of images: projected, not normalized
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap embed --model model/mine photos/ > embeddings.jsonl\n  \
    clipcap embed --output embeddings/ 'shards/{00000..00999}.tar'")]
pub struct EmbedArgs {
    /// Image files, folders of them, quoted patterns, addresses (--allow-urls), or - for a list of these, or for an image,
    /// on standard input; or WebDataset shards (.tar, .tar.gz, .tar.zst), folders of them, names such as {000..999}.tar
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    found: FoundArgs,
    /// Folder for the embeddings of shards, a file a shard; those of images go to standard output
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Overwrite finished shards instead of resuming
    #[arg(long, requires = "output")]
    overwrite: bool,
    #[command(flatten)]
    share: ShareArg,
    /// Model: a folder, or a name that `clipcap models` lists
    #[arg(long, value_name = "DIR|NAME", default_value = SAMPLE, add = complete::models())]
    model: PathBuf,
    /// How embeddings are written
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Type of a vision transformer's weights and matrix products; other encoders are in f32
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
    /// Apache Parquet, of shards
    #[cfg(feature = "parquet")]
    Parquet,
}

pub fn run(args: EmbedArgs) -> Result<ExitCode> {
    args.found.truncated.apply();
    valid(shards::check_names(&args.images));
    if let Some(found) = shards::find(&args.images, args.found.recursive)? {
        return embed_shards(&args, found);
    }
    args.share.refuse();
    #[cfg(feature = "parquet")]
    if let Format::Parquet = args.format {
        usage(
            ErrorKind::ArgumentConflict,
            "--format parquet is for shards, and none is named",
        );
    }
    if args.output.is_some() {
        usage(
            ErrorKind::ArgumentConflict,
            "--output is for embeddings of shards: those of images go to standard output",
        );
    }
    let (_, encoder) = args.load()?;
    let expansion = args.found.expansion();
    let others = OtherFiles::default();
    let stdin = io::BufReader::new(io::stdin());
    let mut inputs = inputs::expand(args.images, expansion, stdin, &others);
    let (mut count, mut answers) = (0, Answers::default());
    loop {
        let batch: Vec<_> = inputs.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        count += batch.len();
        answers.embed(&encoder, &batch)?;
    }
    ensure!(
        answers.given == count,
        "{count} inputs had {} answers: run again",
        answers.given
    );
    Ok(answers.finish(&others))
}

impl EmbedArgs {
    /// The model's folder, and what of it embeds.
    fn load(&self) -> Result<(PathBuf, ImageEncoder)> {
        let device = self.device.resolve()?;
        let model = find::folder(&self.model)?;
        let folder = ModelFolder::open(&model)?;
        let encoder = ImageEncoder::load_as(&folder, &device, self.precision.into())?;
        Ok((model, encoder))
    }
}

/// Embeds shards, each into a file of its own.
fn embed_shards(args: &EmbedArgs, found: Vec<ShardFile>) -> Result<ExitCode> {
    let format = match args.format {
        Format::Jsonl => shards::Format::Jsonl,
        #[cfg(feature = "parquet")]
        Format::Parquet => shards::Format::Parquet,
    };
    let output = ShardOutput::new(args.output.as_deref(), format, args.overwrite);
    let Some(jobs) = output.jobs(found, args.share)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let (model, encoder) = args.load()?;
    let settings = Settings::default()
        .with("command", "embed")
        .with("precision", format!("{:?}", encoder.precision()))
        .with("truncated_images", images::allows_truncated().to_string())
        .with_model(&model)?;
    output.run(Task::Embed(&encoder), &settings, &jobs, BATCH)
}

/// Lines printed so far.
#[derive(Default)]
struct Answers {
    given: usize,
    failed: usize,
    /// Images of a format that is not read.
    refused: FileKinds,
}

impl Answers {
    /// Prints a line for each input.
    fn embed(&mut self, encoder: &ImageEncoder, batch: &[Result<Input, InputError>]) -> Result<()> {
        let inputs: Vec<&Input> = batch.iter().flatten().collect();
        let opened = open_crops(&inputs, encoder.preprocessing());
        let crops: Vec<_> = opened.iter().flatten().cloned().collect();
        let mut embeddings = encoder.embed(&crops)?.into_iter();
        let mut opened = opened.into_iter();
        let mut lines = String::new();
        for input in batch {
            let (path, error) = match input {
                Ok(input) => {
                    let opened = opened.next().context("an image was not opened")?;
                    if let Some(format) = opened.as_ref().err().and_then(|e| e.unread_format()) {
                        self.refused.note(format, &input.path);
                    }
                    let error = opened.err().map(|error| error.to_string());
                    (input.path.as_path(), error)
                }
                Err(error) => (error.path(), Some(error.to_string())),
            };
            let image = path_text::text(path);
            let line = match error {
                None => {
                    let embedding = embeddings.next().context("an image got no embedding")?;
                    json!({"image": image, "embedding": embedding})
                }
                Some(error) => {
                    self.failed += 1;
                    json!({"image": image, "error": error})
                }
            };
            lines += &format!("{line}\n");
            self.given += 1;
        }
        out::text(&lines)
    }

    /// Says on standard error what had no embedding, and chooses the exit code.
    fn finish(self, others: &OtherFiles) -> ExitCode {
        if others.count() > 0 {
            out::note(others);
        }
        if self.failed == 0 {
            return ExitCode::SUCCESS;
        }
        let among = match self.refused.count() {
            0 => String::new(),
            _ => format!(", among them {}", self.refused),
        };
        let (failed, given) = (self.failed, self.given);
        out::note(format_args!(
            "{failed} of {given} images could not be embedded{among}"
        ));
        ExitCode::FAILURE
    }
}
