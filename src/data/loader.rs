//! Batches whose order and random numbers follow from a seed, the epoch and the batch alone.
//!
//! burn's own loader draws on from epoch to epoch, so a resumed run would see other batches than the run it goes on
//! from. Here epoch `n` is the same whether the run began with it or not, and its batches are the same whether one
//! device takes them or several share them. A thread makes them while the model learns from those before.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{JoinHandle, spawn};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::guard::{self, Panicked, guarded};

/// Batches that wait, made, for the learner to take them.
const AHEAD: usize = 1;

/// Makes a batch of items.
pub trait SeededBatcher: Send + Sync + 'static {
    type Item: Send + Sync + 'static;
    type Batch: Send + 'static;

    /// `rng` is this batch's own.
    fn batch(&self, items: Vec<Self::Item>, rng: &mut ChaCha8Rng, device: &Device) -> Self::Batch;

    /// The rows of a batch that one of several devices takes: at least one.
    fn share(
        &self,
        mut items: Vec<Self::Item>,
        rows: Range<usize>,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self::Batch {
        self.batch(items.drain(rows).collect(), rng, device)
    }
}

/// How items follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are in the data set, the same every epoch.
    Given,
    /// Shuffled again every epoch.
    Shuffled,
}

/// A loader for burn's learner, which asks it for one iterator an epoch.
pub struct EpochLoader<B: SeededBatcher> {
    dataset: Arc<dyn Dataset<B::Item>>,
    batcher: Arc<B>,
    batch_size: usize,
    order: Order,
    seed: u64,
    device: Device,
    /// The epoch the next iterator is for; shared with the copies on other devices.
    epoch: Arc<AtomicU64>,
    /// How many devices share a batch.
    devices: usize,
    /// The one of them that this loader is for; `None` is for the whole batch.
    share: Option<usize>,
    /// Whether what is left at the end of an epoch, less than a batch, is left out.
    whole_batches: bool,
}

impl<B: SeededBatcher> EpochLoader<B> {
    /// `first_epoch` is 1 for a new run.
    pub fn new(
        dataset: impl Dataset<B::Item> + 'static,
        batcher: B,
        batch_size: usize,
        order: Order,
        seed: u64,
        first_epoch: usize,
        device: &Device,
    ) -> Self {
        Self {
            dataset: Arc::new(dataset),
            batcher: Arc::new(batcher),
            batch_size,
            order,
            seed,
            device: device.clone(),
            epoch: Arc::new(AtomicU64::new(first_epoch as u64)),
            devices: 1,
            share: None,
            whole_batches: false,
        }
    }

    /// A loader whose slices are for so many devices.
    pub fn shared_by(self, devices: usize) -> Self {
        Self { devices, ..self }
    }

    /// Every batch has the full size: what is left at the end of an epoch is left out.
    pub fn whole_batches(mut self) -> Self {
        self.whole_batches = true;
        self
    }

    fn with(&self, device: &Device, share: Option<usize>) -> Self {
        Self {
            dataset: self.dataset.clone(),
            batcher: self.batcher.clone(),
            batch_size: self.batch_size,
            order: self.order,
            seed: self.seed,
            device: device.clone(),
            epoch: self.epoch.clone(),
            devices: self.devices,
            share,
            whole_batches: self.whole_batches,
        }
    }

    /// The rows of a batch of `count` items that this loader gives.
    fn rows(&self, count: usize) -> Range<usize> {
        match self.share {
            Some(share) => {
                let end = |share| share * count / self.devices;
                end(share)..end(share + 1)
            }
            None => 0..count,
        }
    }

    /// How many items this loader gives of a batch of `count`: a batch is never empty, so that all devices see as many.
    fn given(&self, count: usize) -> usize {
        self.rows(count).len().max(count.min(1))
    }

    /// Random numbers of a batch; batch 0 is the shuffling.
    fn rng(&self, epoch: u64, batch: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((epoch << 32) | batch);
        rng
    }

