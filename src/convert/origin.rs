//! Where a network comes from: a checkpoint, and the settings beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::files;
use crate::nn::Activation;
use torch_checkpoint::Checkpoint;

/// A folder, or a file with what lies beside it.
#[derive(Debug)]
pub struct Origin {
    /// As it was given.
    pub path: PathBuf,
    /// Where settings and vocabulary are looked for.
    pub folder: PathBuf,
}

/// A JSON object of settings.
#[derive(Clone, Debug)]
pub struct Settings {
    file: PathBuf,
    value: Value,
}

/// Sizes that a checkpoint's tensors tell.
pub struct Shapes<'a> {
    pub checkpoint: &'a Checkpoint,
    pub origin: &'a Path,
}

impl Origin {
    /// # Errors
    /// When there is nothing at the path.
    pub fn new(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "{} does not exist", path.display());
        let folder = match path.parent() {
            _ if path.is_dir() => path,
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self {
            path: path.to_path_buf(),
            folder: folder.to_path_buf(),
        })
    }

    /// A JSON file of the folder, if it has it.
    pub fn settings(&self, name: &str) -> Result<Option<Settings>> {
        let file = self.folder.join(name);
        if !file.is_file() {
            return Ok(None);
        }
        let value: Value = files::read_json(&file)?;
        ensure!(value.is_object(), "{} is no JSON object", file.display());
        Ok(Some(Settings { file, value }))
    }
}

impl Settings {
    /// The file, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// An entry that is set: `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// Settings within the settings; empty when there are none.
    pub fn section(&self, key: &str) -> Self {
        Self {
            file: self.file.clone(),
            value: self.get(key).cloned().unwrap_or_default(),
        }
    }

    /// A whole number, if it is set.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.read(key, "a whole number", |value| {
            value.as_u64().and_then(|size| usize::try_from(size).ok())
        })
    }

    /// A number, if it is set.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A truth value, if it is set.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A text, if it is set.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a text", |value| value.as_str().map(String::from))
    }

    /// Three numbers, if they are set.
    pub fn triple(&self, key: &str) -> Result<Option<[f32; 3]>> {
        self.read(key, "three numbers", |value| {
            let numbers = value.as_array()?.iter().map(|n| Some(n.as_f64()? as f32));
            numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
        })
    }

    fn read<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get(key)
            .map(|value| {
                read(value).with_context(|| {
                    format!("{}: {key} is {value}, not {what}", self.file.display())
                })
            })
            .transpose()
    }

    /// An activation by Hugging Face's name, if it is set.
    pub fn activation(&self, key: &str) -> Result<Option<Activation>> {
        let Some(name) = self.text(key)? else {
            return Ok(None);
        };
        Ok(Some(match name.as_str() {
            "quick_gelu" => Activation::QuickGelu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluNew,
            "relu" => Activation::Relu,
            other => bail!(
                "{}: {key} is `{other}`; quick_gelu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh and relu are known",
                self.file.display()
            ),
        }))
    }

    /// # Errors
    /// When a size is set, and is not what the tensors say.
    pub fn agree(&self, key: &str, found: usize) -> Result<()> {
        match self.size(key)? {
            Some(size) if size != found => bail!(
                "{}: {key} is {size}, but the weights beside it have {found}: one of the two is another model's",
                self.file.display()
            ),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When a setting has a value under which the network would compute something else.
    pub fn require(&self, key: &str, expected: bool) -> Result<()> {
        match self.flag(key)? {
            Some(flag) if flag != expected => bail!(
                "{}: {key} is {flag}, which is not supported",
                self.file.display()
            ),
            _ => Ok(()),
        }
    }
}

impl Shapes<'_> {
    /// A tensor's sizes, none of them zero.
    ///
    /// # Errors
    /// When the checkpoint lacks it, or it has another number of dimensions.
    pub fn dims<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let tensor = self.checkpoint.tensors.get(name).with_context(|| {
            format!(
                "{} lacks `{name}`: it may be a part of the network, or of another architecture",
                self.origin.display()
            )
        })?;
        let dims = tensor.shape[..].try_into().ok();
        dims.filter(|dims: &[usize; D]| !dims.contains(&0))
            .with_context(|| {
                format!(
                    "{}: `{name}` is {:?}, where {D} sizes are expected",
                    self.origin.display(),
                    tensor.shape
                )
            })
    }

    /// Number of layers whose names begin with `before` and a number.
    pub fn layers(&self, before: &str) -> usize {
        let numbers = self.checkpoint.tensors.keys().filter_map(|name| {
            let (number, _) = name.strip_prefix(before)?.split_once('.')?;
            number.parse::<usize>().ok()
        });
        let count = numbers.max().map_or(0, |last| last.saturating_add(1));
        count.min(self.checkpoint.tensors.len())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(name)
    }

    /// Whether there is a tensor whose name begins so.
    pub fn has_any(&self, start: &str) -> bool {
        let mut names = self.checkpoint.tensors.keys();
        names.any(|name| name.starts_with(start))
    }

    /// What stands before `name` in the checkpoint, if the name is there.
    pub fn prefix(&self, name: &str) -> Option<String> {
        let mut names = self.checkpoint.tensors.keys();
        names.find_map(|full| {
            let prefix = full.strip_suffix(name)?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_string())
        })
    }

    /// The side of a square of positions, one more of which stands before them.
    pub fn grid(&self, name: &str) -> Result<(usize, usize)> {
        let [positions, width] = self.dims(name)?;
        let grid = (positions - 1).isqrt();
        ensure!(
            grid > 0 && grid * grid + 1 == positions,
            "{}: `{name}` has {positions} rows, which is not a square of patches and one",
            self.origin.display()
        );
        Ok((grid, width))
    }
}
