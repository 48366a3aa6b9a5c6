//! The graph over a datastore's embeddings: hierarchical navigable small worlds (Malkov and Yashunin 2016,
//! <https://arxiv.org/abs/1603.09320>), by the crate hnsw-stable (hnswlib-rs on stable Rust), which leaves the embeddings where they are mapped.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use hnsw_stable::{Dense, Hnsw, HnswConfig, InnerProduct, NodeId, VectorStore, VectorStoreMut};
use rayon::prelude::*;

use super::damaged;
use super::manifest::Known;
use super::segment::Rows;
use crate::files;

/// Its name.
pub const FILE: &str = "graph.hnsw";

/// Neighbors of a node in the upper layers, and half of those in the lowest: hnswlib's default.
const NEIGHBORS: usize = 16;
/// Candidates looked at when a node is inserted: hnswlib's default.
const AT_INSERTION: usize = 200;
/// Candidates looked at in a search, at least. What recall it gives is measured by `benches/retrieval.rs`.
const AT_SEARCH: usize = 200;
/// Rows inserted between two times that the graph is kept.
const KEPT_EVERY: usize = 50_000;

type Nodes = Hnsw<u32, InnerProduct<f32>>;

/// A graph whose keys are rows.
pub struct Graph {
    nodes: Nodes,
    /// The row of each node: several threads insert, so that nodes come in another order.
    order: Vec<AtomicU32>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} nodes", self.nodes.len())
    }
}

impl Graph {
    /// An empty graph with room for so many rows.
    fn new(width: usize, room: usize) -> Self {
        let config = HnswConfig::new(width, room)
            .m(NEIGHBORS)
            .ef_construction(AT_INSERTION)
            .ef_search(AT_SEARCH);
        Self {
            nodes: Hnsw::new(InnerProduct::new(), config),
            order: (0..room).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Reads and checks the graph of a folder.
    pub fn open(folder: &Path, known: &Known, width: usize) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if crc32c::crc32c(&bytes) != known.crc32c {
            return Err(damaged(&path, "its checksum is another"));
        }
        let nodes = Nodes::load_from(InnerProduct::new(), &mut Cursor::new(bytes))
            .map_err(|error| damaged(&path, error))?;
        if nodes.len() != known.entries || nodes.dim() != width {
            let what = format!("{} nodes of {} values", nodes.len(), nodes.dim());
            return Err(damaged(&path, what));
        }
        let order: Vec<AtomicU32> = (0..nodes.max_nodes()).map(|_| AtomicU32::new(0)).collect();
        for row in 0..nodes.len() as u32 {
            let node = nodes.node_id(&row);
            let node = node.map_err(|error| damaged(&path, error))?;
            order[node.as_usize()].store(row, Ordering::Relaxed);
        }
        nodes.set_ef_search(AT_SEARCH);
        Ok(Self { nodes, order })
    }

    /// Inserts the rows that `graph` lacks (all of them without one, or where it has no room), and keeps what there is now
    /// and then: `keep` is told what was written.
    pub fn extend(
        graph: Option<Self>,
        rows: Rows,
        width: usize,
        folder: &Path,
        mut keep: impl FnMut(Known) -> Result<()>,
    ) -> Result<()> {
        let total = rows.len();
        let graph = match graph {
            Some(graph) if graph.nodes.max_nodes() >= total => graph,
            _ => Self::new(width, total + total / 4),
        };
        let mut done = graph.nodes.len();
        while done < total {
            let end = total.min(done + KEPT_EVERY);
            if done == 0 {
                graph.insert(rows, 0)?;
                done = 1;
            }
            (done..end)
                .into_par_iter()
                .try_for_each(|row| graph.insert(rows, row))?;
            done = end;
            keep(graph.write(folder)?)?;
        }
        Ok(())
    }

    /// Rows in it: the first ones.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    fn insert(&self, rows: Rows, row: usize) -> Result<()> {
        let inserting = Inserting {
            graph: self,
            rows,
            row,
        };
        self.nodes
            .insert(&inserting, row as u32, rows.row(row))
            .map_err(|error| anyhow!("the graph failed at row {row}: {error}"))
    }

    fn write(&self, folder: &Path) -> Result<Known> {
        let mut bytes = Vec::new();
        self.nodes
            .save_to(&mut bytes)
            .map_err(|error| anyhow!("the graph cannot be written: {error}"))?;
        files::write_atomic(&folder.join(FILE), |writer| writer.write_all(&bytes))?;
        Ok(Known {
            entries: self.nodes.len(),
            crc32c: crc32c::crc32c(&bytes),
        })
    }

    /// The rows that are likely the nearest to an embedding of length 1, nearest first.
    pub fn search(&self, rows: Rows, query: &[f32], count: usize) -> Result<Vec<usize>> {
        let count = count.min(self.nodes.len());
        self.nodes.set_ef_search(AT_SEARCH.max(2 * count));
        let hits = self
            .nodes
            .search(&Mapped { graph: self, rows }, query, count, None);
        let hits = hits.map_err(|error| anyhow!("the graph failed: {error}"))?;
        Ok(hits.into_iter().map(|hit| hit.key as usize).collect())
    }

    fn row_of(&self, node: NodeId) -> usize {
        self.order[node.as_usize()].load(Ordering::Relaxed) as usize
    }
}

/// The mapped embeddings, by node.
struct Mapped<'a> {
    graph: &'a Graph,
    rows: Rows<'a>,
}

impl VectorStore for Mapped<'_> {
    type Family = Dense<f32>;
    type Vector<'v>
        = &'v [f32]
    where
        Self: 'v;

    fn dim(&self) -> usize {
        self.graph.nodes.dim()
    }

    fn vector<'v>(&'v self, id: NodeId) -> Option<&'v [f32]> {
        Some(self.rows.row(self.graph.row_of(id)))
    }
}

/// The same while a row is inserted, which is asked to be stored though it is.
struct Inserting<'a> {
    graph: &'a Graph,
    rows: Rows<'a>,
    row: usize,
}

impl VectorStore for Inserting<'_> {
    type Family = Dense<f32>;
    type Vector<'v>
        = &'v [f32]
    where
        Self: 'v;

    fn dim(&self) -> usize {
        self.graph.nodes.dim()
    }

    fn vector<'v>(&'v self, id: NodeId) -> Option<&'v [f32]> {
        Some(self.rows.row(self.graph.row_of(id)))
    }
}

impl VectorStoreMut for Inserting<'_> {
    fn set(&self, id: NodeId, _: &[f32]) -> hnsw_stable::Result<()> {
        let place = self.graph.order.get(id.as_usize()).ok_or_else(|| {
            hnsw_stable::Error::Io(io::Error::other("a node has no place in the graph"))
        })?;
        place.store(self.row as u32, Ordering::Relaxed);
        Ok(())
    }
}
