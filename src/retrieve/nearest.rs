//! Search: the entries nearest to an embedding, by cosine.

use anyhow::{Result, ensure};
use cpu_kernels::matrix::{Epilogue, View, product};
use cpu_kernels::reduce::dot;
use rayon::prelude::*;

use super::Datastore;
use crate::vector::normalized;

/// Rows compared with queries at once: what stays in the caches.
const ROWS: usize = 4096;
/// Queries compared with rows at once.
const QUERIES: usize = 64;
/// Candidates asked of the graph for each entry wanted: some are left out.
const CANDIDATES: usize = 4;

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its place in the datastore.
    pub row: usize,
    /// Between its embedding and the query.
    pub cosine: f32,
}

/// Whether a row may be found by a query, which goes by its number.
pub type Keep<'a> = &'a (dyn Fn(usize, usize) -> bool + Sync);

impl Datastore {
    /// Of each query the `count` nearest entries that `keep` allows, nearest first, of equal texts the first one alone. All
    /// entries are compared, or where there is a graph those that it leads to.
    ///
    /// # Errors
    /// When a query has another width, or is zero or not a number.
    pub fn nearest(&self, queries: &[Vec<f32>], count: usize, keep: Keep) -> Result<Vec<Vec<Hit>>> {
        let queries = self.checked(queries)?;
        if !self.has_graph() {
            return Ok(self.compare_all(&queries, count, keep));
        }
        (0..queries.len())
            .into_par_iter()
            .map(|number| self.by_graph(&queries, number, count, keep))
            .collect()
    }

    /// [`Self::nearest`] of everything, by comparing all entries though there be a graph.
    ///
    /// # Errors
    /// As [`Self::nearest`].
    pub fn nearest_exactly(&self, queries: &[Vec<f32>], count: usize) -> Result<Vec<Vec<Hit>>> {
        Ok(self.compare_all(&self.checked(queries)?, count, &|_, _| true))
    }

    /// Queries of length 1.
    pub(super) fn checked(&self, queries: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let width = self.encoder().width;
        for query in queries {
            ensure!(
                query.len() == width,
                "{} holds embeddings of {width} values, and one of {} is asked for: use the model that it was built with, {}",
                self.path().display(),
                query.len(),
                self.encoder().model
            );
            ensure!(
                query.iter().all(|value| value.is_finite())
                    && query.iter().any(|&value| value != 0.0),
                "an embedding is zero or not a number: nothing is near it"
            );
        }
        Ok(queries.iter().map(|query| normalized(query)).collect())
    }

    fn compare_all(&self, queries: &[Vec<f32>], count: usize, keep: Keep) -> Vec<Vec<Hit>> {
        let mut found = Vec::with_capacity(queries.len());
        for (block, queries) in queries.chunks(QUERIES).enumerate() {
            let mut best: Vec<Best> = queries.iter().map(|_| Best::new(self, count)).collect();
            self.each_stretch(queries, |start, rows, cosines| {
                best.par_iter_mut().enumerate().for_each(|(query, best)| {
                    for row in 0..rows {
                        let cosine = cosines[row * queries.len() + query];
                        let row = start + row;
                        if best.is_wanted(cosine) && keep(block * QUERIES + query, row) {
                            best.add(Hit { row, cosine });
                        }
                    }
                });
            });
            found.extend(best.into_iter().map(|best| best.hits));
        }
        found
    }

    /// Goes through all rows: a stretch's first row, its number of rows, and their scalar products with the queries,
    /// `[rows, queries]`.
    pub(super) fn each_stretch(
        &self,
        queries: &[Vec<f32>],
        mut each: impl FnMut(usize, usize, &[f32]),
    ) {
        let width = self.encoder().width;
        let together = queries.concat();
        let columns = View::new(&together, queries.len(), width).transpose(); // [width, queries]
        let mut out = vec![0.0; ROWS * queries.len()];
        for (start, rows) in self.rows().stretches(width, ROWS) {
            let count = rows.len() / width;
            let out = &mut out[..count * queries.len()];
            product(
                View::new(rows, count, width),
                columns,
                out,
                Epilogue::default(),
            );
            each(start, count, out);
        }
    }

    /// Asks the graph for more and more candidates, until enough of them may be found.
    fn by_graph(
        &self,
        queries: &[Vec<f32>],
        number: usize,
        count: usize,
        keep: Keep,
    ) -> Result<Vec<Hit>> {
        let Some(graph) = &self.graph else {
            return Ok(Vec::new());
        };
        let query = &queries[number];
        let mut candidates = CANDIDATES * count;
        loop {
            let mut best = Best::new(self, count);
            for row in graph.search(self.rows(), query, candidates) {
                if keep(number, row) {
                    let cosine = dot(self.embedding(row), query);
                    best.add(Hit { row, cosine });
                }
            }
            if best.hits.len() == count {
                return Ok(best.hits);
            }
            if candidates >= self.len() {
                let keep = |_, row: usize| keep(number, row);
                let found = self.compare_all(&queries[number..=number], count, &keep);
                return Ok(found.into_iter().next().unwrap_or_default());
            }
            candidates *= CANDIDATES;
        }
    }
}

/// The nearest entries so far, nearest first.
struct Best<'a> {
    datastore: &'a Datastore,
    count: usize,
    hits: Vec<Hit>,
}

impl<'a> Best<'a> {
    fn new(datastore: &'a Datastore, count: usize) -> Self {
        Self {
            datastore,
            count,
            hits: Vec::new(),
        }
    }

    /// Whether an entry of this cosine would be among them.
    fn is_wanted(&self, cosine: f32) -> bool {
        match self.hits.last() {
            Some(last) if self.hits.len() == self.count => cosine > last.cosine,
            _ => self.count > 0,
        }
    }

    fn add(&mut self, hit: Hit) {
        if !self.is_wanted(hit.cosine) {
            return;
        }
        let text = |row| &self.datastore.entry(row).entry;
        let own = text(hit.row);
        if self.hits.iter().any(|known| text(known.row) == own) {
            return;
        }
        let place = self
            .hits
            .partition_point(|known| known.cosine >= hit.cosine);
        self.hits.insert(place, hit);
        self.hits.truncate(self.count);
    }
}
