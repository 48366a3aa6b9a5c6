//! Downloads. Models from the Hugging Face Hub: a word or an id in, checked files and what to convert them with out; data
//! sets from their publishers: [`archives`].

pub mod archives;
mod checksum;
mod client;
mod error;
mod retry;
mod sets;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files;
use crate::suggest;

pub use client::{Hub, HubConfig, HubRepo, Watch};
pub use error::HubError;
pub use sets::{Checkpoint, Named, SETS, Set, names};

type Result<T> = std::result::Result<T, HubError>;

/// Files beside the weights that say how to use them.
const SETTINGS: [&str; 6] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
];

/// What `convert` is to read, where it came from and under what license.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// A folder, or a file with its configuration beside it.
    pub clip: Option<PathBuf>,
    pub gpt2: Option<PathBuf>,
    pub captioner: Option<PathBuf>,
    /// For each repository its id, commit, license and files.
    pub provenance: Vec<Value>,
}

/// Which of the two networks a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Clip,
    Gpt2,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Clip => "CLIP",
            Self::Gpt2 => "GPT-2",
        }
    }
}

/// Understands names as [`Named::parse`] does.
///
/// # Errors
/// When one is neither known nor an id; the message lists those that are known.
pub fn parse(name: &str) -> Result<Named> {
    Named::parse(name).ok_or_else(|| {
        let known = names();
        let meant = suggest::nearest(name, known.split(", "));
        let hint = meant.map_or(String::new(), |meant| format!("did you mean `{meant}`? "));
        HubError::UnknownName(name.to_string(), known, hint)
    })
}

/// Gets the files of everything named, as parts of one model. `captioner`: a checkpoint to take instead of the set's, a
/// file here or `owner/name/file` on the Hub.
///
/// # Errors
/// See [`HubError`]; also when two of the names are the same part.
pub fn fetch(
    hub: &Hub,
    named: &[Named],
    captioner: Option<&str>,
    watch: &dyn Watch,
) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    for named in named {
        match named {
            Named::Set(set) => fetch_set(hub, set, captioner.is_none(), &mut fetched, watch)?,
            Named::Repo(id) => {
                let repo = hub.repo(id)?;
                let part = part_of(&repo, watch)?;
                fetch_part(&repo, part, &mut fetched, watch)?;
            }
        }
    }
    if let Some(captioner) = captioner {
        fetched.captioner = Some(fetch_captioner(hub, captioner, &mut fetched, watch)?);
    }
    Ok(fetched)
}

fn fetch_set(
    hub: &Hub,
    set: &'static Set,
    with_checkpoint: bool,
    fetched: &mut Fetched,
    watch: &dyn Watch,
) -> Result<()> {
    watch.note(&format!("{}: {}", set.name, set.about));
    watch.note(&format!("license: {}", set.license));
    if with_checkpoint {
        // First, so that what cannot be had is known before anything large is downloaded.
        let path = match set.checkpoint {
            Checkpoint::Page { file, page } => return Err(HubError::ByHand { file, page }),
            Checkpoint::Hub { repo, file } => fetch_file(&hub.repo(repo)?, file, fetched, watch)?,
        };
        set_once(&mut fetched.captioner, path, "checkpoints")?;
    }
    fetch_part(&hub.repo(set.clip)?, Part::Clip, fetched, watch)?;
    let gpt2 = hub.repo(set.gpt2)?;
    if with_checkpoint && set.brings_gpt2 {
        tell_license(&gpt2, watch);
        let files = settings(&gpt2, watch)?;
        take(&gpt2, Part::Gpt2, folder_of(&files), &files, fetched)
    } else {
        fetch_part(&gpt2, Part::Gpt2, fetched, watch)
    }
}

/// A checkpoint given by hand.
fn fetch_captioner(
    hub: &Hub,
    captioner: &str,
    fetched: &mut Fetched,
    watch: &dyn Watch,
) -> Result<PathBuf> {
    if Path::new(captioner).exists() {
        return Ok(PathBuf::from(captioner));
    }
    let mut parts = captioner.splitn(3, '/');
    let (Some(owner), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(HubError::NotFound(captioner.to_string()));
    };
    let id = format!("{owner}/{name}");
    if !sets::is_repo_id(&id) {
        return Err(HubError::NotFound(captioner.to_string()));
    }
    fetch_file(&hub.repo(&id)?, file, fetched, watch)
}

/// A single file of a repository.
fn fetch_file(
    repo: &HubRepo,
    file: &str,
    fetched: &mut Fetched,
    watch: &dyn Watch,
) -> Result<PathBuf> {
    tell_license(repo, watch);
    let path = repo.get(file, watch)?;
    note_provenance(repo, &[(file.to_string(), path.clone())], fetched);
    Ok(path)
}

/// A whole network with its settings.
fn fetch_part(repo: &HubRepo, part: Part, fetched: &mut Fetched, watch: &dyn Watch) -> Result<()> {
    tell_license(repo, watch);
    let weights = weights(repo, watch)?;
    let mut files = settings(repo, watch)?;
    for file in weights.files() {
        files.push((file.clone(), repo.get(file, watch)?));
    }
    let source = match (&weights, &files[..]) {
        (Weights::OpenClip(_), [.., (_, path)]) => Some(path.clone()),
        _ => folder_of(&files),
    };
    take(repo, part, source, &files, fetched)
}

