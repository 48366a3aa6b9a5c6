//! The left factor of a product in tiles, and what multiplies them with panels.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::packed::{Panels, Stored};
use super::{Epilogue, View, WORTH_SHARING};
use crate::activation;
use crate::simd::{Isa, Kernel, LANES, Simd};

/// Floats of the left factor that a task works through: half of a second-level cache.
const BLOCK: usize = 96 * 1024;
/// Multiplications of a task, more or less, where there are many.
const TASK: usize = 4 * 1024 * 1024;
/// Tiles from which on a panel of narrow weights is widened once for all of them.
const WIDEN: usize = 4;
/// Steps of a tile that are packed for all of its rows before the next ones.
const TOGETHER: usize = 64;

/// Where a product goes: several tasks write to columns of their own of the same rows.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    start: *mut f32,
    rows: usize,
    stride: usize,
    len: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: `slice` is called for regions that are apart from each other, as its contract asks.
unsafe impl Send for Out<'_> {}
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    /// A row-major matrix with rows of `stride`.
    pub(crate) fn new(out: &'a mut [f32], stride: usize) -> Self {
        Self {
            start: out.as_mut_ptr(),
            rows: out.len() / stride.max(1),
            stride,
            len: out.len(),
            borrowed: PhantomData,
        }
    }

    /// The matrix of `rows` rows, as far apart, that begins `offset` floats later.
    pub(crate) fn part(self, offset: usize, rows: usize) -> Self {
        assert!(offset <= self.len);
        Self {
            // SAFETY: within the slice this was made of.
            start: unsafe { self.start.add(offset) },
            rows,
            len: self.len - offset,
            ..self
        }
    }

    /// `count` floats of a row.
    ///
    /// # Safety
    /// No two live slices overlap.
    #[inline(always)]
    pub(crate) unsafe fn slice(self, row: usize, first: usize, count: usize) -> &'a mut [f32] {
        let start = row * self.stride + first;
        assert!(start + count <= self.len);
        // SAFETY: in bounds as just checked, borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), count) }
    }
}

/// A whole product.
pub(super) struct Product<'a, W> {
    pub(super) a: View<'a>,
    pub(super) b: Panels<'a, W>,
    pub(super) isa: Isa,
    pub(super) out: Out<'a>,
    pub(super) epilogue: Epilogue<'a>,
}

impl<W: Stored> Kernel for Product<'_, W> {
    type Output = ();
    /// Splits the product into blocks of rows that fit the cache, and these into ranges of panels.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product {
            a,
            b,
            isa,
            out,
            epilogue,
        } = self;
        let (m, k) = (a.rows, a.cols);
        let (height, tiles) = tiling(m, S::ROWS);
        let panels = b.cols.div_ceil(S::PANELS * LANES);
        let mut packed = vec![0.0; tiles * height * k];
        let threads = rayon::current_num_threads();
        if m * k * b.cols < WORTH_SHARING || threads == 1 {
            pack_tiles(a, 0, height, &mut packed);
            let block = Block {
                tiles: &packed,
                height,
                first_row: 0,
                b,
                panels: 0..panels,
                first_panel: 0,
                out,
                epilogue,
            };
            return s.vectorize(block);
        }
        let block = (BLOCK / (height * k).max(1)).max(1); // tiles
        let size = (block * height * k).max(1);
        packed
            .par_chunks_mut(size)
            .with_max_len(1)
            .enumerate()
            .for_each(|(i, packed)| pack_tiles(a, i * block * height, height, packed));
        let blocks = tiles.div_ceil(block);
        // Small tasks, one at a time, even out what a thread is slower by.
        let tasks = (8 * threads).max(m * k * b.cols / TASK);
        let parts = tasks.div_ceil(blocks).min(panels);
        let range = panels.div_ceil(parts);
        let parts = panels.div_ceil(range);
        let tasks = (0..blocks * parts).into_par_iter().with_max_len(1);
        tasks.for_each(|task| {
            let (i, part) = (task / parts, task % parts);
            isa.run(Block {
                tiles: &packed[i * size..packed.len().min((i + 1) * size)],
                height,
                first_row: i * block * height,
                b,
                panels: part * range..panels.min((part + 1) * range),
                first_panel: 0,
                out,
                epilogue,
            });
        });
    }
}

/// Rows a tile, at most `most` and as even as can be, and the number of tiles.
pub(crate) fn tiling(rows: usize, most: usize) -> (usize, usize) {
    let height = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    (height, rows.div_ceil(height))
}

/// Some tiles times some panels, by one thread.
pub(super) struct Block<'a, W> {
    pub(super) tiles: &'a [f32],
    pub(super) height: usize,
    pub(super) first_row: usize,
    pub(super) b: Panels<'a, W>,
    pub(super) panels: std::ops::Range<usize>,
    /// The panel of the whole product that panel 0 is.
    pub(super) first_panel: usize,
    pub(super) out: Out<'a>,
    pub(super) epilogue: Epilogue<'a>,
}

impl<W: Stored> Kernel for Block<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Each panel is widened once, if that is for many tiles.
        if W::NARROW && self.tiles.len() >= WIDEN * self.height * self.b.rows {
            return self.widened(s);
        }
        macro_rules! heights {
            ($($r:literal)*) => {
                match self.height {
                    $($r if S::PANELS == 2 => self.multiply::<S, $r, 2>(s),
                    $r => self.multiply::<S, $r, 1>(s),)*
                    _ => unreachable!("a tile of {} rows", self.height),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12)
    }
}

