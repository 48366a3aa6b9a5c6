//! Images on their way to the encoders that learn from them: cut, changed, normalized, on all cores.

use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Int, Tensor, TensorData};
use image::RgbImage;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::data::loader::SeededBatcher;
use crate::datasets::classes::Images;
use crate::models::clip::Preprocessing;
use crate::pretrain::augment::{Augmentation, Planes};

/// Images, perhaps with labels, as burn's learner reads them.
pub struct ImageDataset {
    pub images: Images,
    /// Empty where nothing is to be learned of classes.
    pub labels: Vec<usize>,
}

/// An image and its class; 0 without one.
pub type ImageItem = (RgbImage, usize);

impl Dataset<ImageItem> for ImageDataset {
    fn get(&self, index: usize) -> Result<ImageItem, DatasetError> {
        let image = (self.images.get(index))
            .map_err(|error| DatasetError::new(std::io::Error::other(format!("{error:#}"))))?;
        Ok((image, self.labels.get(index).copied().unwrap_or(0)))
    }

    fn get_many(&self, indices: Vec<usize>) -> Result<Vec<ImageItem>, DatasetError> {
        indices
            .into_par_iter()
            .map(|index| self.get(index))
            .collect()
    }

    fn len(&self) -> usize {
        self.images.len()
    }
}

/// Two views of each image, `[N, 3, n, n]` each.
#[derive(Clone, Debug)]
pub struct ViewBatch {
    pub first: Tensor<4>,
    pub second: Tensor<4>,
}

/// Images as they are, `[N, 3, n, n]`.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    pub pixel_values: Tensor<4>,
}

/// One view of each image, and the classes.
#[derive(Clone, Debug)]
pub struct ClassBatch {
    /// `[N, 3, n, n]`
    pub pixel_values: Tensor<4>,
    /// `[N]`
    pub labels: Tensor<1, Int>,
}

/// Makes views. `K` says what of.
pub struct ViewBatcher<K> {
    pub augmentation: Augmentation,
    pub preprocessing: Preprocessing,
    pub kind: K,
}

/// [`ViewBatcher`] of [`ViewBatch`]es.
pub struct TwoViews;
/// [`ViewBatcher`] of [`ImageBatch`]es.
pub struct OneView;
/// [`ViewBatcher`] of [`ClassBatch`]es.
pub struct Classes;

impl<K: Sync> ViewBatcher<K> {
    /// `count` views of each image, all first ones before all second ones, with the numbers of each following from a seed
    /// of its own: `[count * N, 3, n, n]`.
    fn views(
        &self,
        items: &[ImageItem],
        count: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Tensor<4> {
        let side = self.preprocessing.image_size;
        let seeds: Vec<u64> = (0..count * items.len()).map(|_| rng.random()).collect();
        let planes: Vec<Planes> = seeds
            .par_iter()
            .enumerate()
            .map(|(i, &seed)| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let image = &items[i % items.len()].0;
                self.augmentation.view(image, side, &mut rng)
            })
            .collect();
        let n = side as usize;
        let mut values = Vec::with_capacity(planes.len() * 3 * n * n);
        for view in planes {
            for (channel, plane) in view.values.chunks_exact(n * n).enumerate() {
                let (mean, std) = (
                    self.preprocessing.mean[channel],
                    self.preprocessing.std[channel],
                );
                values.extend(plane.iter().map(|value| (value - mean) / std));
            }
        }
        let shape = [count * items.len(), 3, n, n];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

impl SeededBatcher for ViewBatcher<TwoViews> {
    type Item = ImageItem;
    type Batch = ViewBatch;

    fn batch(&self, items: Vec<ImageItem>, rng: &mut ChaCha8Rng, device: &Device) -> ViewBatch {
        let views = self.views(&items, 2, rng, device);
        let [first, second] = [0, 1].map(|i| views.clone().narrow(0, i * items.len(), items.len()));
        ViewBatch { first, second }
    }
}

impl SeededBatcher for ViewBatcher<OneView> {
    type Item = ImageItem;
    type Batch = ImageBatch;

    fn batch(&self, items: Vec<ImageItem>, rng: &mut ChaCha8Rng, device: &Device) -> ImageBatch {
        ImageBatch {
            pixel_values: self.views(&items, 1, rng, device),
        }
    }
}

impl SeededBatcher for ViewBatcher<Classes> {
    type Item = ImageItem;
    type Batch = ClassBatch;

    fn batch(&self, items: Vec<ImageItem>, rng: &mut ChaCha8Rng, device: &Device) -> ClassBatch {
        let labels: Vec<i32> = items.iter().map(|&(_, label)| label as i32).collect();
        ClassBatch {
            pixel_values: self.views(&items, 1, rng, device),
            labels: Tensor::from_ints(labels.as_slice(), device),
        }
    }
}
