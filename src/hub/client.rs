//! Files of the Hub, each checked, over the `hf-hub` crate.
//!
//! The crate asks, downloads, goes on with a part that an interruption left, and keeps files where every Hugging Face
//! tool looks for them (`HF_HOME`). What it lacks is added here: `HF_TOKEN` and offline mode, checksums, going on by
//! itself after a lost connection, refusing names that lead out of the cache, and errors that say what to do.
//!
//! It is the crate's 0.5, its last with a client that needs no asynchronous runtime: 1.0 brings one and some eighty crates
//! more, a cryptographic library in C among them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo};
use serde_json::Value;

use super::checksum;
use super::error::HubError;
use super::retry::retrying;
use crate::files::Lock;

/// Where the Hub is when nothing else is said.
const ENDPOINT: &str = "https://huggingface.co";
/// Where Hugging Face's tools keep the locks of a cache.
const LOCKS: &str = ".locks";

type Result<T> = std::result::Result<T, HubError>;

/// Told how a download goes. Bytes of a part that was there already count too.
pub trait Watch {
    /// A file of `size` bytes begins, or is taken up again; counting begins at 0.
    fn begin(&self, file: &str, size: u64);
    fn advance(&self, bytes: u64);
    fn end(&self);
    /// Something to know.
    fn note(&self, line: &str);
}

/// Where the Hub and its cache are, and who asks.
#[derive(Clone, Debug)]
pub struct HubConfig {
    pub endpoint: String,
    /// The folder with the repositories, `hub` in `HF_HOME`.
    pub cache: PathBuf,
    pub token: Option<String>,
    /// Only what is in the cache.
    pub offline: bool,
    /// How long a lost connection is left alone, doubled each time.
    pub patience: Duration,
}

impl HubConfig {
    /// `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` (or the token that `hf auth login` left) and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache = Cache::from_env();
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|value| matches!(&*value.to_lowercase(), "1" | "true" | "yes" | "on"));
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string()),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            offline,
            patience: Duration::from_millis(500),
        }
    }
}

/// The Hub, or in offline mode what the cache has of it.
#[derive(Debug)]
pub struct Hub {
    api: Api,
    cache: Cache,
    endpoint: String,
    offline: bool,
    patience: Duration,
}

impl Hub {
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(config: &HubConfig) -> Result<Self> {
        let endpoint = config.endpoint.trim_end_matches('/').to_string();
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(HubError::Endpoint(endpoint));
        }
        let cache = Cache::new(config.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint.clone())
            .with_token(config.token.as_deref().map(str::trim).map(String::from))
            .with_progress(false)
            .with_user_agent("clipcap", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| HubError::Answer(endpoint.clone(), error.to_string()))?;
        Ok(Self {
            api,
            cache,
            endpoint,
            offline: config.offline,
            patience: config.patience,
        })
    }

    /// Asks what a repository holds.
    ///
    /// # Errors
    /// When there is none, it is not open to the asker, or the Hub is out of reach; offline, when none of it was fetched.
    pub fn repo(&self, id: &str) -> Result<HubRepo<'_>> {
        let (commit, files, license) = if self.offline {
            let missing = || HubError::NotCached(id.to_string());
            (self.cached_commit(id).ok_or_else(missing)?, None, None)
        } else {
            let info = self.ask(id)?;
            let commit = text(&info, "sha").unwrap_or_default();
            (commit, Some(file_names(&info)), license(&info))
        };
        if !is_plain(&commit) {
            let odd = format!("the commit is `{commit}`");
            return Err(HubError::Answer(id.to_string(), odd));
        }
        Ok(HubRepo {
            hub: self,
            id: id.to_string(),
            commit,
            files,
            license,
        })
    }

    fn ask(&self, id: &str) -> Result<Value> {
        let failed =
            |error: ureq::Error| self.explain(id, "", ApiError::RequestError(error.into()));
        let mut response = self
            .api
            .model(id.to_string())
            .info_request()
            .call()
            .map_err(failed)?;
        let text = response.body_mut().read_to_string().map_err(failed)?;
        serde_json::from_str(&text)
            .map_err(|error| HubError::Answer(id.to_string(), error.to_string()))
    }

    fn cached(&self, id: &str) -> CacheRepo {
        self.cache.model(id.to_string())
    }

    /// The commit whose files the cache has.
    fn cached_commit(&self, id: &str) -> Option<String> {
        let folder = self
            .cache
            .path()
            .join(Repo::model(id.to_string()).folder_name());
        let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_plain(commit))
    }

    /// Lets one process at a time fill a repository's part of the cache.
    fn lock(&self, id: &str, watch: &dyn Watch) -> Result<Lock> {
        let folder = self.cache.path().join(LOCKS);
        let path = folder.join(format!(
            "{}.clipcap",
            Repo::model(id.to_string()).folder_name()
        ));
        fs::create_dir_all(&folder).map_err(|error| HubError::disk(&folder, error))?;
        let locked = Lock::wait(&path, &|line| watch.note(line));
        locked.map_err(|error| HubError::disk(&path, io::Error::other(format!("{error:#}"))))
    }

    fn explain(&self, id: &str, file: &str, error: ApiError) -> HubError {
        HubError::from_api(&self.endpoint, self.cache.path(), id, file, error)
    }
}