impl<W: Stored> Block<'_, W> {
    #[inline(always)]
    fn widened<S: Simd>(self, s: S) {
        let size = self.b.rows * S::PANELS * LANES;
        let mut wide = vec![0.0; size];
        for panel in self.panels {
            let narrow = &self.b.data[panel * size..(panel + 1) * size];
            for (to, from) in (wide.as_chunks_mut().0.iter_mut()).zip(narrow.as_chunks().0) {
                s.store(W::load(s, from), to);
            }
            s.vectorize(Block {
                tiles: self.tiles,
                height: self.height,
                first_row: self.first_row,
                b: Panels {
                    data: &wide,
                    scales: self.b.scales,
                    rows: self.b.rows,
                    cols: self.b.cols,
                },
                panels: 0..1,
                first_panel: panel,
                out: self.out,
                epilogue: self.epilogue,
            });
        }
    }

    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const P: usize>(self, s: S) {
        // What is not used on this instruction set is not compiled.
        if R > S::ROWS || P != S::PANELS {
            return;
        }
        let k = self.b.rows;
        let tiles = self.tiles.as_chunks::<R>().0;
        let mut sums = [[[0.0; LANES]; P]; R];
        for panel in self.panels.clone() {
            let size = k * P * LANES;
            let weights = &self.b.data[panel * size..(panel + 1) * size];
            let weights = weights.as_chunks::<LANES>().0.as_chunks::<P>().0;
            for i in 0..tiles.len() / k.max(1) {
                tile(s, &tiles[i * k..(i + 1) * k], weights, &mut sums);
                s.vectorize(Finish {
                    sums: sums.as_flattened(),
                    vectors: P,
                    row: self.first_row + i * R,
                    column: (self.first_panel + panel) * P * LANES,
                    scales: self.b.scales,
                    columns: self.b.cols,
                    out: self.out,
                    epilogue: self.epilogue,
                });
            }
        }
    }
}

/// Writes a tile's sums where they belong.
struct Finish<'a> {
    /// `vectors` for each row.
    sums: &'a [[f32; LANES]],
    vectors: usize,
    row: usize,
    column: usize,
    scales: Option<&'a [f32]>,
    /// Of the whole product.
    columns: usize,
    out: Out<'a>,
    epilogue: Epilogue<'a>,
}

impl Kernel for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { out, epilogue, .. } = self;
        let rows = out.rows - self.row;
        for (r, sums) in self.sums.chunks_exact(self.vectors).enumerate().take(rows) {
            for (p, sums) in sums.iter().enumerate() {
                let first = self.column + p * LANES;
                let count = LANES.min(self.columns.saturating_sub(first));
                if count == 0 {
                    break;
                }
                let columns = first..first + count;
                let mut v = s.load(sums);
                if let Some(scales) = self.scales {
                    v = s.mul(v, s.load_some(&scales[columns.clone()], 0.0));
                }
                if let Some(bias) = epilogue.bias {
                    v = s.add(v, s.load_some(&bias[columns], 0.0));
                }
                if let Some(activation) = epilogue.activation {
                    v = activation::apply(s, activation, v);
                }
                // SAFETY: tasks have rows and panels of their own.
                let out = unsafe { out.slice(self.row + r, first, count) };
                if epilogue.accumulate {
                    v = s.add(v, s.load_some(out, 0.0));
                }
                s.store_some(v, out);
            }
        }
    }
}

/// Rows `first..` of `a` as tiles of `height` rows, `[tile][k][height]`, zeros behind the last row.
pub(super) fn pack_tiles(a: View, first: usize, height: usize, out: &mut [f32]) {
    let k = a.cols;
    if k == 0 {
        return;
    }
    for (tile, out) in out.chunks_exact_mut(height * k).enumerate() {
        let first = first + tile * height;
        let count = height.min(a.rows.saturating_sub(first));
        if a.row_stride == 1 {
            for (k, out) in out.chunks_exact_mut(height).enumerate() {
                let from = &a.data[k * a.col_stride + first..][..count];
                out[..count].copy_from_slice(from);
            }
        } else if a.col_stride == 1 {
            // Some steps of all rows before the next ones: what is written stays in the nearest cache.
            for (i, out) in out.chunks_mut(height * TOGETHER).enumerate() {
                let steps = out.len() / height;
                for r in 0..count {
                    let row = &a.data[(first + r) * a.row_stride + i * TOGETHER..][..steps];
                    for (k, &x) in row.iter().enumerate() {
                        out[k * height + r] = x;
                    }
                }
            }
        } else {
            for r in 0..count {
                for (out, &x) in out[r..].iter_mut().step_by(height).zip(a.row(first + r)) {
                    *out = x;
                }
            }
        }
    }
}

/// The sums of one tile: `R` rows by `P` vectors of columns.
#[inline(always)]
fn tile<S: Simd, W: Stored, const R: usize, const P: usize>(
    s: S,
    a: &[[f32; R]],
    b: &[[[W; LANES]; P]],
    out: &mut [[[f32; LANES]; P]; R],
) {
    let mut sums = [[s.splat(0.0); P]; R];
    for (a, b) in a.iter().zip(b) {
        let mut columns = [s.splat(0.0); P];
        for p in 0..P {
            columns[p] = W::load(s, &b[p]);
        }
        for r in 0..R {
            let x = s.splat(a[r]);
            for p in 0..P {
                sums[r][p] = s.mul_add(x, columns[p], sums[r][p]);
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            s.store(sums[r][p], &mut out[r][p]);
        }
    }
}
