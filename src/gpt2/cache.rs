//! Keys and values of the positions read so far, so that each new token costs one position and not all of them.
//!
//! Shape letters: `R` rows (pictures, or beams of pictures), `C` n_embd, `L` room.

use burn::tensor::{Int, Tensor};

/// One [`LayerCache`] a block.
#[derive(Debug)]
pub struct KvCache {
    pub(super) layers: Vec<LayerCache>,
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
        Self { layers }
    }

    /// Positions read so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    /// Appends keys and values `[R, T, C]` and returns all of them so far, `[R, len, C]`.
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
        let keys = keys.slice_assign(region.clone(), k);
        let values = values.slice_assign(region, v);
        self.len = end;
        let live = [0..r, 0..end, 0..c];
        let out = (keys.clone().slice(live.clone()), values.clone().slice(live));
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
