//! The right factor of a product, packed.

use bytemuck::Pod;
use half::f16;
use rayon::prelude::*;

use super::tile::{Out, Product};
use super::{Epilogue, View, WORTH_SHARING};
use crate::memory::Large;
use crate::simd::{Isa, Kernel, LANES, Simd};

/// How a weight is stored. Arithmetic is in `f32` always.
pub trait Stored: Pod + Send + Sync {
    /// The largest magnitude that a column is scaled to, where columns are scaled.
    const LARGEST: Option<f32> = None;
    /// Whether loading is more than a copy.
    const NARROW: bool = true;
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V;
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self; LANES]);
}

impl Stored for f32 {
    const NARROW: bool = false;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self; LANES]) {
        s.store(v, out)
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self; LANES]) {
        s.store_f16(v, out)
    }
}

impl Stored for i8 {
    const LARGEST: Option<f32> = Some(127.0);
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V {
        s.load_i8(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self; LANES]) {
        let mut lanes = [0.0; LANES];
        s.store(s.round(v), &mut lanes);
        for (out, x) in out.iter_mut().zip(lanes) {
            *out = x as i8;
        }
    }
}

/// A right factor in panels, zeros behind its last column.
#[derive(Debug)]
pub struct Packed<W> {
    /// `[n / panel][k][panel]`
    data: Memory<W>,
    /// Factor a column, where columns are scaled.
    scales: Option<Vec<f32>>,
    rows: usize,
    cols: usize,
    isa: Isa,
}

#[derive(Debug)]
enum Memory<W> {
    /// The allocator's, which has it for the next one soon.
    Kept(Vec<W>),
    Large(Large<W>),
}

impl<W: Stored> Memory<W> {
    fn as_slice(&self) -> &[W] {
        match self {
            Self::Kept(data) => data,
            Self::Large(data) => data,
        }
    }
}

/// [`Packed`] in someone else's memory.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, W> {
    pub(super) data: &'a [W],
    pub(super) scales: Option<&'a [f32]>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<W: Stored> Packed<W> {
    /// Packs `[k, n]`, to be used many times.
    pub fn new(b: View) -> Self {
        let isa = Isa::best();
        let mut data = Large::zeros(Self::size(b, isa));
        let scales = Self::pack(b, isa, &mut data);
        Self::of(Memory::Large(data), scales, b, isa)
    }

    /// Packs `[k, n]`, to be used once or twice.
    pub(super) fn with_isa(b: View, isa: Isa) -> Self {
        let mut data = vec![W::zeroed(); Self::size(b, isa)];
        let scales = Self::pack(b, isa, &mut data);
        Self::of(Memory::Kept(data), scales, b, isa)
    }

    fn of(data: Memory<W>, scales: Option<Vec<f32>>, b: View, isa: Isa) -> Self {
        Self {
            data,
            scales,
            rows: b.rows,
            cols: b.cols,
            isa,
        }
    }

    fn size(b: View, isa: Isa) -> usize {
        let panel = isa.panel();
        b.rows * panel * b.cols.div_ceil(panel)
    }

    /// Packs into zeros, and returns the factors of the columns.
    fn pack(b: View, isa: Isa, data: &mut [W]) -> Option<Vec<f32>> {
        let panel = isa.panel();
        let size = b.rows * panel;
        let scales = W::LARGEST.map(|largest| scales(b, largest));
        if size > 0 {
            let pack = |(i, out): (usize, &mut [W])| {
                isa.run(Pack {
                    b,
                    first: i * panel,
                    scales: scales.as_deref(),
                    out,
                })
            };
            if data.len() < WORTH_SHARING {
                data.chunks_mut(size).enumerate().for_each(pack);
            } else {
                data.par_chunks_mut(size).enumerate().for_each(pack);
            }
        }
        scales
    }

    /// `[k, n]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// One column, `[k]`.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        assert!(column < self.cols, "column {column} of {}", self.cols);
        let panel = self.isa.panel();
        let size = self.rows * panel;
        let first = column / panel * size + column % panel / LANES * LANES;
        let scale = self.scales.as_ref().map_or(1.0, |scales| scales[column]);
        self.isa.run(Column {
            data: &self.data.as_slice()[first..],
            panel,
            lane: column % LANES,
            scale,
            out: &mut out[..self.rows],
        });
    }

    /// `out = a x self`, with `out` row-major, over all cores.
    pub fn product(&self, a: View, out: &mut [f32], epilogue: Epilogue) {
        assert_eq!(a.cols, self.rows, "inner sizes of a product");
        assert_eq!(out.len(), a.rows * self.cols, "size of a product");
        if a.rows == 0 || self.cols == 0 {
            return;
        }
        let panels = Panels {
            data: self.data.as_slice(),
            scales: self.scales.as_deref(),
            rows: self.rows,
            cols: self.cols,
        };
        self.isa.run(Product {
            a,
            b: panels,
            isa: self.isa,
            out: Out::new(out, self.cols),
            epilogue,
        });
    }
}

/// For each column the factor that its largest magnitude is `largest` times.
fn scales(b: View, largest: f32) -> Vec<f32> {
    let mut scales = vec![0.0_f32; b.cols];
    if b.col_stride == 1 {
        for row in 0..b.rows {
            let row = &b.data[row * b.row_stride..][..b.cols];
            (scales.iter_mut().zip(row)).for_each(|(most, x)| *most = most.max(x.abs()));
        }
    } else {
        scales
            .par_iter_mut()
            .enumerate()
            .for_each(|(column, most)| {
                let column = b.transpose().row(column);
                *most = column.fold(0.0, |most, x| most.max(x.abs()));
            });
    }
    for scale in &mut scales {
        *scale = if *scale > 0.0 { *scale / largest } else { 1.0 };
    }
    scales
}

/// Fills one panel.
pub(super) struct Pack<'a, W> {
    pub(super) b: View<'a>,
    /// Its first column.
    pub(super) first: usize,
    pub(super) scales: Option<&'a [f32]>,
    pub(super) out: &'a mut [W],
}

impl<W: Stored> Kernel for Pack<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, first, .. } = self;
        let out = self.out.as_chunks_mut::<LANES>().0;
        for p in 0..S::PANELS {
            let first = first + p * LANES;
            let count = LANES.min(b.cols.saturating_sub(first));
            if count == 0 {
                continue;
            }
            let scale = match self.scales {
                Some(scales) => s.div(
                    s.splat(1.0),
                    s.load_some(&scales[first..first + count], 1.0),
                ),
                None => s.splat(1.0),
            };
            let mut lanes = [0.0; LANES];
            for (k, out) in out.iter_mut().skip(p).step_by(S::PANELS).enumerate() {
                let start = k * b.row_stride + first * b.col_stride;
                let v = if b.col_stride == 1 {
                    s.load_some(&b.data[start..start + count], 0.0)
                } else {
                    for (j, lane) in lanes.iter_mut().enumerate().take(count) {
                        *lane = b.data[start + j * b.col_stride];
                    }
                    s.load(&lanes)
                };
                W::store(s, s.mul(v, scale), out);
            }
        }
    }
}

/// Reads one lane of every row of a panel.
struct Column<'a, W> {
    data: &'a [W],
    panel: usize,
    lane: usize,
    scale: f32,
    out: &'a mut [f32],
}

impl<W: Stored> Kernel for Column<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut lanes = [0.0; LANES];
        for (out, row) in self.out.iter_mut().zip(self.data.chunks(self.panel)) {
            if let Some(row) = row.first_chunk() {
                s.store(W::load(s, row), &mut lanes);
                *out = lanes[self.lane] * self.scale;
            }
        }
    }
}
