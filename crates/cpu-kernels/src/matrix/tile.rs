//! Tiles times panels, in tasks for all cores.

use std::cell::Cell;
use std::marker::PhantomData;

use half::f16;
use rayon::prelude::*;

use super::left::tiling;
use super::packed::Panels;
use super::weight::{Weights, sealed::Weight};
use super::{Epilogue, View, WORTH_SHARING};
use crate::activation;
use crate::simd::{Isa, Kernel, LANES, Simd};

/// Groups of the left factor that a task works through: half of a second-level cache.
const BLOCK: usize = 96 * 1024;
/// Most tiles that are too few to hide how long reading a panel from memory takes. A single one does nothing but read.
const AHEAD: usize = 8;
/// Bytes of the largest panels that the second-level cache has room for two of, beside the tiles.
const SMALL_PANEL: usize = 128 * 1024;
/// Groups of a left factor whose memory is kept: 32 MB.
const KEPT: usize = 8 * 1024 * 1024;
/// Multiplications of groups of a task, more or less, where there are many.
const TASK: usize = 4 * 1024 * 1024;

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

    /// The matrix of `rows` rows, as far apart, that begins `offset` float32 values later.
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

    /// `count` float32 values of a row.
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
pub(super) struct Product<'a, W: Weight> {
    pub(super) a: View<'a>,
    pub(super) b: Panels<'a, W>,
    pub(super) isa: Isa,
    pub(super) out: Out<'a>,
    pub(super) epilogue: Epilogue<'a>,
}

impl<W: Weight> Product<'_, W> {
    /// Splits the product into blocks of rows that fit the cache, and these into ranges of panels.
    pub(super) fn run(self) {
        let Self {
            a,
            b,
            isa,
            out,
            epilogue,
        } = self;
        let (height, tiles) = tiling(a.rows, isa.rows());
        let tile = height * b.groups();
        let work = a.rows * b.cols * b.groups();
        let panels = b.cols.div_ceil(isa.panel());
        let shared = work >= WORTH_SHARING && rayon::current_num_threads() > 1;
        let block = (BLOCK / tile.max(1)).clamp(1, tiles); // tiles
        // Not zeros: what rows behind the last one hold is multiplied, but goes nowhere.
        let mut memory = LEFT.take();
        memory.resize(memory.len().max(tiles * tile), 0);
        let left: &mut [W::Left] = bytemuck::cast_slice_mut(&mut memory[..tiles * tile]);
        let mut rows = vec![W::Row::default(); tiles * height];
        let pack = |(i, (left, rows))| {
            isa.run(PackLeft::<W> {
                a,
                first: i * block * height,
                height,
                left,
                rows,
            })
        };
        // At least one value each, for products over nothing.
        let (size, some) = ((block * tile).max(1), block * height);
        if shared && tiles > block {
            let parts = left.par_chunks_mut(size).zip(rows.par_chunks_mut(some));
            parts.with_max_len(1).enumerate().for_each(pack);
        } else {
            let parts = left.chunks_mut(size).zip(rows.chunks_mut(some));
            parts.enumerate().for_each(pack);
        }
        let blocks = tiles.div_ceil(block);
        // Small tasks, one at a time, even out what a thread is slower by.
        let tasks = match shared {
            true => (8 * rayon::current_num_threads()).max(work / TASK),
            false => 1,
        };
        let parts = tasks.div_ceil(blocks).min(panels);
        let range = panels.div_ceil(parts);
        let parts = panels.div_ceil(range);
        let run = |task: usize| {
            let (i, part) = (task / parts, task % parts);
            isa.run(Block {
                left: &left[i * block * tile..(tiles * tile).min((i + 1) * block * tile)],
                rows: &rows[i * some..rows.len().min((i + 1) * some)],
                height,
                first_row: i * some,
                b,
                panels: part * range..panels.min((part + 1) * range),
                first_panel: 0,
                out,
                epilogue,
            });
        };
        match shared {
            true => {
                let tasks = (0..blocks * parts).into_par_iter().with_max_len(1);
                tasks.for_each(run);
            }
            false => (0..blocks * parts).for_each(run),
        }
        if memory.len() <= KEPT {
            LEFT.set(memory);
        }
    }
}

thread_local! {
    /// Memory for left factors, for the thread's next product. Nested ones find none.
    static LEFT: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Fills some tiles.
struct PackLeft<'a, W: Weight> {
    a: View<'a>,
    /// Its first row.
    first: usize,
    height: usize,
    left: &'a mut [W::Left],
    rows: &'a mut [W::Row],
}

impl<W: Weight> Kernel for PackLeft<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        W::pack_left(s, self.a, self.first, self.height, self.left, self.rows);
    }
}

