//! A model folder: everything a captioner needs, and nothing it has to be told.
//!
//! ```text
//! config.json           sizes of every part, preprocessing, stop tokens; unknown keys are refused
//! clip.bpk              CLIP's weights (burnpack)
//! encoder.bpk           weights of another image encoder, which stands where CLIP stands otherwise
//! gpt2.bpk              GPT-2's weights
//! mapper.bpk            the mapper's weights; absent in a folder that only supplies CLIP and GPT-2 to train with
//! clip-tokenizer.json   CLIP's vocabulary
//! gpt2-tokenizer.json   GPT-2's vocabulary
//! datastore/            captions of similar images, where the mapper was trained with them
//! source.json           where each part came from
//! ```

mod check;
mod remedy;
mod weights;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{self, Lock};
use crate::models::clip::{Clip, ClipConfig, Preprocessing};
use crate::models::encoder::{Encoder, ImageEncoderConfig, Loader};
use crate::models::gpt2::{Gpt2, Gpt2Config};
use crate::models::mapper::{Mapper, MapperConfig};
use crate::retrieve;
use crate::sample_model;
use crate::tokenizer::{Tokenizer, TokenizerKind};

use remedy::remedy;
pub use weights::{load_part, read_now, save_part};

/// What `config.json` holds: each part that the folder has. A captioner needs all three; CLIP and GPT-2 alone are
/// enough to train a mapper with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<EncoderConfig>,
    /// An encoder that is not CLIP; where there is one, it embeds the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<ImageEncoderConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpt2: Option<Gpt2Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapper: Option<CaptionerConfig>,
}

/// CLIP and what is done to an image before CLIP sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    pub sizes: ClipConfig,
    pub preprocessing: Preprocessing,
}

/// The part of the configuration that comes from training a mapper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionerConfig {
    pub sizes: MapperConfig,
    /// Whether the CLIP embedding is divided by its norm before the mapper reads it.
    pub normalize_embedding: bool,
    /// GPT-2 tokens that end a caption.
    pub stop_tokens: Vec<u32>,
    /// Retrieved captions that GPT-2 reads before its own, where it was trained so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<usize>,
}

/// One of the folder's weight files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Clip,
    /// Another image encoder.
    Encoder,
    Gpt2,
    Mapper,
}

impl Part {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 4] = [Self::Clip, Self::Encoder, Self::Gpt2, Self::Mapper];

    /// What it goes by in `config.json` and `source.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Encoder => "encoder",
            Self::Gpt2 => "gpt2",
            Self::Mapper => "mapper",
        }
    }

    /// The file it stands in.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Clip => "clip.bpk",
            Self::Encoder => "encoder.bpk",
            Self::Gpt2 => "gpt2.bpk",
            Self::Mapper => "mapper.bpk",
        }
    }
}

