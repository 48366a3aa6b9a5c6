//! Foreign checkpoints into a model folder.
//!
//! ```text
//! checkpoint/    files -> names and tensors: safetensors, PyTorch archives, pickles
//! origin         a checkpoint with the settings beside it
//! clip, openai_clip, gpt2, clipcap    whose it is, and its sizes
//! names          our names -> theirs
//! weights        tensors, checked and laid out as ours -> burnpack
//! ```
//!
//! The format of a checkpoint is detected automatically. Every tensor must be accounted for: one that is missing, of another shape
//! or left over is an error, and then nothing is written.

mod clip;
mod clipcap;
mod export;
mod gpt2;
mod names;
mod openai_clip;
mod origin;
mod parameters;
mod preprocessing;
mod report;
mod safetensors_file;
mod training_set;
mod weights;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::captioner::model_folder::{
    self, CaptionerConfig, EncoderConfig, ModelConfig, ModelFolder, Part, tokenizer_file,
};
use crate::files;
use crate::guard::guarded;
use crate::models::gpt2::Gpt2Config;
use crate::models::mapper::{MapperConfig, MapperKind};
use crate::tokenizer::{Tokenizer, TokenizerKind};
use clipcap::FoundMapper;
use origin::Origin;
use torch_checkpoint::Checkpoint;
use weights::Weights;

pub use export::export;
pub use report::{PartReport, Report, SourceFile};
pub use training_set::{TrainingSet, read_training_set};

/// What ends a caption: ClipCap's only stop token, and its like in vocabularies without it.
const STOPS: [&str; 2] = [".", "。"];

/// What to convert. A folder with CLIP and GPT-2 is enough to train with; with a captioner it can caption.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertConfig {
    /// A Hugging Face folder, or a file in Hugging Face's, OpenAI's or open_clip's names.
    pub clip: Option<PathBuf>,
    /// A Hugging Face folder, or a file with a vocabulary beside it.
    pub gpt2: Option<PathBuf>,
    /// A ClipCap or CapDec checkpoint. A GPT-2 in it replaces the other's weights.
    pub captioner: Option<PathBuf>,
    /// Whether the embedding is divided by its norm; by default as the captioner's kind was trained: a transformer with,
    /// the others without.
    pub normalize_embedding: Option<bool>,
    /// The model folder to make.
    pub output: PathBuf,
}

/// A network on its way into the model folder.
struct Converted<C> {
    config: C,
    weights: Weights,
    /// A line on its kind and size.
    architecture: String,
    format: String,
    files: Vec<PathBuf>,
    tokenizer: Option<Tokenizer>,
    dropped: Vec<String>,
    notes: Vec<String>,
}

/// Opens a checkpoint. A panic in what reads it becomes its error.
fn open_checkpoint(path: &Path) -> Result<Checkpoint> {
    match guarded(|| Checkpoint::open(path)) {
        Ok(opened) => opened,
        Err(panic) => Err(panic).with_context(|| path.display().to_string()),
    }
}

/// sha256 by file.
type Hashes = HashMap<PathBuf, String>;

/// The three parts, each with what it was read from.
#[derive(Default)]
struct Parts {
    clip: Option<(PathBuf, Converted<EncoderConfig>)>,
    gpt2: Option<(PathBuf, Converted<Gpt2Config>)>,
    mapper: Option<(PathBuf, Converted<CaptionerConfig>)>,
}

/// Reads checkpoints and makes a model folder of them: whole, or not at all.
///
/// # Errors
/// When something cannot be read, is no such network, or the parts do not go together; when the folder is there already.
pub fn convert(config: &ConvertConfig) -> Result<Report> {
    check_request(config)?;
    let parts = Parts::read(config)?;
    let model = parts.config();
    model.check().context("the parts do not go together")?;
    let parts = files::write_folder(&config.output, |folder| parts.write(folder, &model))?;
    Ok(Report {
        output: config.output.clone(),
        parts,
    })
}

fn check_request(config: &ConvertConfig) -> Result<()> {
    ensure!(
        config.clip.is_some() || config.gpt2.is_some(),
        "there is nothing to convert: give --clip, --gpt2 or both"
    );
    ensure!(
        config.captioner.is_none() || (config.clip.is_some() && config.gpt2.is_some()),
        "a captioner needs --clip for the embeddings that it reads, and --gpt2 for the vocabulary"
    );
    ensure!(
        config.normalize_embedding.is_none() || config.captioner.is_some(),
        "--normalize-embedding belongs to a captioner: give --captioner too"
    );
    files::check_free(&config.output)?;
    files::check_folder(&config.output)
}