/// Some tiles times some panels, by one thread.
pub struct Block<'a, W: Weight> {
    pub(super) left: &'a [W::Left],
    /// `height` for each tile.
    pub(super) rows: &'a [W::Row],
    pub(super) height: usize,
    pub(super) first_row: usize,
    pub(super) b: Panels<'a, W>,
    pub(super) panels: std::ops::Range<usize>,
    /// The panel of the whole product that panel 0 is.
    pub(super) first_panel: usize,
    pub(super) out: Out<'a>,
    pub(super) epilogue: Epilogue<'a>,
}

impl<W: Weight> Kernel for Block<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        W::block(s, self);
    }
}

impl Block<'_, f16> {
    /// Multiplies with each panel widened once for all tiles.
    #[inline(always)]
    pub(super) fn widened<S: Simd>(self, s: S) {
        let size = self.b.rows * S::PANELS * LANES;
        let mut wide = vec![0.0; size];
        for panel in self.panels {
            let narrow = &self.b.data[panel * size..(panel + 1) * size];
            for (to, from) in (wide.as_chunks_mut().0.iter_mut()).zip(narrow.as_chunks().0) {
                s.store(s.load_f16(from), to);
            }
            s.vectorize(Block::<f32> {
                left: self.left,
                rows: self.rows,
                height: self.height,
                first_row: self.first_row,
                b: Panels {
                    data: &wide,
                    columns: self.b.columns,
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
}

impl<W: Weight> Block<'_, W> {
    pub(super) fn tiles(&self) -> usize {
        self.rows.len() / self.height
    }

    #[inline(always)]
    pub(super) fn multiply<S: Simd>(self, s: S) {
        macro_rules! heights {
            ($($r:literal)*) => {
                match self.height {
                    $($r if S::PANELS == 2 => self.multiply_by::<S, $r, 2>(s),
                    $r => self.multiply_by::<S, $r, 1>(s),)*
                    _ => unreachable!("a tile of {} rows", self.height),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12)
    }

    #[inline(always)]
    fn multiply_by<S: Simd, const R: usize, const P: usize>(self, s: S) {
        // What is not used on this instruction set is not compiled.
        if R > S::ROWS || P != S::PANELS {
            return;
        }
        let groups = self.b.groups();
        let left = self.left.as_chunks::<R>().0;
        let columns = self.b.columns.as_chunks::<P>().0;
        let panel_bytes = groups * P * LANES * size_of::<W::Right>();
        let ahead = (2..=AHEAD).contains(&self.tiles()) && panel_bytes <= SMALL_PANEL;
        let mut sums = [[[0.0; LANES]; P]; R];
        for panel in self.panels.clone() {
            let size = groups * P * LANES;
            let of = |panel: usize| {
                let weights = &self.b.data[panel * size..(panel + 1) * size];
                weights.as_chunks::<LANES>().0.as_chunks::<P>().0
            };
            // The first tiles of a panel have the next one read from memory.
            let next = of(if panel + 1 < self.panels.end {
                panel + 1
            } else {
                panel
            });
            for (i, rows) in self.rows.as_chunks::<R>().0.iter().enumerate() {
                let left = &left[i * groups..(i + 1) * groups];
                let weights = Weights {
                    panel: of(panel),
                    next: (ahead && i < P).then_some((next, i)),
                };
                W::tile(s, left, rows, weights, &columns[panel], &mut sums);
                s.vectorize(Finish {
                    sums: &sums,
                    row: self.first_row + i * R,
                    column: (self.first_panel + panel) * P * LANES,
                    columns: self.b.cols,
                    out: self.out,
                    epilogue: self.epilogue,
                });
            }
        }
    }
}

/// Writes a tile's sums where they belong.
struct Finish<'a, const P: usize> {
    /// Of each row.
    sums: &'a [[[f32; LANES]; P]],
    row: usize,
    column: usize,
    /// Of the whole product.
    columns: usize,
    out: Out<'a>,
    epilogue: Epilogue<'a>,
}

impl<const P: usize> Kernel for Finish<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { out, epilogue, .. } = self;
        let count = (P * LANES).min(self.columns - self.column);
        let mut bias = [s.splat(0.0); P];
        if let Some(of) = epilogue.bias {
            let of = &of[self.column..self.column + count];
            for (bias, of) in bias.iter_mut().zip(of.chunks(LANES)) {
                *bias = s.load_some(of, 0.0);
            }
        }
        for (r, sums) in self.sums.iter().enumerate().take(out.rows - self.row) {
            // SAFETY: tasks have rows and panels of their own.
            let out = unsafe { out.slice(self.row + r, self.column, count) };
            for ((sums, &bias), out) in sums.iter().zip(&bias).zip(out.chunks_mut(LANES)) {
                let mut v = s.add(s.load(sums), bias);
                if let Some(activation) = epilogue.activation {
                    v = activation::apply(s, activation, v);
                }
                if epilogue.accumulate {
                    v = s.add(v, s.load_some(out, 0.0));
                }
                s.store_some(v, out);
            }
        }
    }
}
