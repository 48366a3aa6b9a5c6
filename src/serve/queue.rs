//! Images that wait to be captioned, and the thread that captions those with the same settings
//! together.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use super::captions::Captions;
use super::metrics::Metrics;
use crate::captioner::Caption;
use crate::captioner::Search;

/// An image, and where its captions are awaited.
struct Job {
    crop: RgbImage,
    settings: Arc<Search>,
    answer: oneshot::Sender<Result<Vec<Caption>, String>>,
    /// A place in the queue, free again once the image is being captioned.
    _place: Place,
}

/// A place in the queue, for an image that is still to be decoded.
#[derive(Debug)]
pub(super) struct Place(#[allow(dead_code)] OwnedSemaphorePermit);

/// The waiting images.
pub(super) struct Queue {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    length: usize,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Nothing more comes, or nobody captions any more.
    closed: bool,
}

/// Why an image was not captioned.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0} images wait already: try again in a moment")]
    Full(usize),
    #[error("captioning failed: {0}")]
    Failed(String),
}

/// What requests hear when the thread is gone.
fn ended() -> Refused {
    Refused::Failed("its thread has ended".into())
}

impl Queue {
    /// Starts the thread, which ends with the queue.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        captions: Arc<dyn Captions>,
        length: usize,
        batch_size: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            more: Condvar::new(),
        });
        let (at_end, ended) = watch::channel(false);
        let last = Last {
            shared: shared.clone(),
            at_end,
        };
        let thread = thread::Builder::new()
            .name("captions".into())
            .spawn(move || {
                let worker = Worker {
                    captions,
                    batch_size: batch_size.max(1),
                    metrics,
                };
                worker.work(&last.shared);
                drop(last);
            })
            .context("cannot start a thread")?;
        Ok(Self {
            shared,
            places: Arc::new(Semaphore::new(length)),
            length,
            ended,
            thread: Some(thread),
        })
    }

    /// Places for so many images, all or none.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn reserve(&self, count: usize) -> Result<Vec<Place>, Refused> {
        let full = || Refused::Full(self.length - self.places.available_permits());
        let all = u32::try_from(count).map_err(|_| full())?;
        let permits = self.places.clone().try_acquire_many_owned(all);
        let mut permits = permits.map_err(|error| match error {
            TryAcquireError::NoPermits => full(),
            TryAcquireError::Closed => ended(),
        })?;
        let split = std::iter::repeat_with(|| permits.split(1));
        Ok(split.map_while(|one| one.map(Place)).take(count).collect())
    }

    /// Waits for an image's captions. Where nobody waits any more, the image leaves the queue.
    ///
    /// # Errors
    /// When captioning failed.
    pub async fn caption(
        &self,
        crop: RgbImage,
        settings: Arc<Search>,
        place: Place,
    ) -> Result<Vec<Caption>, Refused> {
        let (answer, captions) = oneshot::channel();
        {
            let mut waiting = lock(&self.shared.waiting);
            if waiting.closed {
                return Err(ended());
            }
            waiting.jobs.push_back(Job {
                crop,
                settings,
                answer,
                _place: place,
            });
        }
        self.shared.more.notify_one();
        match captions.await {
            Ok(captions) => captions.map_err(Refused::Failed),
            Err(_) => Err(ended()),
        }
    }

    /// Images that wait, those that are still being decoded included.
    pub fn waiting(&self) -> usize {
        self.length - self.places.available_permits()
    }

    /// Waits until nobody captions any more.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the thread is gone with its end of the channel.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        lock(&self.shared.waiting).closed = true;
        self.shared.more.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic was told by `Queue::ended`.
            let _ = thread.join();
        }
    }
}

/// What the thread leaves behind, however it ends: nobody may wait for it.
struct Last {
    shared: Arc<Shared>,
    at_end: watch::Sender<bool>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let mut waiting = lock(&self.shared.waiting);
        waiting.closed = true;
        waiting.jobs.clear();
        drop(waiting);
        self.at_end.send_replace(true);
    }
}

/// Captions what waits.
struct Worker {
    captions: Arc<dyn Captions>,
    batch_size: usize,
    metrics: Arc<Metrics>,
}

impl Worker {
    /// Goes on until the queue is closed and empty.
    fn work(&self, shared: &Shared) {
        while let Some(batch) = next_batch(shared, self.batch_size) {
            self.metrics.batch(batch.len());
            self.answer(batch);
        }
    }

    fn answer(&self, batch: Vec<Job>) {
        let Some(settings) = batch.first().map(|job| job.settings.clone()) else {
            return;
        };
        let (crops, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.crop, job.answer)).unzip();
        let found = match self.caption(&crops, &settings) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            // One image may have failed all of them: each is tried alone.
            Err(_) if crops.len() > 1 => crops
                .chunks(1)
                .map(|crop| Ok(self.caption(crop, &settings)?.remove(0)))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        for (answer, captions) in answers.into_iter().zip(found) {
            // Nobody waits for it where a connection has broken.
            let _ = answer.send(captions);
        }
    }

    /// The captions of each crop. A panic is an error too.
    fn caption(&self, crops: &[RgbImage], settings: &Search) -> Result<Vec<Vec<Caption>>, String> {
        let caption = AssertUnwindSafe(|| self.captions.caption(crops, settings));
        let found = match catch_unwind(caption) {
            Ok(found) => found.map_err(|error| format!("{error:#}"))?,
            Err(panic) => return Err(panic_message(&*panic)),
        };
        match found.len() == crops.len() {
            true => Ok(found),
            false => Err(format!(
                "{} images have {} answers",
                crops.len(),
                found.len()
            )),
        }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    match text {
        Some(text) => format!("the program has a fault: {}", super::settings::shown(text)),
        None => "the program has a fault".to_string(),
    }
}

/// Waits for images, and takes the first with those after it that have the same settings, up to
/// `batch_size`; none when the queue is closed.
fn next_batch(shared: &Shared, batch_size: usize) -> Option<Vec<Job>> {
    let mut waiting = lock(&shared.waiting);
    loop {
        let batch = take_batch(&mut waiting.jobs, batch_size);
        if !batch.is_empty() {
            return Some(batch);
        }
        if waiting.closed {
            return None;
        }
        let woken = shared.more.wait(waiting);
        waiting = woken.unwrap_or_else(PoisonError::into_inner);
    }
}

/// The first image that somebody waits for, and others with its settings in their order.
fn take_batch(jobs: &mut VecDeque<Job>, batch_size: usize) -> Vec<Job> {
    jobs.retain(|job| !job.answer.is_closed());
    let Some(first) = jobs.pop_front() else {
        return Vec::new();
    };
    let settings = first.settings.clone();
    let mut batch = vec![first];
    for job in std::mem::take(jobs) {
        if batch.len() < batch_size && job.settings == settings {
            batch.push(job);
        } else {
            jobs.push_back(job);
        }
    }
    batch
}

/// What it holds is whole after a panic too: nothing panics between two changes of it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
