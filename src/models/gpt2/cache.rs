//! Keys and values of the positions read so far, so that each new token costs one position and not all of them.
//!
//! A GPU attends to the whole room at each token, with a bias that hides what is not filled yet: tensors keep their shape
//! from step to step, and kernels are compiled and chosen once. The CPU looks at the filled part alone.
//!
//! Shape letters: `R` rows (images, or beams of images), `C` n_embd, `L` room.

use burn::tensor::{Device, FloatDType, Int, Tensor};

use crate::device::is_cpu;
use crate::nn::reference::HIDDEN;

/// One [`LayerCache`] a block.
#[derive(Debug)]
pub struct KvCache {
    pub(super) layers: Vec<LayerCache>,
    room: usize,
}

/// Keys and values of one block, in tensors of `[R, L, C]` that are filled from the front.
#[derive(Debug)]
pub struct LayerCache {
    /// `None` only while a call is under way: the tensors are taken out so that they are written in place.
    filled: Option<(Tensor<3>, Tensor<3>)>,
    len: usize,
    room: usize,
}

impl KvCache {
    /// An empty cache for `layers` blocks with room for `room` positions.
    pub fn new(layers: usize, room: usize) -> Self {
        let layers = (0..layers)
            .map(|_| LayerCache {
                filled: None,
                len: 0,
                room,
            })
            .collect();
        Self { layers, room }
    }

    /// What is added to the attention scores of `t` more positions, float32 `[1, 1, 1, L]`, where they are scored against the
    /// whole room.
    pub(super) fn bias(&self, t: usize, device: &Device) -> Option<Tensor<4>> {
        attends_to_room(t, device).then(|| {
            let last = (self.len() + t - 1) as i64;
            let positions = Tensor::<1, Int>::arange(0..self.room as i64, device);
            let hidden = positions.greater_elem(last).float().cast(FloatDType::F32); // [L]
            (hidden * HIDDEN).reshape([1, 1, 1, self.room])
        })
    }

    /// Positions read so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that are kept; none before the first position.
    pub fn rows(&self) -> usize {
        self.layers.first().and_then(LayerCache::rows).unwrap_or(0)
    }

    /// Row `i` becomes what row `rows[i]` was: beams that survive are copied, those not named are dropped.
    pub fn reorder(&mut self, rows: &[usize]) {
        let Some(count) = self.layers.first().and_then(LayerCache::rows) else {
            return;
        };
        if rows.len() == count && rows.iter().enumerate().all(|(i, &row)| i == row) {
            return;
        }
        for layer in &mut self.layers {
            layer.reorder(rows);
        }
    }
}

impl LayerCache {
    /// Appends keys and values `[R, T, C]` and returns all of them so far, `[R, len, C]`; of a single position on a GPU with
    /// the room that is left, `[R, L, C]`.
    ///
    /// # Panics
    /// When there is no room left: callers size the cache by the model's context.
    pub fn append(&mut self, k: Tensor<3>, v: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let [r, t, c] = k.dims();
        let end = self.len + t;
        assert!(
            end <= self.room,
            "{end} positions do not fit a cache with room for {}",
            self.room
        );
        let (keys, values) = self.filled.take().unwrap_or_else(|| {
            let empty = |like: &Tensor<3>| {
                Tensor::<3>::zeros([r, self.room, c], &like.device()).cast(like.dtype())
            };
            (empty(&k), empty(&v))
        });
        let region = [0..r, self.len..end, 0..c];
        let whole = attends_to_room(t, &k.device());
        let first = self.len == 0;
        let keys = keys.slice_assign(region.clone(), k.clone());
        let values = values.slice_assign(region, v.clone());
        self.len = end;
        let out = if whole {
            (keys.clone(), values.clone())
        } else if first {
            (k, v)
        } else {
            let live = [0..r, 0..end, 0..c];
            (keys.clone().slice(live.clone()), values.clone().slice(live))
        };
        self.filled = Some((keys, values));
        out
    }

    fn rows(&self) -> Option<usize> {
        self.filled.as_ref().map(|(keys, _)| keys.dims()[0])
    }

    fn reorder(&mut self, rows: &[usize]) {
        self.filled = self.filled.take().map(|(keys, values)| {
            let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
            let index = Tensor::<1, Int>::from_ints(rows.as_slice(), &keys.device());
            (keys.select(0, index.clone()), values.select(0, index))
        });
    }
}

/// Whether `t` more positions are scored against the whole room.
fn attends_to_room(t: usize, device: &Device) -> bool {
    t == 1 && !is_cpu(device)
}