/// The files that are there of those that say how to use a network.
fn settings(repo: &HubRepo, watch: &dyn Watch) -> Result<Vec<(String, PathBuf)>> {
    let there = SETTINGS.iter().filter(|file| repo.has(file));
    there
        .map(|file| Ok((file.to_string(), repo.get(file, watch)?)))
        .collect()
}

/// The folder that the files of a repository are in.
fn folder_of(files: &[(String, PathBuf)]) -> Option<PathBuf> {
    let (_, path) = files.first()?;
    path.parent().map(Path::to_path_buf)
}

/// Notes what was fetched of a repository, as a part of the model.
fn take(
    repo: &HubRepo,
    part: Part,
    source: Option<PathBuf>,
    files: &[(String, PathBuf)],
    fetched: &mut Fetched,
) -> Result<()> {
    note_provenance(repo, files, fetched);
    let slot = match part {
        Part::Clip => &mut fetched.clip,
        Part::Gpt2 => &mut fetched.gpt2,
    };
    let source = source.ok_or_else(|| repo.lacks("it has no config.json"))?;
    set_once(slot, source, part.name())
}

fn set_once(slot: &mut Option<PathBuf>, path: PathBuf, what: &'static str) -> Result<()> {
    let name = |path: &Path| path.display().to_string();
    match slot {
        Some(there) if *there != path => Err(HubError::TwoParts(name(there), name(&path), what)),
        _ => {
            *slot = Some(path);
            Ok(())
        }
    }
}

fn tell_license(repo: &HubRepo, watch: &dyn Watch) {
    if let Some(license) = &repo.license {
        watch.note(&format!("{}: license {license}", repo.id));
    }
}

fn note_provenance(repo: &HubRepo, paths: &[(String, PathBuf)], fetched: &mut Fetched) {
    let files: Vec<&String> = paths.iter().map(|(file, _)| file).collect();
    fetched.provenance.push(json!({
        "repository": repo.id, "commit": repo.commit, "license": repo.license, "files": files,
    }));
}

/// Which network a repository holds, by its configuration.
fn part_of(repo: &HubRepo, watch: &dyn Watch) -> Result<Part> {
    let kind = model_type(repo, watch)?;
    match kind.as_deref() {
        Some("clip" | "clip_vision_model") => Ok(Part::Clip),
        Some("gpt2") => Ok(Part::Gpt2),
        _ if repo.has("open_clip_config.json") => Ok(Part::Clip),
        Some(other) => Err(HubError::NotAModel(
            repo.id.clone(),
            format!("its config.json says model_type `{other}`, not clip or gpt2"),
        )),
        None => Err(repo
            .lacks("it has neither a config.json with a model_type nor an open_clip_config.json")),
    }
}

fn model_type(repo: &HubRepo, watch: &dyn Watch) -> Result<Option<String>> {
    if !repo.has("config.json") {
        return Ok(None);
    }
    let config = read_json(repo, "config.json", watch)?;
    Ok(config["model_type"].as_str().map(String::from))
}

fn read_json(repo: &HubRepo, file: &str, watch: &dyn Watch) -> Result<Value> {
    let path = repo.get(file, watch)?;
    files::read_json(&path)
        .map_err(|error| HubError::NotAModel(repo.id.clone(), format!("{error:#}")))
}

/// The files that hold a network's tensors.
#[derive(Debug, PartialEq, Eq)]
enum Weights {
    HuggingFace(Vec<String>),
    OpenClip(Vec<String>),
}

impl Weights {
    fn files(&self) -> &[String] {
        match self {
            Self::HuggingFace(files) | Self::OpenClip(files) => files,
        }
    }
}

/// Safetensors before pickles, whole before sharded. A repository with a configuration of open_clip only (timm's) has
/// weights of another model under the usual names.
fn weights(repo: &HubRepo, watch: &dyn Watch) -> Result<Weights> {
    let open_clip = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];
    if repo.has("open_clip_config.json")
        && model_type(repo, watch)?.is_none()
        && let Some(file) = open_clip.into_iter().find(|file| repo.has(file))
    {
        return Ok(Weights::OpenClip(vec![file.to_string()]));
    }
    for stem in ["model.safetensors", "pytorch_model.bin"] {
        if repo.has(stem) {
            return Ok(Weights::HuggingFace(vec![stem.to_string()]));
        }
        let index = format!("{stem}.index.json");
        if repo.has(&index) {
            let mut files = vec![index.clone()];
            files.extend(shards(repo, &index, watch)?);
            return Ok(Weights::HuggingFace(files));
        }
    }
    let missing = "it has neither model.safetensors nor pytorch_model.bin, whole or in shards";
    Err(repo.lacks(missing))
}

/// The files that an index names, each once.
fn shards(repo: &HubRepo, index: &str, watch: &dyn Watch) -> Result<Vec<String>> {
    let read = read_json(repo, index, watch)?;
    let map = read["weight_map"].as_object();
    let names = map.into_iter().flat_map(|map| map.values());
    let mut shards: Vec<String> = names
        .filter_map(|name| Some(name.as_str()?.into()))
        .collect();
    shards.sort();
    shards.dedup();
    match shards
        .iter()
        .find(|shard| shard.contains(['/', '\\']) || !repo.has(shard))
    {
        None if !shards.is_empty() => Ok(shards),
        shard => Err(HubError::NotAModel(
            repo.id.clone(),
            format!("{index} names {}", shard.map_or("no file", String::as_str)),
        )),
    }
}
