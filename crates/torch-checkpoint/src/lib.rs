//! Foreign checkpoints: names and tensors, whatever the file's format. Values stay in the file until they are asked for,
//! and nothing in a file is ever run. No part of this module needs burn.

mod foreign;
mod globals;
mod machine;
mod pickle;
mod safetensors;
mod source;
mod tensor;
mod torch;
mod wrappers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use pickle::{Id, Node, Pickle};
pub use source::Section;
pub use tensor::{DType, StoredTensor};
pub use torch::TorchObject;

/// Deepest nesting of a checkpoint's dictionaries.
const DEEPEST: usize = 64;
/// Values looked at in search of tensors: a pickle can name one dictionary many times over.
const MOST_VISITS: usize = 10_000_000;
/// What training scripts call the state dict among the other things that they save.
const STATE_DICTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "module"];
/// Wrappers named in a message.
const LISTED: usize = 3;
/// Names of a network's weights in a folder, the preferred first.
const WEIGHT_FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
];

/// Named tensors of one or several files.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The files they are in.
    pub files: Vec<PathBuf>,
    /// How the files are put together.
    pub format: String,
    /// What a safetensors file says about itself.
    pub notes: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a file, or the weights in a folder.
    ///
    /// # Errors
    /// When there is no checkpoint, or it is damaged; the message names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() {
            weight_file(path)?
        } else {
            path.to_path_buf()
        };
        let is_index = file.to_string_lossy().ends_with(".index.json");
        if is_index {
            return Self::open_shards(&file);
        }
        let checkpoint = Self::open_file(&file)?;
        checkpoint
            .without_wrappers()
            .with_context(|| file.display().to_string())
    }

    fn open_file(file: &Path) -> Result<Self> {
        let read = || Self::read_as_named(&Section::open(file)?);
        let checkpoint = read().with_context(|| file.display().to_string())?;
        Ok(Self {
            files: vec![file.to_path_buf()],
            ..checkpoint
        })
    }

    /// Reads a checkpoint of one file.
    ///
    /// # Errors
    /// When it is none, or is damaged.
    pub fn read(section: &Section) -> Result<Self> {
        Self::read_as_named(section)?.without_wrappers()
    }

    /// Reads one file and leaves the names as they are.
    fn read_as_named(section: &Section) -> Result<Self> {
        let enough = section.byte_len().min(foreign::ENOUGH as u64);
        let mut first = vec![0; enough as usize];
        section.read_at(0, &mut first)?;
        let checkpoint = if torch::is_zip(&first) {
            Self::from_torch(&TorchObject::from_zip(section)?)?
        } else if torch::is_pickle(&first) {
            Self::from_torch(&TorchObject::from_pickle(section)?)?
        } else if safetensors::is_safetensors(&first) {
            let (tensors, notes) = safetensors::read(section)?;
            Self {
                tensors,
                notes,
                format: "safetensors".into(),
                ..Self::default()
            }
        } else if let Some(what) = foreign::describe(&first) {
            bail!("it is {what}");
        } else {
            bail!("it is neither safetensors nor a PyTorch file");
        };
        ensure!(!checkpoint.tensors.is_empty(), "there are no tensors in it");
        Ok(checkpoint)
    }

    fn open_shards(index: &Path) -> Result<Self> {
        let context = || index.display().to_string();
        let text = std::fs::read_to_string(index).with_context(context)?;
        let value: serde_json::Value = serde_json::from_str(&text).with_context(context)?;
        let map = value["weight_map"].as_object();
        let map = map.with_context(|| format!("{} has no weight_map", index.display()))?;
        let mut names: Vec<&str> = map.values().filter_map(|name| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let mut all = Self::default();
        for name in names {
            ensure!(
                Path::new(name).file_name().is_some_and(|last| last == name),
                "{}: `{name}` is not a file beside it",
                index.display()
            );
            let shard = Self::open_file(&index.with_file_name(name))?;
            all.tensors.extend(shard.tensors);
            all.files.extend(shard.files);
            all.format = format!("{}, sharded", shard.format);
        }
        for name in map.keys() {
            ensure!(
                all.tensors.contains_key(name),
                "{} lists `{name}`, which is in none of its files",
                index.display()
            );
        }
        all.without_wrappers().with_context(context)
    }

    fn from_torch(object: &TorchObject) -> Result<Self> {
        let mut search = Search {
            object,
            tensors: BTreeMap::new(),
            visits: 0,
        };
        search.visit(state_dict(object), "", 0)?;
        Ok(Self {
            tensors: search.tensors,
            format: object.format.into(),
            ..Self::default()
        })
    }

    /// Takes off what wrappers put into names, and says so in the format.
    fn without_wrappers(mut self) -> Result<Self> {
        let (tensors, taken) = wrappers::strip(self.tensors)?;
        self.tensors = tensors;
        if !taken.is_empty() {
            let names: Vec<String> = (taken.iter().take(LISTED))
                .map(|wrapper| format!("`{wrapper}`"))
                .collect();
            self.format = format!(
                "{}, {} taken off its names",
                self.format,
                names.join(" and ")
            );
        }
        Ok(self)
    }
}

