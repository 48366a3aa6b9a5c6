//! Images of a shard, opened by a thread that is one batch ahead of whoever takes them.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow, bail};
use image::RgbImage;

use super::samples::{self, Others, Refused, Sample};
use crate::captioner::open_crops;
use crate::guard::{self, Panicked, guarded};
use crate::inputs::{Content, Input};
use crate::models::clip::Preprocessing;

/// Bytes of encoded images after which a batch is opened, however few they are. One image more may come on top.
const MOST_BYTES: usize = 64 << 20;

/// A sample whose image is open, or why it is not.
pub struct Item {
    pub key: String,
    pub member: String,
    pub crop: Result<RgbImage, Refused>,
}

/// Batches of a shard in its order.
pub struct Loader {
    batches: Receiver<Vec<Item>>,
    thread: JoinHandle<Result<Result<Others>, Panicked>>,
}

impl Loader {
    /// Begins to read a shard.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(shard: PathBuf, preprocessing: Preprocessing, batch_size: usize) -> Result<Self> {
        let (sender, batches) = mpsc::sync_channel(1);
        let load = move || {
            let mut opener = Opener {
                preprocessing,
                pending: Vec::new(),
                bytes: 0,
                sender,
            };
            let others = samples::read(&shard, &mut |sample| opener.take(sample, batch_size))?;
            opener.open()?;
            Ok(others)
        };
        let thread = std::thread::Builder::new()
            .name("shard".into())
            .spawn(|| guarded(load))?;
        Ok(Self { batches, thread })
    }

    /// The next batch; `None` at the end, of which [`Loader::finish`] tells what it was.
    pub fn next(&self) -> Option<Vec<Item>> {
        self.batches.recv().ok()
    }

    /// What else was in the shard.
    ///
    /// # Errors
    /// When it is not a whole tar file.
    pub fn finish(self) -> Result<Others> {
        drop(self.batches);
        match self.thread.join() {
            Ok(Ok(ended)) => ended,
            Ok(Err(panicked)) => Err(anyhow!(panicked)),
            Err(payload) => Err(anyhow!(guard::message(&*payload))),
        }
    }
}

struct Opener {
    preprocessing: Preprocessing,
    pending: Vec<Sample>,
    /// Bytes of the images among them.
    bytes: usize,
    sender: SyncSender<Vec<Item>>,
}

impl Opener {
    fn take(&mut self, sample: Sample, batch_size: usize) -> Result<()> {
        self.bytes += match &sample.image {
            Ok(Input {
                content: Content::Bytes(bytes),
                ..
            }) => bytes.len(),
            _ => 0,
        };
        self.pending.push(sample);
        if self.pending.len() == batch_size || self.bytes >= MOST_BYTES {
            self.open()?;
        }
        Ok(())
    }

    /// Opens the images that are pending, on all cores, and gives them away.
    fn open(&mut self) -> Result<()> {
        self.bytes = 0;
        let mut items = Vec::with_capacity(self.pending.len());
        let mut inputs = Vec::new();
        for sample in self.pending.drain(..) {
            let image = sample.image.map(|input| inputs.push(input));
            items.push((sample.key, sample.member, image));
        }
        let mut crops =
            open_crops(&inputs.iter().collect::<Vec<_>>(), &self.preprocessing).into_iter();
        let opened = |(key, member, image): (String, String, Result<(), Refused>)| {
            let crop = match image {
                Err(refused) => Err(refused),
                Ok(()) => crops.next()?.map_err(Refused::from),
            };
            Some(Item { key, member, crop })
        };
        let batch: Vec<Item> = items.into_iter().filter_map(opened).collect();
        if !batch.is_empty() && self.sender.send(batch).is_err() {
            bail!("whoever took the images has stopped");
        }
        Ok(())
    }
}
