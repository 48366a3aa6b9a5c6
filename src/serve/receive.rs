//! Reading a request's body, no longer and no further than allowed.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::answer::Failure;

/// Bytes that are counted as one.
const UNIT: usize = 1024;

/// Memory for the bodies of all requests.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    units: usize,
}

/// The part of the memory that a body takes. It is free again when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    permit: Option<OwnedSemaphorePermit>,
}

/// A whole body.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: Bytes,
    pub held: Held,
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(units)),
            units,
        }
    }

    /// Bytes that are taken.
    pub fn held(&self) -> usize {
        (self.units - self.free.available_permits()) * UNIT
    }

    /// Has `held` cover so many bytes.
    fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), Failure> {
        let covered = held
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        let more = bytes.div_ceil(UNIT).saturating_sub(covered);
        if more == 0 {
            return Ok(());
        }
        let permit = u32::try_from(more).ok().and_then(|more| {
            let permit = self.free.clone().try_acquire_many_owned(more);
            permit.ok()
        });
        let Some(permit) = permit else {
            return Err(Failure::full(format!(
                "{} bytes of other requests are in memory already: try again in a moment",
                self.held()
            )));
        };
        match &mut held.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// Reads a body of at most `most` bytes until `deadline`.
///
/// # Errors
/// When it is too long, too slow, broken or compressed, or there is no memory for it at the moment.
pub(super) async fn receive(
    headers: &HeaderMap,
    mut body: Body,
    most: usize,
    memory: &Memory,
    deadline: Instant,
) -> Result<Received, Failure> {
    let too_large = || {
        Failure::too_large(format!(
            "the body is larger than {most} bytes: shrink it first"
        ))
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a compressed body is not read: send it without Content-Encoding",
        ));
    }
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let (mut bytes, mut held) = (Vec::new(), Held::default());
    loop {
        let frame = timeout_at(deadline, body.frame()).await;
        let frame = frame.map_err(|_| {
            Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the body did not come whole in time ({} bytes came): send it faster",
                    bytes.len()
                ),
            )
        })?;
        let Some(frame) = frame else {
            break;
        };
        let frame = frame.map_err(|error| {
            Failure::bad_request(format!("the body did not come whole: {error}"))
        })?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        memory.grow(&mut held, bytes.len() + data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Received {
        bytes: bytes.into(),
        held,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_out_once_and_comes_back() {
        let memory = Memory::new(10 * UNIT);
        let (mut one, mut other) = (Held::default(), Held::default());
        memory.grow(&mut one, 1).unwrap();
        memory.grow(&mut one, UNIT).unwrap();
        assert_eq!(memory.held(), UNIT);
        memory.grow(&mut one, 7 * UNIT + 1).unwrap();
        assert_eq!(memory.held(), 8 * UNIT);
        memory.grow(&mut other, 2 * UNIT).unwrap();
        assert!(memory.grow(&mut other, 2 * UNIT + 1).is_err());
        drop(one);
        assert_eq!(memory.held(), 2 * UNIT);
        memory.grow(&mut other, 10 * UNIT).unwrap();
        drop(other);
        assert_eq!(memory.held(), 0);
    }
}
