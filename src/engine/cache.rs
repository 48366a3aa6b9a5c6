//! Keys and values of the positions read so far. Beams share what they have in common: every position keeps the rows it
//! was computed for, and each beam knows which of them is its own, so that choosing beams moves no keys.
//!
//! Shape letters: `B` images, `R` rows (images, or beams of images), `T` positions, `C` width.

use rayon::prelude::*;

use cpu_kernels::attention::Past;

/// Rows times positions from which threads share the work.
const WORTH_SHARING: usize = 256;

/// What GPT-2 remembers of all blocks.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<Layer>,
    /// For each row, by position, the row of that position that it goes on from.
    ancestors: Vec<Vec<u32>>,
}

/// One block's keys and values.
#[derive(Debug, Default)]
pub struct Layer {
    /// `[R, 2 C]` for each position, keys before values.
    positions: Vec<Vec<f32>>,
}

impl Cache {
    /// An empty cache of so many blocks.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| Layer::default()).collect(),
            ancestors: Vec::new(),
        }
    }

    /// Positions read so far.
    pub fn len(&self) -> usize {
        self.ancestors.first().map_or(0, Vec::len)
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that every one of `rows` has `positions` of its own.
    pub(super) fn begin(&mut self, rows: usize, positions: usize) {
        self.ancestors = (0..rows).map(|row| vec![row as u32; positions]).collect();
    }

    /// Row `i` goes on from row `parents[i]`, with a position of its own.
    pub(super) fn branch(&mut self, parents: &[usize]) {
        let next = |(row, &parent): (usize, &usize)| {
            let mut ancestors = self.ancestors[parent].clone();
            ancestors.push(row as u32);
            ancestors
        };
        self.ancestors = parents.iter().enumerate().map(next).collect();
    }

    pub(super) fn layer(&mut self, layer: usize) -> &mut Layer {
        &mut self.layers[layer]
    }

    pub(super) fn layer_and_ancestors(&mut self, layer: usize) -> (&mut Layer, &[Vec<u32>]) {
        (&mut self.layers[layer], &self.ancestors)
    }
}

impl Layer {
    /// Takes over keys and values from `[B, T, 3 C]`.
    pub(super) fn fill(&mut self, qkv: &[f32], batch: usize, width: usize) {
        let positions = qkv.len() / (3 * width * batch);
        self.positions = (0..positions)
            .map(|position| {
                let row = |b| (b * positions + position) * 3 * width;
                (0..batch)
                    .flat_map(|b| &qkv[row(b) + width..row(b) + 3 * width])
                    .copied()
                    .collect()
            })
            .collect();
    }

    /// Takes over keys and values of one more position from `[R, 3 C]`.
    pub(super) fn push(&mut self, qkv: &[f32], width: usize) {
        let rows = qkv.chunks_exact(3 * width);
        self.positions
            .push(rows.flat_map(|row| &row[width..]).copied().collect());
    }

    /// Attention of the queries in `[R, 3 C]` to all positions of their rows; returns `[R, C]`.
    pub(super) fn attend(
        &self,
        qkv: &[f32],
        width: usize,
        heads: usize,
        ancestors: &[Vec<u32>],
    ) -> Vec<f32> {
        let mut out = vec![0.0; ancestors.len() * width];
        let attend = |((out, q), rows): ((&mut [f32], &[f32]), &Vec<u32>)| {
            let past = Past {
                positions: &self.positions,
                rows,
                width,
                heads,
            };
            past.attend(&q[..width], out);
        };
        if ancestors.len() > 1 && ancestors.len() * self.positions.len() >= WORTH_SHARING {
            out.par_chunks_exact_mut(width)
                .zip(qkv.par_chunks_exact(3 * width))
                .zip(ancestors)
                .for_each(attend);
        } else {
            out.chunks_exact_mut(width)
                .zip(qkv.chunks_exact(3 * width))
                .zip(ancestors)
                .for_each(attend);
        }
        out
    }
}