/// # Errors
/// When a file is something else than PyTorch or NumPy write, and it can be told what.
pub fn refuse_foreign(section: &Section) -> Result<()> {
    let enough = section.byte_len().min(foreign::ENOUGH as u64);
    let mut first = vec![0; enough as usize];
    section.read_at(0, &mut first)?;
    match foreign::describe(&first) {
        Some(what) => bail!("it is {what}"),
        None => Ok(()),
    }
}

/// The file of a folder that holds its weights.
fn weight_file(folder: &Path) -> Result<PathBuf> {
    for name in WEIGHT_FILES {
        let file = folder.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let endings = ["safetensors", "pt", "pth", "bin"];
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| endings.contains(&ending)) && path.is_file()
        })
        .collect();
    files.sort();
    match &files[..] {
        [file] => Ok(file.clone()),
        [] => bail!(
            "{} holds no weights: no model.safetensors, pytorch_model.bin or the like",
            folder.display()
        ),
        several => bail!(
            "{} holds {} files that may be the weights: name one of them, such as {}",
            folder.display(),
            several.len(),
            several[0].display()
        ),
    }
}

/// The dictionary of tensors in what was saved: itself, or the part that training scripts give a name to.
fn state_dict(object: &TorchObject) -> Id {
    let pickle = &object.pickle;
    let mut at = pickle.root;
    for _ in 0..DEEPEST {
        let Node::Dict(entries) = pickle.node(at) else {
            return at;
        };
        let is_tensor = |id: Id| matches!(object.tensor(id), Ok(Some(_)) | Err(_));
        if entries.iter().any(|&(_, value)| is_tensor(value)) {
            return at;
        }
        let inner = STATE_DICTS.iter().find_map(|name| {
            let value = pickle.get(at, name)?;
            matches!(pickle.node(value), Node::Dict(_) | Node::Call { .. }).then_some(value)
        });
        match inner {
            Some(inner) => at = inner,
            None => return at,
        }
    }
    at
}

/// Collects the tensors of nested dictionaries and objects under dotted names.
struct Search<'a> {
    object: &'a TorchObject,
    tensors: BTreeMap<String, StoredTensor>,
    visits: usize,
}

impl Search<'_> {
    fn visit(&mut self, id: Id, name: &str, depth: usize) -> Result<()> {
        self.visits += 1;
        ensure!(
            depth <= DEEPEST && self.visits <= MOST_VISITS,
            "its dictionaries are nested too deeply"
        );
        let tensor = self.object.tensor(id);
        if let Some(tensor) = tensor.with_context(|| format!("tensor `{name}`"))? {
            self.tensors.insert(name.to_string(), tensor);
            return Ok(());
        }
        match self.object.pickle.node(id) {
            Node::Dict(entries) => {
                for &(key, value) in entries {
                    self.visit_entry(key, value, name, depth)?;
                }
            }
            Node::Call {
                state: Some(state), ..
            } => self.visit(*state, name, depth + 1)?,
            _ => {}
        }
        Ok(())
    }

    fn visit_entry(&mut self, key: Id, value: Id, name: &str, depth: usize) -> Result<()> {
        // Most of what a training file holds beside its state dict are numbers and captions.
        if !matches!(
            self.object.pickle.node(value),
            Node::Dict(_) | Node::Call { .. }
        ) {
            return Ok(());
        }
        let Some(key) = self.object.pickle.text(key) else {
            return Ok(());
        };
        // A whole network, pickled as an object, keeps its tensors in these.
        let is_part = ["_parameters", "_buffers", "_modules"].contains(&key);
        let name = match (is_part, name) {
            (true, name) => name.to_string(),
            (false, "") => key.to_string(),
            (false, name) => format!("{name}.{key}"),
        };
        ensure!(
            name.len() <= 4096,
            "a tensor's name has {} bytes",
            name.len()
        );
        self.visit(value, &name, depth + 1)
    }
}