/// What one repository holds.
#[derive(Debug)]
pub struct HubRepo<'a> {
    hub: &'a Hub,
    pub id: String,
    pub commit: String,
    /// As the repository's card has it.
    pub license: Option<String>,
    /// Unknown offline.
    files: Option<Vec<String>>,
}

impl HubRepo<'_> {
    /// Whether it has this file; offline, whether the cache has it.
    pub fn has(&self, file: &str) -> bool {
        match &self.files {
            Some(files) => files.iter().any(|name| name == file),
            None => self.hub.cached(&self.id).get(file).is_some(),
        }
    }

    /// What to say of a repository that lacks what a model needs: offline, it may only not have been fetched.
    pub(super) fn lacks(&self, reason: &str) -> HubError {
        match self.files {
            Some(_) => HubError::NotAModel(self.id.clone(), reason.to_string()),
            None => HubError::NotCached(self.id.clone()),
        }
    }

    /// The path of a file, downloaded unless the cache has it. Its bytes are checked in either case.
    ///
    /// # Errors
    /// See [`HubError`]. What is wrong does not stay in the cache; what is incomplete stays to be resumed.
    pub fn get(&self, file: &str, watch: &dyn Watch) -> Result<PathBuf> {
        match self.cached(file) {
            Some(path) => self.check(file, path),
            None if self.hub.offline => Err(HubError::NotCached(format!("{}/{file}", self.id))),
            None => self.download(file, watch),
        }
    }

    /// A file of this commit that the cache has.
    fn cached(&self, file: &str) -> Option<PathBuf> {
        let cached = self.hub.cached(&self.id).get(file)?;
        // The cache may be of an older commit.
        (self.hub.cached_commit(&self.id).as_ref() == Some(&self.commit)).then_some(cached)
    }

    fn download(&self, file: &str, watch: &dyn Watch) -> Result<PathBuf> {
        let _lock = self.hub.lock(&self.id, watch)?;
        // Another process may have fetched it while it was waited for.
        if let Some(path) = self.cached(file) {
            return self.check(file, path);
        }
        let repo = self.hub.api.model(self.id.clone());
        let path = retrying(
            self.hub.patience,
            watch,
            &format!("{}/{file}", self.id),
            || self.try_download(&repo, file, watch),
            |error| match error {
                HubError::Cut(_, reason) => Some(reason.clone()),
                _ => None,
            },
        )?;
        self.check(file, path)
    }

    fn try_download(&self, repo: &ApiRepo, file: &str, watch: &dyn Watch) -> Result<PathBuf> {
        let explain = |error| self.hub.explain(&self.id, file, error);
        let metadata = self.hub.api.metadata(&repo.url(file)).map_err(explain)?;
        for name in [metadata.etag(), metadata.commit_hash()] {
            if !is_plain(name) {
                let odd = format!("{file} is called `{name}`");
                return Err(HubError::Answer(self.id.clone(), odd));
            }
        }
        let cached = self.hub.cached(&self.id);
        let (size, blob) = (metadata.size() as u64, cached.blob_path(metadata.etag()));
        let part = blob.with_extension("part");
        let link = cached.pointer_path(metadata.commit_hash()).join(file);
        remove_unfit_part(&part, size).map_err(|error| HubError::disk(&part, error))?;
        if link.is_symlink() && !link.exists() {
            fs::remove_file(&link).map_err(|error| HubError::disk(&link, error))?;
        }
        let meter = Meter { watch };
        let path = repo.download_with_progress(file, meter).map_err(explain)?;
        let length = fs::metadata(&blob).map_or(0, |metadata| metadata.len());
        if length == size {
            return Ok(path);
        }
        // The connection ended early without the crate noticing, or the server began again instead of going on.
        let undo = || -> io::Result<()> {
            fs::remove_file(&path)?;
            if length < size {
                fs::rename(&blob, &part)
            } else {
                fs::remove_file(&blob)
            }
        };
        undo().map_err(|error| HubError::disk(&blob, error))?;
        let reason = format!("{length} of {size} bytes came");
        Err(HubError::Cut(format!("{}/{file}", self.id), reason))
    }

    /// A file whose bytes are not what its name in the cache says is removed.
    fn check(&self, file: &str, path: PathBuf) -> Result<PathBuf> {
        let blob = fs::canonicalize(&path).map_err(|error| HubError::disk(&path, error))?;
        let name = blob.file_name().and_then(|name| name.to_str());
        let Some(expected) = name.filter(|_| blob != path) else {
            return Ok(path);
        };
        let actual =
            checksum::of_file(&blob, expected).map_err(|error| HubError::disk(&blob, error))?;
        match actual {
            Some(actual) if actual != expected => {
                let remove = || fs::remove_file(&path).and_then(|()| fs::remove_file(&blob));
                remove().map_err(|error| HubError::disk(&blob, error))?;
                Err(HubError::Checksum {
                    file: format!("{}/{file}", self.id),
                    expected: expected.to_string(),
                    actual,
                })
            }
            _ => Ok(path),
        }
    }
}