/// A folder on disk, with its configuration read.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    pub path: PathBuf,
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the folder or its configuration is missing, or a key in it is missing or unknown.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!("{} is not a model folder: no such folder", path.display());
        }
        let file = path.join("config.json");
        if !file.is_file() {
            bail!(
                "{} is not a model folder: it has no config.json (a run's model is in its `best` folder)",
                path.display()
            );
        }
        let config: ModelConfig = files::read_own_json(&file, || remedy(path, None))?;
        let folder = Self {
            path: path.to_path_buf(),
            config,
        };
        let checked = folder.config.check();
        checked.with_context(|| file.display().to_string())?;
        Ok(folder)
    }

    /// CLIP with its weights.
    pub fn load_clip(&self, device: &Device) -> Result<Clip> {
        load_part(
            self.encoder_config()?.sizes.init(device),
            &self.path,
            Part::Clip,
        )
    }

    /// What embeds images, with its weights, when it is not CLIP.
    pub fn load_encoder(&self, device: &Device) -> Result<Option<Box<dyn Encoder>>> {
        let config = self.config.encoder.as_ref();
        config
            .map(|config| config.network.load(device, self))
            .transpose()
    }

    /// The part that embeds images.
    pub fn image_part(&self) -> Part {
        match self.config.encoder {
            Some(_) => Part::Encoder,
            None => Part::Clip,
        }
    }

    /// What is done to an image before it is embedded.
    ///
    /// # Errors
    /// When nothing in the folder embeds images.
    pub fn preprocessing(&self) -> Result<&Preprocessing> {
        match &self.config.encoder {
            Some(encoder) => Ok(&encoder.preprocessing),
            None => Ok(&self.encoder_config()?.preprocessing),
        }
    }

    /// Width of an image's embedding.
    ///
    /// # Errors
    /// When nothing in the folder embeds images.
    pub fn embedding_dim(&self) -> Result<usize> {
        match &self.config.encoder {
            Some(encoder) => Ok(encoder.dim()),
            None => Ok(self.encoder_config()?.sizes.projection_dim),
        }
    }

    /// Everything that an image's embedding depends on, in a few bytes.
    ///
    /// # Errors
    /// When nothing in the folder embeds images, or its weights cannot be read.
    pub fn image_fingerprint(&self) -> Result<Vec<u8>> {
        let settings = match &self.config.encoder {
            Some(encoder) => serde_json::to_vec(encoder)?,
            None => serde_json::to_vec(self.encoder_config()?)?,
        };
        let weights = self.path.join(self.image_part().file_name());
        let sha256 = match weights.is_file() {
            true => files::sha256(&weights)?,
            // Pixels as they are have none.
            false => String::new(),
        };
        Ok([sha256.into_bytes(), settings].concat())
    }

    /// What embeds images, as a datastore knows it.
    ///
    /// # Errors
    /// As [`Self::image_fingerprint`]'s.
    pub fn encoder_identity(&self) -> Result<retrieve::Encoder> {
        let model = match sample_model::is_name(&self.path) {
            true => sample_model::NAME.to_string(),
            false => self.path.display().to_string(),
        };
        Ok(retrieve::Encoder {
            model,
            fingerprint: files::hex(&Sha256::digest(self.image_fingerprint()?)),
            width: self.embedding_dim()?,
        })
    }

    /// GPT-2 with its weights.
    pub fn load_gpt2(&self, device: &Device) -> Result<Gpt2> {
        load_part(self.gpt2_config()?.init(device), &self.path, Part::Gpt2)
    }

    /// The mapper with its weights.
    pub fn load_mapper(&self, device: &Device) -> Result<Mapper> {
        load_part(
            self.captioner_config()?.sizes.init(device),
            &self.path,
            Part::Mapper,
        )
    }

    /// Sizes and preprocessing of CLIP.
    ///
    /// # Errors
    /// When the folder has none.
    pub fn encoder_config(&self) -> Result<&EncoderConfig> {
        self.config.clip.as_ref().with_context(|| {
            format!(
                "{0} has no CLIP: make one with `clipcap pretrain clip --output {0}`",
                self.path.display()
            )
        })
    }

    /// Sizes of GPT-2.
    ///
    /// # Errors
    /// When the folder has none.
    pub fn gpt2_config(&self) -> Result<&Gpt2Config> {
        self.config.gpt2.as_ref().with_context(|| {
            format!(
                "{0} has no GPT-2: make one with `clipcap pretrain gpt2 --output {0}`",
                self.path.display()
            )
        })
    }

    /// The configuration of the mapper.
    ///
    /// # Errors
    /// When the folder has none.
    pub fn captioner_config(&self) -> Result<&CaptionerConfig> {
        self.config.mapper.as_ref().with_context(|| {
            format!(
                "{0} has no mapper, so it cannot caption: train one with `clipcap train --model {0}`",
                self.path.display()
            )
        })
    }

    /// The vocabulary of one of the two text models.
    ///
    /// # Errors
    /// When the folder has none. A CLIP may come without: it can embed images, but no sentences.
    pub fn load_tokenizer(&self, kind: TokenizerKind) -> Result<Tokenizer> {
        let file = self.path.join(tokenizer_file(kind));
        if kind == TokenizerKind::Clip {
            self.check_texts()?;
        }
        let part = match kind {
            TokenizerKind::Clip => Part::Clip,
            TokenizerKind::Gpt2 => Part::Gpt2,
        };
        Tokenizer::from_file(&file, kind)
            .map_err(|error| anyhow!("{error}: {}", remedy(&self.path, Some(part))))
    }

    /// Whether texts can be embedded.
    ///
    /// # Errors
    /// When CLIP, its text tower or its vocabulary is not there; the message says what is missing and what to do.
    pub fn check_texts(&self) -> Result<()> {
        if self.config.encoder.is_some() {
            bail!(
                "{} embeds images with an encoder that is not CLIP: texts cannot be embedded",
                self.path.display()
            );
        }
        if self.encoder_config()?.sizes.text.is_none() {
            bail!(
                "{} has CLIP's vision tower alone: captioning works, but reranking, CLIPScore, the modality gap and learning from captions embed texts too; convert the whole CLIP, with its text tower",
                self.path.display()
            );
        }
        let file = self.path.join(tokenizer_file(TokenizerKind::Clip));
        if !file.is_file() {
            bail!(
                "{} is missing, so texts cannot be embedded: the CLIP came without its vocabulary; copy a CLIP's tokenizer.json there",
                file.display()
            );
        }
        Ok(())
    }

    /// Takes over a part and its tokenizer from another folder.
    pub fn copy_part(&self, part: Part, target: &Path) -> Result<()> {
        let copy = |name: &str| files::link_or_copy(&self.path.join(name), &target.join(name));
        if part == Part::Encoder && !self.path.join(part.file_name()).is_file() {
            return Ok(()); // pixels as they are
        }
        copy(part.file_name())?;
        match part {
            // A CLIP may come without its vocabulary.
            Part::Clip
                if !self
                    .path
                    .join(tokenizer_file(TokenizerKind::Clip))
                    .is_file() =>
            {
                Ok(())
            }
            Part::Clip => copy(tokenizer_file(TokenizerKind::Clip)),
            Part::Gpt2 => copy(tokenizer_file(TokenizerKind::Gpt2)),
            Part::Mapper | Part::Encoder => Ok(()),
        }
    }
}

