//! The right factor of a product, packed.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::tile::{Out, Product};
use super::weight::sealed::Weight;
use super::{Epilogue, View, WORTH_SHARING};
use crate::memory::Large;
use crate::simd::{Isa, Kernel, LANES, Simd};

/// Most values of a group.
const MOST: usize = 4;

/// A right factor in panels, zeros behind its last row and column.
#[derive(Debug)]
pub struct Packed<W: Weight> {
    /// `[n / panel][k / group][panel]`
    data: Memory<W::Right>,
    /// Of each sixteen.
    columns: Vec<W::Columns>,
    rows: usize,
    cols: usize,
    isa: Isa,
}

#[derive(Debug)]
enum Memory<T> {
    /// The allocator's, which has it for the next one soon.
    Kept(Vec<T>),
    Large(Large<T>),
}

impl<T: Pod> Memory<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Kept(data) => data,
            Self::Large(data) => data,
        }
    }
}

/// [`Packed`] in someone else's memory.
#[derive(Clone, Copy)]
pub struct Panels<'a, W: Weight> {
    pub(super) data: &'a [W::Right],
    /// Of each sixteen.
    pub(super) columns: &'a [W::Columns],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<W: Weight> Panels<'_, W> {
    /// Along the inner dimension.
    pub(super) fn groups(self) -> usize {
        self.rows.div_ceil(W::GROUP)
    }
}

impl<W: super::Weight> Packed<W> {
    /// Packs `[k, n]`, to be used many times.
    pub fn new(b: View) -> Self {
        let isa = Isa::best();
        let mut data = Large::zeros(Self::size(b, isa));
        let columns = Self::pack(b, isa, &mut data);
        Self::of(Memory::Large(data), columns, b, isa)
    }

    /// Packs `[k, n]`, to be used once or twice.
    pub(super) fn with_isa(b: View, isa: Isa) -> Self {
        let mut data = vec![W::Right::zeroed(); Self::size(b, isa)];
        let columns = Self::pack(b, isa, &mut data);
        Self::of(Memory::Kept(data), columns, b, isa)
    }

    fn of(data: Memory<W::Right>, columns: Vec<W::Columns>, b: View, isa: Isa) -> Self {
        Self {
            data,
            columns,
            rows: b.rows,
            cols: b.cols,
            isa,
        }
    }

    fn size(b: View, isa: Isa) -> usize {
        let panel = isa.panel();
        b.rows.div_ceil(W::GROUP) * panel * b.cols.div_ceil(panel)
    }

    /// Packs into zeros, and returns what is kept of the columns.
    fn pack(b: View, isa: Isa, data: &mut [W::Right]) -> Vec<W::Columns> {
        let panel = isa.panel();
        let size = b.rows.div_ceil(W::GROUP) * panel;
        let vectors = panel / LANES;
        let mut columns = vec![W::Columns::default(); vectors * b.cols.div_ceil(panel)];
        if size > 0 {
            let pack = |(i, (out, columns))| {
                isa.run(Pack::<W> {
                    b,
                    first: i * panel,
                    out,
                    columns,
                })
            };
            if data.len() < WORTH_SHARING {
                let panels = data.chunks_mut(size).zip(columns.chunks_mut(vectors));
                panels.enumerate().for_each(pack);
            } else {
                let panels = data
                    .par_chunks_mut(size)
                    .zip(columns.par_chunks_mut(vectors));
                panels.enumerate().for_each(pack);
            }
        }
        columns
    }

