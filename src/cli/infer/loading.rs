//! Images are opened while others are captioned.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use clipcap::captioner::open_crops;
use clipcap::guard::{self, Panicked, guarded};
use clipcap::inputs::{Input, InputError};
use clipcap::models::clip::Preprocessing;
use image::RgbImage;

use super::output::{Wanted, Wish};

/// Some images in the order they were named.
pub struct Batch {
    pub items: Vec<Item>,
    /// Images passed over because they have their captions.
    pub kept: usize,
}

/// An image as CLIP looks at it, or why there is none.
pub enum Item {
    Image {
        input: Input,
        /// The file of its own that its captions go to.
        target: Option<PathBuf>,
        crop: RgbImage,
    },
    Failed(Failure),
}

/// An input without captions.
pub struct Failure {
    pub name: PathBuf,
    pub reason: String,
    /// Its format, if it is refused for that.
    pub format: Option<&'static str>,
}

impl Batch {
    pub fn crops(&self) -> impl Iterator<Item = &RgbImage> {
        self.items.iter().filter_map(|item| match item {
            Item::Image { crop, .. } => Some(crop),
            Item::Failed(_) => None,
        })
    }
}

/// Batches, from a thread that is one ahead of whoever takes them.
pub struct Loader {
    batches: Receiver<Batch>,
    thread: JoinHandle<Result<usize, Panicked>>,
}

impl Loader {
    /// Begins to open images.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(
        inputs: impl Iterator<Item = Result<Input, InputError>> + Send + 'static,
        wanted: Wanted,
        preprocessing: Preprocessing,
        batch_size: usize,
    ) -> Result<Self> {
        let (sender, batches) = mpsc::sync_channel(1);
        let load = move || {
            let mut source = Source {
                inputs,
                wanted,
                preprocessing,
                taken: 0,
            };
            while let Some(batch) = source.next_batch(batch_size) {
                if sender.send(batch).is_err() {
                    // The receiver gave up.
                    break;
                }
            }
            source.taken
        };
        let thread = std::thread::Builder::new()
            .name("images".into())
            .spawn(|| guarded(load))?;
        Ok(Self { batches, thread })
    }

    /// The next batch; `None` at the end, of which [`Loader::finish`] tells what it was.
    pub fn next(&self) -> Option<Batch> {
        self.batches.recv().ok()
    }

    /// How many inputs there were.
    ///
    /// # Errors
    /// When the thread ended before them.
    pub fn finish(self) -> Result<usize> {
        let ended = match self.thread.join() {
            Ok(ended) => ended.map_err(|panicked| panicked.message),
            Err(payload) => Err(guard::message(&*payload)),
        };
        ended.map_err(|reason| {
            anyhow!("opening images ended before the last of them: {reason}: run again, with --output to go on")
        })
    }
}

/// Inputs that are left.
struct Source<I> {
    inputs: I,
    wanted: Wanted,
    preprocessing: Preprocessing,
    /// Inputs in the batches so far.
    taken: usize,
}

/// What is known of a name before its file is opened.
enum Named {
    Open(Input, Option<PathBuf>),
    Failed(Failure),
}

impl<I: Iterator<Item = Result<Input, InputError>>> Source<I> {
    /// A batch ends early after as many failures or kept images as it has room for, so that progress goes on.
    fn next_batch(&mut self, batch_size: usize) -> Option<Batch> {
        let (mut named, mut kept) = (Vec::new(), 0);
        while named.len() < batch_size && kept < 64 * batch_size {
            let Some(input) = self.inputs.next() else {
                break;
            };
            match self.name(input) {
                Some(input) => named.push(input),
                None => kept += 1,
            }
        }
        self.taken += named.len() + kept;
        if named.is_empty() && kept == 0 {
            return None;
        }
        let items = open(named, &self.preprocessing);
        Some(Batch { items, kept })
    }

    /// What is to be done about an input; `None`: it has its captions.
    fn name(&mut self, input: Result<Input, InputError>) -> Option<Named> {
        let failed = |name: PathBuf, reason: String| {
            Some(Named::Failed(Failure {
                name,
                reason,
                format: None,
            }))
        };
        let input = match input {
            Ok(input) => input,
            Err(error) => return failed(error.path().to_path_buf(), error.to_string()),
        };
        match self.wanted.wish(&input) {
            Wish::Caption(target) => Some(Named::Open(input, target)),
            Wish::Keep => None,
            Wish::Refuse(reason) => failed(input.path, reason),
        }
    }
}

fn open(named: Vec<Named>, preprocessing: &Preprocessing) -> Vec<Item> {
    let inputs: Vec<&Input> = named
        .iter()
        .filter_map(|named| match named {
            Named::Open(input, _) => Some(input),
            Named::Failed(_) => None,
        })
        .collect();
    let mut crops = open_crops(&inputs, preprocessing).into_iter();
    let opened = |named| match named {
        Named::Failed(failure) => Some(Item::Failed(failure)),
        Named::Open(input, target) => Some(match crops.next()? {
            Ok(crop) => Item::Image {
                input,
                target,
                crop,
            },
            Err(error) => Item::Failed(Failure {
                format: error.unread_format(),
                name: input.path,
                reason: error.to_string(),
            }),
        }),
    };
    named.into_iter().filter_map(opened).collect()
}