impl Parts {
    fn read(config: &ConvertConfig) -> Result<Self> {
        let mut parts = Self::default();
        if let Some(path) = &config.clip {
            parts.clip = Some((path.clone(), clip::read(&Origin::new(path)?)?));
        }
        if let Some(captioner) = &config.captioner {
            parts.read_captioner(captioner, config)?;
        } else if let Some(path) = &config.gpt2 {
            parts.gpt2 = Some((path.clone(), gpt2::read(&Origin::new(path)?)?));
        }
        Ok(parts)
    }

    fn read_captioner(&mut self, captioner: &Path, config: &ConvertConfig) -> Result<()> {
        let path = config.gpt2.as_deref().context("--gpt2 is missing")?;
        let origin = Origin::new(path)?;
        let checkpoint = open_checkpoint(captioner)?;
        let holds_gpt2 = gpt2::is_in(&checkpoint);
        let (path, mut gpt2) = if holds_gpt2 {
            (captioner, gpt2::read_from(&checkpoint, captioner, &origin)?)
        } else {
            (path, gpt2::read(&origin)?)
        };
        let found = clipcap::read(&checkpoint, captioner, gpt2.config.n_embd)?;
        if let Some((clip_path, clip)) = &self.clip {
            let clip_dim = clip.config.sizes.projection_dim;
            clipcap::check_clip(&found.sizes, captioner, clip_dim, clip_path)?;
        }
        let used: &[&Weights] = match holds_gpt2 {
            true => &[&gpt2.weights, &found.weights],
            false => &[&found.weights],
        };
        let dropped = Weights::check_leftover(used, &checkpoint, captioner, gpt2::is_superfluous)?;
        let tokenizer = gpt2.tokenizer.as_ref().context("GPT-2 has no vocabulary")?;
        let mut mapper = mapper(found, &checkpoint, config, tokenizer)?;
        if holds_gpt2 {
            gpt2.dropped = dropped;
        } else {
            mapper.dropped = dropped;
        }
        self.gpt2 = Some((path.to_path_buf(), gpt2));
        self.mapper = Some((captioner.to_path_buf(), mapper));
        Ok(())
    }

    fn config(&self) -> ModelConfig {
        ModelConfig {
            clip: self.clip.as_ref().map(|(_, clip)| clip.config.clone()),
            encoder: None,
            gpt2: self.gpt2.as_ref().map(|(_, gpt2)| gpt2.config.clone()),
            mapper: self
                .mapper
                .as_ref()
                .map(|(_, mapper)| mapper.config.clone()),
        }
    }

    /// Fills a model folder.
    fn write(&self, folder: &Path, model: &ModelConfig) -> Result<Vec<PartReport>> {
        // Hashing and writing keep a core each busy.
        let (hashes, written) = rayon::join(|| hash_all(self.files()), || self.write_parts(folder));
        written?;
        let reports = self.reports(&hashes?);
        for report in &reports {
            model_folder::update_source(folder, report.part, serde_json::to_value(report)?)?;
        }
        model_folder::update_config(folder, |config| *config = model.clone())?;
        ModelFolder::open(folder)?;
        Ok(reports)
    }

    fn write_parts(&self, folder: &Path) -> Result<()> {
        if let Some((_, clip)) = &self.clip {
            clip.write(folder, Part::Clip, Some(TokenizerKind::Clip))?;
        }
        if let Some((_, gpt2)) = &self.gpt2 {
            gpt2.write(folder, Part::Gpt2, Some(TokenizerKind::Gpt2))?;
        }
        if let Some((_, mapper)) = &self.mapper {
            mapper.write(folder, Part::Mapper, None)?;
        }
        Ok(())
    }

    fn files(&self) -> BTreeSet<&Path> {
        let clip = self.clip.iter().flat_map(|(_, clip)| &clip.files);
        let gpt2 = self.gpt2.iter().flat_map(|(_, gpt2)| &gpt2.files);
        let mapper = self.mapper.iter().flat_map(|(_, mapper)| &mapper.files);
        clip.chain(gpt2)
            .chain(mapper)
            .map(PathBuf::as_path)
            .collect()
    }

