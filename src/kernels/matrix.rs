//! Matrix products. The right factor is packed into panels of [`Level::panel`] columns, so that a row of a panel is what
//! one step of the inner loop reads; the left one into tiles of a few rows, whose sums stay in registers.
//!
//! Shapes: `[m, k] x [k, n] -> [m, n]`.

use half::f16;
use rayon::prelude::*;

use super::activation;
use super::simd::{Kernel, LANES, Level, Simd};
use crate::nn::Activation;

/// Floats of the left factor that a task works through: half of a second-level cache.
const BLOCK: usize = 96 * 1024;
/// Multiplications below which a product is not worth handing out.
const WORTH_SHARING: usize = 64 * 1024;

/// A matrix in someone else's memory, perhaps transposed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    /// From a row to the next, in floats.
    pub row_stride: usize,
    /// From a column to the next, in floats.
    pub col_stride: usize,
}

/// What is done to a product as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Summand a column.
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Activation>,
    /// Whether the product is added to what is there.
    pub accumulate: bool,
}

/// How a weight is stored. Arithmetic is in `f32` always.
pub trait Stored: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// The largest magnitude that a column is scaled to, where columns are scaled.
    const LARGEST: Option<f32> = None;
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V;
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self; LANES]);
}

impl Stored for f32 {
    const ZERO: Self = 0.0;
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
    const ZERO: Self = f16::ZERO;
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
    const ZERO: Self = 0;
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
#[derive(Clone, Debug)]
pub struct Packed<W> {
    /// `[n / panel][k][panel]`
    data: Vec<W>,
    /// Factor a column, where columns are scaled.
    scales: Option<Vec<f32>>,
    rows: usize,
    cols: usize,
    level: Level,
}

/// [`Packed`] in someone else's memory.
#[derive(Clone, Copy)]
struct Panels<'a, W> {
    data: &'a [W],
    scales: Option<&'a [f32]>,
    rows: usize,
    cols: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "{rows} x {cols}");
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    pub fn transpose(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The rows of a range.
    pub fn some_rows(self, range: std::ops::Range<usize>) -> Self {
        Self {
            data: &self.data[(range.start * self.row_stride).min(self.data.len())..],
            rows: range.len(),
            ..self
        }
    }

    fn row(self, row: usize) -> impl Iterator<Item = &'a f32> {
        let start = (row * self.row_stride).min(self.data.len());
        self.data[start..]
            .iter()
            .step_by(self.col_stride)
            .take(self.cols)
    }
}

impl<W: Stored> Packed<W> {
    /// Packs `[k, n]`.
    pub fn new(b: View) -> Self {
        Self::with_level(b, Level::best())
    }