/// A part that is as long as the file, or longer, cannot be resumed.
fn remove_unfit_part(part: &Path, size: u64) -> io::Result<()> {
    match fs::metadata(part) {
        Ok(metadata) if metadata.len() >= size => fs::remove_file(part),
        _ => Ok(()),
    }
}

/// Whether a name from the network can be a file's: nothing in it leads elsewhere.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !name.is_empty() && name.chars().all(allowed)
}

fn text(info: &Value, key: &str) -> Option<String> {
    Some(info.get(key)?.as_str()?.to_string())
}

fn file_names(info: &Value) -> Vec<String> {
    let files = info["siblings"].as_array().into_iter().flatten();
    files.filter_map(|file| text(file, "rfilename")).collect()
}

fn license(info: &Value) -> Option<String> {
    match &info["cardData"]["license"] {
        Value::String(license) => Some(license.clone()),
        Value::Array(licenses) => {
            let licenses: Vec<&str> = licenses.iter().filter_map(Value::as_str).collect();
            Some(licenses.join(", "))
        }
        _ => None,
    }
}

/// Passes the crate's reports on.
struct Meter<'a> {
    watch: &'a dyn Watch,
}

impl hf_hub::api::Progress for Meter<'_> {
    fn init(&mut self, size: usize, file: &str) {
        self.watch.begin(file, size as u64);
    }

    fn update(&mut self, bytes: usize) {
        self.watch.advance(bytes as u64);
    }

    fn finish(&mut self) {
        self.watch.end();
    }
}