    /// An epoch's items, in the order in which they come.
    fn indices(&self, epoch: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.dataset.len()).collect();
        if self.order == Order::Shuffled {
            indices.shuffle(&mut self.rng(epoch, 0));
        }
        if self.whole_batches {
            indices.truncate(indices.len() - indices.len() % self.batch_size);
        }
        indices
    }

    /// Batch `number`, from 1, of an epoch.
    fn batch(
        &self,
        epoch: u64,
        number: u64,
        indices: Vec<usize>,
    ) -> Result<B::Batch, DatasetError> {
        let rows = self.rows(indices.len());
        let mut rng = self.rng(epoch, number);
        let items = self.dataset.get_many(indices)?;
        Ok(match self.share {
            Some(_) => self.batcher.share(items, rows, &mut rng, &self.device),
            None => self.batcher.batch(items, &mut rng, &self.device),
        })
    }
}

impl<B: SeededBatcher> DataLoader<B::Batch> for EpochLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B::Batch> + 'a> {
        let epoch = match self.order {
            Order::Given => 0,
            Order::Shuffled => self.epoch.fetch_add(1, Ordering::SeqCst),
        };
        let (sender, batches) = sync_channel(AHEAD);
        let loader = self.with(&self.device, self.share);
        let make = move || {
            for (chunk, number) in loader.indices(epoch).chunks(loader.batch_size).zip(1..) {
                let batch = loader.batch(epoch, number, chunk.to_vec());
                // Nobody waits for the rest of an epoch that was broken off.
                if sender.send((loader.given(chunk.len()), batch)).is_err() {
                    return;
                }
            }
        };
        let maker = spawn(|| guarded(make));
        Box::new(EpochIterator {
            batches,
            maker: Some(maker),
            given: 0,
            items: self.num_items(),
        })
    }

    fn num_items(&self) -> usize {
        let (count, size) = (self.dataset.len(), self.batch_size);
        let rest = if self.whole_batches { 0 } else { count % size };
        count / size * self.given(size) + self.given(rest)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B::Batch>> {
        Arc::new(self.with(device, self.share))
    }

    /// burn's learner asks for one run of items a device, all of the same length but the last. What a device gets
    /// instead is its share of every batch.
    fn slice(&self, start: usize, _: usize) -> Arc<dyn DataLoader<B::Batch>> {
        let length = (self.dataset.len() / self.devices).max(1);
        let share = (start / length).min(self.devices - 1);
        let mut slice = self.with(&self.device, Some(share));
        slice.epoch = Arc::new(AtomicU64::new(self.epoch.load(Ordering::SeqCst)));
        Arc::new(slice)
    }
}

/// One epoch's batches.
struct EpochIterator<T> {
    /// How many items a batch gives, and the batch.
    batches: Receiver<(usize, Result<T, DatasetError>)>,
    /// Who makes them.
    maker: Option<JoinHandle<Result<(), Panicked>>>,
    /// Items given out.
    given: usize,
    /// Items to give out.
    items: usize,
}

impl<T> Iterator for EpochIterator<T> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok((given, batch)) = self.batches.recv() {
            self.given += given;
            return Some(batch);
        }
        // All are made, or the thread broke down, which is no end of an epoch.
        let reason = match self.maker.take()?.join() {
            Ok(Ok(())) => return None,
            Ok(Err(panicked)) => panicked.message,
            Err(panic) => guard::message(&*panic),
        };
        let error = std::io::Error::other(format!("a batch could not be made: {reason}"));
        Some(Err(DatasetError::new(error)))
    }
}

