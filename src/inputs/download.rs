//! Images at http and https addresses.

use std::io;
#[cfg(feature = "hub")]
use std::time::Duration;

/// How long a download may take.
#[cfg(feature = "hub")]
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to be reached.
#[cfg(feature = "hub")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the largest image that is downloaded.
#[cfg(feature = "hub")]
const MAX_BYTES: u64 = 100 << 20;

/// The bytes at an address.
///
/// # Errors
/// When it is out of reach, answers with an error, or has too many bytes.
#[cfg(feature = "hub")]
pub(super) fn download(url: &str) -> io::Result<Vec<u8>> {
    let request = ureq::get(url)
        .config()
        .timeout_global(Some(TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .build();
    let read = || {
        let mut response = request.call()?;
        response
            .body_mut()
            .with_config()
            .limit(MAX_BYTES)
            .read_to_vec()
    };
    read().map_err(|error| {
        io::Error::other(match error {
            ureq::Error::StatusCode(status) => format!("the server answers {status}"),
            ureq::Error::BodyExceedsLimit(_) => {
                format!("it has more than {MAX_BYTES} bytes, the most that are downloaded")
            }
            error => error.to_string(),
        })
    })
}

/// # Errors
/// Always: this build downloads nothing.
#[cfg(not(feature = "hub"))]
pub(super) fn download(_: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::other(
        "this build has no downloads: build it with the feature `hub`",
    ))
}
