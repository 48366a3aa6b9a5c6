//! What can go wrong between here and the Hub, each in a line that says what to do.

use std::io;
use std::path::Path;

use hf_hub::api::sync::ApiError;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "`{0}` is unknown: {2}give an id of the Hub such as openai/clip-vit-base-patch32, or one of {1}"
    )]
    UnknownName(String, String, String),
    #[error("HF_ENDPOINT is `{0}`: give an address that begins with https:// or http://")]
    Endpoint(String),
    #[error(
        "{page} is refused ({status}): it does not exist, is private, or wants its terms accepted: accept them there, and set HF_TOKEN to a token of your account (https://huggingface.co/settings/tokens)"
    )]
    Refused { page: String, status: u16 },
    #[error("{0} does not exist (404): check the name")]
    NotFound(String),
    #[error("{0}: the Hub asks to wait (429): try again later, or set HF_TOKEN")]
    TooMany(String),
    #[error(
        "{0} is out of reach: {1}: check the connection, or use --offline with what was fetched before"
    )]
    Unreachable(String, String),
    #[error(
        "{0}: the connection was lost: {1}: what has come is kept, run the command again to resume"
    )]
    Cut(String, String),
    #[error(
        "{file} is not what was published: its checksum is {actual}, not {expected}: it was removed, fetch it again"
    )]
    Checksum {
        file: String,
        expected: String,
        actual: String,
    },
    #[error(
        "{0}: {1}: what has come is kept, free some space or set HF_HOME to another disk, and run the command again"
    )]
    DiskFull(String, io::Error),
    #[error("{0}: {1}: check its permissions")]
    Disk(String, io::Error),
    #[error(
        "{0} was not fetched before, and this is offline: run without --offline and HF_HUB_OFFLINE"
    )]
    NotCached(String),
    #[error("{0} is being fetched by another program: wait for it")]
    Busy(String),
    #[error("{0}: the Hub's answer cannot be used: {1}")]
    Answer(String, String),
    #[error("{0} is not a model that can be used: {1}")]
    NotAModel(String, String),
    #[error(
        "{file} is not on the Hub: download it from {page} and give it with --captioner {file}"
    )]
    ByHand {
        file: &'static str,
        page: &'static str,
    },
    #[error("{0} and {1} are both {2}: a model has one")]
    TwoParts(String, String, &'static str),
}

impl HubError {
    /// An error of the crate about `file` of the repository `id`; `file` may be empty.
    pub(super) fn from_api(
        endpoint: &str,
        cache: &Path,
        id: &str,
        file: &str,
        error: ApiError,
    ) -> Self {
        let name = if file.is_empty() {
            id.to_string()
        } else {
            format!("{id}/{file}")
        };
        match error {
            ApiError::RequestError(error) => Self::from_request(endpoint, id, name, *error),
            ApiError::IoError(error) => Self::from_io(name, cache, error),
            ApiError::LockAcquisition(_) => Self::Busy(name),
            other => Self::Answer(name, other.to_string()),
        }
    }

    fn from_request(endpoint: &str, id: &str, name: String, error: ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status @ (401 | 403)) => Self::Refused {
                page: format!("{endpoint}/{id}"),
                status,
            },
            ureq::Error::StatusCode(404) => Self::NotFound(format!("{endpoint}/{name}")),
            ureq::Error::StatusCode(429) => Self::TooMany(name),
            ureq::Error::StatusCode(status @ 500..) => {
                Self::Cut(name, format!("the server answers {status}"))
            }
            ureq::Error::StatusCode(status) => {
                Self::Answer(name, format!("the server answers {status}"))
            }
            ureq::Error::Io(error) => Self::Unreachable(endpoint.to_string(), error.to_string()),
            other => Self::Unreachable(endpoint.to_string(), other.to_string()),
        }
    }

    /// Reading from the network and writing to the disk fail with the same type.
    fn from_io(name: String, cache: &Path, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let place = format!("{name} in {}", cache.display());
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::DiskFull(place, error)
            }
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::NotFound
            | Kind::AlreadyExists => Self::Disk(place, error),
            _ => Self::Cut(name, error.to_string()),
        }
    }

    pub(super) fn disk(path: &Path, error: io::Error) -> Self {
        let name = path.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull => Self::DiskFull(name, error),
            _ => Self::Disk(name, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_lost_connection() {
        let text = |kind: io::ErrorKind| {
            let error = ApiError::IoError(kind.into());
            HubError::from_api("https://hub", Path::new("cache"), "a/b", "c", error).to_string()
        };
        let full = text(io::ErrorKind::StorageFull);
        assert!(full.starts_with("a/b/c in cache: ") && full.contains("free some space"));
        assert!(text(io::ErrorKind::PermissionDenied).contains("permissions"));
        assert!(text(io::ErrorKind::ConnectionReset).contains("connection was lost"));
        assert!(text(io::ErrorKind::UnexpectedEof).contains("connection was lost"));
    }
}