impl<T> DataLoaderIterator<T> for EpochIterator<T> {
    fn progress(&self) -> Progress {
        Progress::new(self.given, self.items, Some("items".to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::data::dataset::InMemDataset;
    use rand::RngExt;

    /// Gives the items and a random number.
    struct Numbers;

    impl SeededBatcher for Numbers {
        type Item = usize;
        type Batch = (Vec<usize>, u32);

        fn batch(&self, items: Vec<usize>, rng: &mut ChaCha8Rng, _: &Device) -> Self::Batch {
            (items, rng.random())
        }
    }

    fn loader(order: Order, first_epoch: usize) -> Arc<dyn DataLoader<(Vec<usize>, u32)>> {
        let items = InMemDataset::new((0..10).collect());
        Arc::new(EpochLoader::new(
            items,
            Numbers,
            4,
            order,
            7,
            first_epoch,
            &Device::flex(),
        ))
    }

    fn epoch(loader: &Arc<dyn DataLoader<(Vec<usize>, u32)>>) -> Vec<(Vec<usize>, u32)> {
        loader.iter().map(Result::unwrap).collect()
    }

    #[test]
    fn an_epoch_is_the_same_whether_the_run_began_with_it_or_not() {
        let (whole, resumed) = (loader(Order::Shuffled, 1), loader(Order::Shuffled, 2));
        let (first, second) = (epoch(&whole), epoch(&whole));
        assert_ne!(first, second);
        assert_eq!(second, epoch(&resumed));
    }

    #[test]
    fn every_item_comes_once_an_epoch_and_the_last_batch_is_the_rest() {
        let batches = epoch(&loader(Order::Shuffled, 1));
        assert_eq!(
            batches
                .iter()
                .map(|(items, _)| items.len())
                .collect::<Vec<_>>(),
            [4, 4, 2]
        );
        let mut items: Vec<usize> = batches.into_iter().flat_map(|(items, _)| items).collect();
        items.sort_unstable();
        assert_eq!(items, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn whole_batches_leave_the_rest_out_another_one_each_epoch() {
        let loader = EpochLoader::new(
            InMemDataset::new((0..10).collect()),
            Numbers,
            4,
            Order::Shuffled,
            7,
            1,
            &Device::flex(),
        );
        let loader: Arc<dyn DataLoader<_>> = Arc::new(loader.whole_batches());
        let items = || -> Vec<usize> {
            let batches = epoch(&loader);
            assert!(batches.iter().all(|(items, _)| items.len() == 4));
            batches.into_iter().flat_map(|(items, _)| items).collect()
        };
        let (first, second) = (items(), items());
        assert_eq!(first.len(), 8);
        assert_ne!(first, second);
    }

    #[test]
    fn a_given_order_is_kept_and_repeats() {
        let loader = loader(Order::Given, 1);
        assert_eq!(epoch(&loader)[0].0, [0, 1, 2, 3]);
        assert_eq!(epoch(&loader), epoch(&loader));
    }

    /// Breaks down at the second batch.
    struct Broken;

    impl SeededBatcher for Broken {
        type Item = usize;
        type Batch = usize;

        fn batch(&self, items: Vec<usize>, _: &mut ChaCha8Rng, _: &Device) -> usize {
            assert!(items[0] < 4, "no more");
            items[0]
        }
    }

    #[test]
    fn a_batcher_that_panics_does_not_end_an_epoch_in_silence() {
        let items = InMemDataset::new((0..10).collect());
        let device = Device::flex();
        let loader = EpochLoader::new(items, Broken, 4, Order::Given, 7, 1, &device);
        let mut batches = loader.iter();
        assert_eq!(batches.next().unwrap().unwrap(), 0);
        assert_eq!(batches.progress().items_processed, 4);
        let error = batches.next().unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("no more"), "{error:?}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn an_epoch_can_be_broken_off() {
        let loader = loader(Order::Shuffled, 1);
        drop(loader.iter().next());
        assert_eq!(epoch(&loader).len(), 3);
    }

    #[test]
    fn devices_share_every_batch_and_nothing_twice() {
        let items = InMemDataset::new((0..11).collect());
        let loader = EpochLoader::new(items, Numbers, 4, Order::Shuffled, 7, 1, &Device::flex());
        let whole: Arc<dyn DataLoader<_>> = Arc::new(loader.shared_by(2));
        let (first, second) = (whole.slice(0, 5), whole.slice(5, 11));
        assert_eq!((first.num_items(), second.num_items()), (5, 6));
        for _ in 0..2 {
            let shares = epoch(&first).into_iter().zip(epoch(&second));
            let together = shares.map(|((a, _), (b, _))| [a, b].concat());
            let batches = epoch(&whole).into_iter().map(|(items, _)| items);
            assert!(together.eq(batches));
        }
    }
}