    fn reports(&self, hashes: &Hashes) -> Vec<PartReport> {
        let clip = self
            .clip
            .iter()
            .map(|(path, clip)| clip.report("clip", path, hashes));
        let gpt2 = self
            .gpt2
            .iter()
            .map(|(path, gpt2)| gpt2.report("gpt2", path, hashes));
        let mapper = self.mapper.iter();
        let mapper = mapper.map(|(path, mapper)| mapper.report("mapper", path, hashes));
        clip.chain(gpt2).chain(mapper).collect()
    }
}

impl<C> Converted<C> {
    fn write(&self, folder: &Path, part: Part, vocabulary: Option<TokenizerKind>) -> Result<()> {
        self.weights.write(&folder.join(part.file_name()))?;
        match (&self.tokenizer, vocabulary) {
            (Some(tokenizer), Some(kind)) => tokenizer.save(&folder.join(tokenizer_file(kind))),
            _ => Ok(()),
        }
    }

    fn report(&self, part: &'static str, source: &Path, hashes: &Hashes) -> PartReport {
        let name = |file: &Path| file.file_name().unwrap_or_default().display().to_string();
        PartReport {
            part,
            made_by: "clipcap convert",
            version: env!("CARGO_PKG_VERSION"),
            source: source.to_path_buf(),
            format: self.format.clone(),
            architecture: self.architecture.clone(),
            files: (self.files.iter())
                .map(|file| SourceFile {
                    name: name(file),
                    sha256: hashes.get(file).cloned().unwrap_or_default(),
                })
                .collect(),
            tensors: self.weights.tensors(),
            parameters: self.weights.parameters(),
            dtypes: self.weights.dtypes(),
            dropped: self.dropped.clone(),
            notes: self.notes.clone(),
        }
    }
}

fn hash_all(paths: BTreeSet<&Path>) -> Result<Hashes> {
    paths
        .into_iter()
        .map(|path| Ok((path.to_path_buf(), files::sha256(path)?)))
        .collect()
}

/// The mapper with the settings that go with it: the file's own where this program wrote it, else its kind's.
fn mapper(
    found: FoundMapper,
    checkpoint: &Checkpoint,
    config: &ConvertConfig,
    tokenizer: &Tokenizer,
) -> Result<Converted<CaptionerConfig>> {
    let is_transformer = matches!(found.sizes.kind, MapperKind::Transformer { .. });
    let set = found.settings.as_ref();
    let normalize_embedding = config
        .normalize_embedding
        .or(set.map(|settings| settings.normalize_embedding))
        .unwrap_or(is_transformer);
    let stop_tokens = match found.settings {
        Some(settings) => settings.stop_tokens,
        None => vec![stop_token(tokenizer)?],
    };
    Ok(Converted {
        architecture: describe(&found.sizes, normalize_embedding),
        format: checkpoint.format.clone(),
        config: CaptionerConfig {
            sizes: found.sizes,
            normalize_embedding,
            stop_tokens,
            retrieve: None,
        },
        weights: found.weights,
        files: checkpoint.files.clone(),
        tokenizer: None,
        dropped: Vec::new(),
        notes: Vec::new(),
    })
}

/// The full stop, if the vocabulary has one, else the end of text.
fn stop_token(tokenizer: &Tokenizer) -> Result<u32> {
    for stop in STOPS {
        if let [id] = tokenizer.encode(stop)?[..] {
            return Ok(id);
        }
    }
    Ok(tokenizer.end_of_text())
}

fn describe(sizes: &MapperConfig, normalize_embedding: bool) -> String {
    let kind = match sizes.kind {
        MapperKind::Mlp => "MLP".to_string(),
        MapperKind::Linear => "linear".to_string(),
        MapperKind::Transformer {
            clip_length,
            layers,
            ..
        } => format!("transformer of {layers} layers, clip length {clip_length}"),
    };
    let embedding = if normalize_embedding {
        "normalized"
    } else {
        "not normalized"
    };
    format!(
        "{kind}: embeddings of {}, {embedding}, to a prefix of {} x {}",
        sizes.clip_dim, sizes.prefix_length, sizes.n_embd
    )
}