    /// `[k, n]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// One column, `[k]`.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        assert!(column < self.cols, "column {column} of {}", self.cols);
        let panel = self.isa.panel();
        let size = self.rows.div_ceil(W::GROUP) * panel;
        let first = column / panel * size + column % panel;
        let columns = &self.columns[column / LANES];
        let groups = self.data.as_slice()[first..].iter().step_by(panel);
        for (out, group) in out[..self.rows].chunks_mut(W::GROUP).zip(groups) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = W::value(group, i, columns, column % LANES);
            }
        }
    }

    /// `out = a x self`, with `out` row-major, over all cores.
    pub fn product(&self, a: View, out: &mut [f32], epilogue: Epilogue) {
        assert_eq!(a.cols, self.rows, "inner sizes of a product");
        assert_eq!(out.len(), a.rows * self.cols, "size of a product");
        if a.rows == 0 || self.cols == 0 {
            return;
        }
        let product = Product::<W> {
            a,
            b: Panels {
                data: self.data.as_slice(),
                columns: &self.columns,
                rows: self.rows,
                cols: self.cols,
            },
            isa: self.isa,
            out: Out::new(out, self.cols),
            epilogue,
        };
        product.run();
    }
}

/// Sixteen values of a row from column `first` on, zeros behind the last row and column.
#[inline(always)]
fn lanes(b: View, row: usize, first: usize) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    if row >= b.rows || first >= b.cols {
        return lanes;
    }
    let count = LANES.min(b.cols - first);
    let start = row * b.row_stride + first * b.col_stride;
    if b.col_stride == 1 {
        let from = &b.data[start..start + count];
        match from.first_chunk() {
            Some(all) => lanes = *all,
            None => lanes[..count].copy_from_slice(from),
        }
    } else {
        for (j, lane) in lanes.iter_mut().enumerate().take(count) {
            *lane = b.data[start + j * b.col_stride];
        }
    }
    lanes
}

/// Sixteen rows of the sixteen values from column `first` on, of a matrix whose columns lie one behind the other; zeros behind
/// the last row and column.
#[inline(always)]
fn transposed<S: Simd>(s: S, b: View, row: usize, first: usize) -> [[f32; LANES]; LANES] {
    let count = LANES.min(b.rows - row);
    let mut columns = [s.splat(0.0); LANES];
    for (j, column) in columns.iter_mut().enumerate().take(b.cols - first) {
        *column = s.load_some(&b.data[(first + j) * b.col_stride + row..][..count], 0.0);
    }
    let mut block = [[0.0; LANES]; LANES];
    for (v, out) in s.transpose(columns).into_iter().zip(&mut block) {
        s.store(v, out);
    }
    block
}

/// Fills one panel.
pub(super) struct Pack<'a, W: Weight> {
    pub(super) b: View<'a>,
    /// Its first column.
    pub(super) first: usize,
    pub(super) out: &'a mut [W::Right],
    /// Of each vector of the panel.
    pub(super) columns: &'a mut [W::Columns],
}

impl<W: Weight> Kernel for Pack<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.b;
        let out = self.out.as_chunks_mut::<LANES>().0;
        for (p, columns) in self.columns.iter_mut().enumerate() {
            let first = self.first + p * LANES;
            if first >= b.cols {
                break;
            }
            if W::OBSERVES {
                for row in 0..b.rows {
                    W::observe(columns, &lanes(b, row, first));
                }
            }
            let mut groups = out.iter_mut().skip(p).step_by(S::PANELS);
            if b.row_stride == 1 && b.col_stride != 1 {
                for row in (0..b.rows).step_by(LANES) {
                    let block = transposed(s, b, row, first);
                    let count = LANES.min(b.rows - row);
                    let rows = block[..count.next_multiple_of(W::GROUP)].chunks_exact(W::GROUP);
                    for (rows, out) in rows.zip(&mut groups) {
                        W::store(s, columns, rows, out);
                    }
                }
                continue;
            }
            let mut rows = [[0.0; LANES]; MOST];
            for (group, out) in groups.enumerate() {
                for (i, row) in rows[..W::GROUP].iter_mut().enumerate() {
                    *row = lanes(b, group * W::GROUP + i, first);
                }
                W::store(s, columns, &rows[..W::GROUP], out);
            }
        }
    }
}