    fn with_level(b: View, level: Level) -> Self {
        let panel = level.panel();
        let size = b.rows * panel;
        let mut data = vec![W::ZERO; size * b.cols.div_ceil(panel)];
        let scales = W::LARGEST.map(|largest| scales(b, largest));
        if size > 0 {
            let pack = |(i, out): (usize, &mut [W])| {
                level.run(Pack {
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
        Self {
            data,
            scales,
            rows: b.rows,
            cols: b.cols,
            level,
        }
    }

    /// `[k, n]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// One column, `[k]`.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        assert!(column < self.cols, "column {column} of {}", self.cols);
        let panel = self.level.panel();
        let size = self.rows * panel;
        let first = column / panel * size + column % panel / LANES * LANES;
        let scale = self.scales.as_ref().map_or(1.0, |scales| scales[column]);
        self.level.run(Column {
            data: &self.data[first..],
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
            data: &self.data,
            scales: self.scales.as_deref(),
            rows: self.rows,
            cols: self.cols,
        };
        self.level.run(Product {
            a,
            b: panels,
            level: self.level,
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
struct Pack<'a, W> {
    b: View<'a>,
    /// Its first column.
    first: usize,
    scales: Option<&'a [f32]>,
    out: &'a mut [W],
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

/// Where a product goes: several tasks write to columns of their own of the same rows.
#[derive(Clone, Copy)]
pub(super) struct Out {
    start: *mut f32,
    rows: usize,
    stride: usize,
    len: usize,
}

// SAFETY: `slice` is called for regions that are apart from each other, as its contract asks.
unsafe impl Send for Out {}
unsafe impl Sync for Out {}

impl Out {
    /// A row-major matrix with rows of `stride`.
    pub(super) fn new(out: &mut [f32], stride: usize) -> Self {
        Self {
            start: out.as_mut_ptr(),
            rows: out.len() / stride.max(1),
            stride,
            len: out.len(),
        }
    }

    /// The matrix of `rows` rows, as far apart, that begins `offset` floats later.
    pub(super) fn part(self, offset: usize, rows: usize) -> Self {
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
    /// The memory this was made of is alive, and no two live slices overlap.
    #[inline(always)]
    unsafe fn slice<'a>(self, row: usize, first: usize, count: usize) -> &'a mut [f32] {
        let start = row * self.stride + first;
        assert!(start + count <= self.len);
        // SAFETY: in bounds as just checked; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), count) }
    }
}

struct Product<'a, W> {
    a: View<'a>,
    b: Panels<'a, W>,
    level: Level,
    out: Out,
    epilogue: Epilogue<'a>,
}

impl<W: Stored> Kernel for Product<'_, W> {
    type Output = ();
    /// Splits the product into blocks of rows that fit the cache, and these into ranges of panels.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product {
            a,
            b,
            level,
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
                out,
                epilogue,
            };
            return s.vectorize(block);
        }
        let block = (BLOCK / (height * k).max(1)).max(1); // tiles
        let size = (block * height * k).max(1);
        packed
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, packed)| pack_tiles(a, i * block * height, height, packed));
        let blocks = tiles.div_ceil(block);
        // A few tasks a thread even out what one is slower by.
        let parts = (8 * threads).div_ceil(blocks).min(panels);
        let range = panels.div_ceil(parts);
        let parts = panels.div_ceil(range);
        (0..blocks * parts).into_par_iter().for_each(|task| {
            let (i, part) = (task / parts, task % parts);
            level.run(Block {
                tiles: &packed[i * size..packed.len().min((i + 1) * size)],
                height,
                first_row: i * block * height,
                b,
                panels: part * range..panels.min((part + 1) * range),
                out,
                epilogue,
            });
        });
    }
}

/// Rows a tile, at most `most` and as even as can be, and the number of tiles.
fn tiling(rows: usize, most: usize) -> (usize, usize) {
    let height = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    (height, rows.div_ceil(height))
}

/// Some tiles times some panels, by one thread.
struct Block<'a, W> {
    tiles: &'a [f32],
    height: usize,
    first_row: usize,
    b: Panels<'a, W>,
    panels: std::ops::Range<usize>,
    out: Out,
    epilogue: Epilogue<'a>,
}

impl<W: Stored> Kernel for Block<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
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
                    column: panel * P * LANES,
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
    out: Out,
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
fn pack_tiles(a: View, first: usize, height: usize, out: &mut [f32]) {
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

/// Most steps of the inner loop: with more, a panel is no longer in the cache when the next tile comes.
const DEPTH: usize = 2048;

/// `out = a x b`, both as they are, over all cores.
///
/// # Panics
/// When there is an activation and more than [`DEPTH`] columns of `a`, which are added up bit by bit.
pub fn product(a: View, b: View, out: &mut [f32], epilogue: Epilogue) {
    if a.cols <= DEPTH {
        return Packed::<f32>::new(b).product(a, out, epilogue);
    }
    assert!(epilogue.activation.is_none(), "an activation of part sums");
    let depth = a.cols.div_ceil(a.cols.div_ceil(DEPTH));
    for first in (0..a.cols).step_by(depth) {
        let range = first..a.cols.min(first + depth);
        let epilogue = match first {
            0 => epilogue,
            _ => Epilogue {
                accumulate: true,
                ..Default::default()
            },
        };
        let a = a.transpose().some_rows(range.clone()).transpose();
        Packed::<f32>::new(b.some_rows(range)).product(a, out, epilogue);
    }
}

/// The sum of each column.
pub fn sum_rows(a: View) -> Vec<f32> {
    let threads = rayon::current_num_threads();
    let share = a.rows.div_ceil(threads).max(1);
    let parts: Vec<Vec<f32>> = (0..a.rows.div_ceil(share))
        .into_par_iter()
        .map(|i| {
            let mut sums = vec![0.0; a.cols];
            for row in i * share..a.rows.min((i + 1) * share) {
                let row = &a.data[row * a.row_stride..][..a.cols];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0; a.cols];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Memory for [`small_product`], to be used again.
#[derive(Default)]
pub(super) struct Scratch {
    tiles: Vec<f32>,
    panels: Vec<f32>,
}

/// `out = a x b` by one thread, for factors that fit the cache.
#[inline(always)]
pub(super) fn small_product<S: Simd>(s: S, a: View, b: View, out: Out, scratch: &mut Scratch) {
    let (height, tiles) = tiling(a.rows, S::ROWS);
    let panel = S::PANELS * LANES;
    let panels = b.cols.div_ceil(panel);
    scratch.tiles.clear();
    scratch.tiles.resize(tiles * height * a.cols, 0.0);
    pack_tiles(a, 0, height, &mut scratch.tiles);
    scratch.panels.clear();
    scratch.panels.resize(panels * b.rows * panel, 0.0);
    if b.rows > 0 {
        for (i, out) in scratch.panels.chunks_exact_mut(b.rows * panel).enumerate() {
            let pack = Pack {
                b,
                first: i * panel,
                scales: None,
                out,
            };
            s.vectorize(pack);
        }
    }
    let block = Block {
        tiles: &scratch.tiles,
        height,
        first_row: 0,
        b: Panels {
            data: &scratch.panels,
            scales: None,
            rows: b.rows,
            cols: b.cols,
        },
        panels: 0..panels,
        out,
        epilogue: Epilogue::default(),
    };
    s.vectorize(block);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    fn naive(a: View, b: View) -> Vec<f32> {
        let at = |v: &View, i: usize, j: usize| v.data[i * v.row_stride + j * v.col_stride];
        let mut out = Vec::new();
        for i in 0..a.rows {
            for j in 0..b.cols {
                let sum: f64 = (0..a.cols)
                    .map(|k| f64::from(at(&a, i, k)) * f64::from(at(&b, k, j)))
                    .sum();
                out.push(sum as f32);
            }
        }
        out
    }

    /// Odd ones, ones below a vector, ones that are shared among threads.
    const SHAPES: [[usize; 3]; 9] = [
        [1, 1, 1],
        [1, 7, 50],
        [2, 16, 16],
        [5, 33, 31],
        [13, 64, 65],
        [50, 20, 17],
        [1, 300, 1000],
        [130, 70, 90],
        [700, 300, 40],
    ];

    fn check<W: Stored>(tolerance: f32) {
        for level in Level::all() {
            for [m, k, n] in SHAPES {
                let (x, w) = (wave(m * k, 0.31), wave(k * n, 0.17));
                for transposed in [false, true] {
                    let (a, b) = if transposed {
                        (
                            View::new(&x, k, m).transpose(),
                            View::new(&w, n, k).transpose(),
                        )
                    } else {
                        (View::new(&x, m, k), View::new(&w, k, n))
                    };
                    let bias = wave(n, 0.9);
                    let mut out = wave(m * n, 0.01);
                    let packed = Packed::<W>::with_level(b, level);
                    let epilogue = Epilogue {
                        bias: Some(&bias),
                        activation: Some(Activation::Relu),
                        accumulate: true,
                    };
                    packed.product(a, &mut out, epilogue);
                    let before = wave(m * n, 0.01);
                    let bound = tolerance * (k as f32).sqrt();
                    for (i, expected) in naive(a, b).into_iter().enumerate() {
                        let expected = before[i] + (expected + bias[i % n]).max(0.0);
                        assert!(
                            (out[i] - expected).abs() < bound,
                            "{} {m} {k} {n}: {} {expected}",
                            level.name(),
                            out[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn products_of_odd_shapes_equal_plain_loops() {
        check::<f32>(2e-6);
    }

    #[test]
    fn columns_are_what_was_packed() {
        let w = wave(5 * 70, 0.17);
        for level in Level::all() {
            let packed = Packed::<f16>::with_level(View::new(&w, 5, 70), level);
            for column in [0, 15, 16, 31, 33, 69] {
                let mut out = [0.0; 5];
                packed.column(column, &mut out);
                for (row, out) in out.iter().enumerate() {
                    assert_eq!(*out, f16::from_f32(w[row * 70 + column]).to_f32());
                }
            }
        }
    }

    #[test]
    fn half_weights_are_off_by_their_rounding_only() {
        check::<f16>(1e-3);
    }

    #[test]
    fn byte_weights_are_off_by_their_rounding_only() {
        check::<i8>(1e-2);
    }
}