impl Loader for &ModelFolder {
    fn load<M: Module>(&self, module: M) -> Result<M> {
        load_part(module, &self.path, Part::Encoder)
    }
}

/// Changes a folder's `config.json`, or begins one; one process at a time.
pub fn update_config(folder: &Path, change: impl FnOnce(&mut ModelConfig)) -> Result<()> {
    let _lock = Lock::wait(folder, &|_| ())?;
    let path = folder.join("config.json");
    let mut config = if path.is_file() {
        files::read_own_json(&path, || remedy(folder, None))?
    } else {
        ModelConfig::default()
    };
    change(&mut config);
    files::write_json(&path, &config)
}

/// What a folder's `source.json` says of where its parts came from; nothing where there is none.
///
/// # Errors
/// When it is damaged.
pub fn read_source(folder: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    let path = folder.join("source.json");
    if !path.is_file() {
        return Ok(serde_json::Map::new());
    }
    let fix = || "delete it, for it only tells where the model's parts came from".to_string();
    files::read_own_json(&path, fix)
}

/// Sets one part's entry in a folder's `source.json`, or begins one; one process at a time.
pub fn update_source(folder: &Path, part: &str, entry: serde_json::Value) -> Result<()> {
    let _lock = Lock::wait(folder, &|_| ())?;
    let path = folder.join("source.json");
    let mut source = read_source(folder)?;
    source.insert(part.to_string(), entry);
    files::write_json(&path, &source)
}

/// The vocabulary's name in a model folder.
pub fn tokenizer_file(kind: TokenizerKind) -> &'static str {
    match kind {
        TokenizerKind::Clip => "clip-tokenizer.json",
        TokenizerKind::Gpt2 => "gpt2-tokenizer.json",
    }
}
