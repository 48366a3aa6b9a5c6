//! Pictures that wait to be captioned, and the thread that captions all of them at once.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use anyhow::{Context, Result};
use image::RgbImage;

use crate::captioner::{Caption, Captioning};

/// Pictures that may wait: fewer than there are connections, so that somebody is told.
const LENGTH: usize = 128;

/// A picture, and where its captions are awaited.
struct Job {
    crop: RgbImage,
    answer: SyncSender<Result<Vec<Caption>, String>>,
}

/// The waiting pictures.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: SyncSender<Job>,
}

/// Why a picture was not captioned.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{LENGTH} pictures wait already: try again in a moment")]
    Full,
    #[error("captioning failed: {0}")]
    Failed(String),
}

impl Queue {
    /// Starts the thread, which ends with the queue.
    pub fn start(captioning: Captioning, batch_size: usize) -> Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel(LENGTH);
        thread::Builder::new()
            .name("captions".into())
            .spawn(move || work(&captioning, &waiting, batch_size.max(1)))
            .context("cannot start a thread")?;
        Ok(Self { jobs })
    }

    /// Waits for a picture's captions.
    pub fn caption(&self, crop: RgbImage) -> Result<Vec<Caption>, Refused> {
        let (answer, captions) = mpsc::sync_channel(1);
        self.jobs
            .try_send(Job { crop, answer })
            .map_err(|error| match error {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Failed("its thread has ended".into()),
            })?;
        match captions.recv() {
            Ok(captions) => captions.map_err(Refused::Failed),
            Err(_) => Err(Refused::Failed("its thread has ended".into())),
        }
    }
}

/// Captions what waits, up to `batch_size` pictures together, until nobody can send more.
fn work(captioning: &Captioning, waiting: &Receiver<Job>, batch_size: usize) {
    while let Ok(first) = waiting.recv() {
        let more = waiting.try_iter().take(batch_size - 1);
        let (crops, answers): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(more)
            .map(|job| (job.crop, job.answer))
            .unzip();
        let mut found = captioning.caption(&crops).map(Vec::into_iter);
        for answer in answers {
            let captions = match &mut found {
                Ok(found) => found.next().ok_or_else(|| "none was found".to_string()),
                Err(error) => Err(format!("{error:#}")),
            };
            // Nobody waits for it where a connection has broken.
            let _ = answer.send(captions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_one_without_its_thread_says_so() {
        let (jobs, waiting) = mpsc::sync_channel(LENGTH);
        let queue = Queue { jobs };
        let (answer, _captions) = mpsc::sync_channel(1);
        for _ in 0..LENGTH {
            let (crop, answer) = (RgbImage::new(1, 1), answer.clone());
            assert!(queue.jobs.try_send(Job { crop, answer }).is_ok());
        }
        let refused = queue.caption(RgbImage::new(1, 1)).unwrap_err();
        assert!(matches!(refused, Refused::Full), "{refused}");
        drop(waiting);
        let refused = queue.caption(RgbImage::new(1, 1)).unwrap_err();
        assert!(matches!(refused, Refused::Failed(_)), "{refused}");
    }
}
