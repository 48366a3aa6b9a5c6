//! The graph over a datastore's embeddings: hierarchical navigable small worlds (Malkov and Yashunin 2016,
//! <https://arxiv.org/abs/1603.09320>).
//!
//! Written here because no crate fits: of those with a graph that can be added to and embeddings that stay where they are
//! mapped, hnswlib-rs takes nightly Rust, and its fork for stable Rust other features of what burn is built on; hnsw_rs
//! copies every embedding, and ends the program where it should fail.
//!
//! Rows are inserted in batches. All rows of a batch look for their neighbors at once, among the rows before and among each
//! other; then links are added. What comes of it does not depend on the number of threads. A node is a row's number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cpu_kernels::reduce::dot;
use rayon::prelude::*;

use super::damaged;
use super::manifest::Known;
use super::segment::Rows;
use crate::files;

/// Its name.
pub const FILE: &str = "graph.hnsw";

/// Links of a node in the upper layers (M), and of a new one in the lowest, which has room for as many again.
const LINKS: usize = 16;
/// Candidates looked at when a row is inserted (efConstruction).
const AT_INSERTION: usize = 200;
/// Candidates looked at in a search (ef), at least. What recall it gives is measured by `benches/retrieval.rs`.
const AT_SEARCH: usize = 200;
/// Rows that are inserted together.
const TOGETHER: usize = 256;
/// Rows inserted between two times that the graph is kept.
const KEPT_EVERY: usize = 50_000;
/// Layers above the lowest, at most.
const MOST_LAYERS: usize = 15;
/// What the file begins with.
const MAGIC: u32 = 0x5753_4e48;

/// The links of all nodes: of each node its layers' lists, the lowest first.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Vec<Vec<u32>>>,
    /// A node of the highest layer, where searches begin.
    entry: usize,
}

/// A row and how near it is; the nearer is the greater, of equals the first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Near {
    cosine: f32,
    row: usize,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.cosine.total_cmp(&other.cosine)).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Graph {
    /// Reads and checks the graph of a folder.
    pub fn open(folder: &Path, known: &Known) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).map_err(|error| damaged(&path, error))?;
        if crc32c::crc32c(&bytes) != known.crc32c {
            return Err(damaged(&path, "its checksum is another"));
        }
        let graph = Self::parse(&bytes).map_err(|error| damaged(&path, error))?;
        if graph.len() != known.entries {
            return Err(damaged(&path, format!("{} nodes", graph.len())));
        }
        Ok(graph)
    }

    /// Rows in it: the first ones.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Inserts the rows that it lacks, and keeps what there is now and then: `keep` is told what was written.
    pub fn extend(
        mut self,
        rows: Rows,
        folder: &Path,
        mut keep: impl FnMut(Known) -> Result<()>,
    ) -> Result<()> {
        let (total, mut kept) = (rows.len(), self.len());
        ensure!(
            total < u32::MAX as usize,
            "a graph has room for 4 billion entries"
        );
        while self.len() < total {
            self.insert(rows, total.min(self.len() + TOGETHER));
            if self.len() == total || self.len() >= kept + KEPT_EVERY {
                kept = self.len();
                keep(self.write(folder)?)?;
            }
        }
        Ok(())
    }

    /// Inserts the rows up to one.
    fn insert(&mut self, rows: Rows, end: usize) {
        let first = self.len();
        // Of each new row and layer what it is to be linked to.
        let chosen: Vec<Vec<Vec<u32>>> = (first..end)
            .into_par_iter()
            .map(|row| self.neighbors_of(rows, row))
            .collect();
        let mut back = BTreeMap::<(usize, usize), Vec<u32>>::new();
        for (row, layers) in (first..).zip(&chosen) {
            for (layer, links) in layers.iter().enumerate() {
                for &link in links {
                    let target = (link as usize, layer);
                    back.entry(target).or_default().push(row as u32);
                }
            }
        }
        self.nodes.extend(chosen);
        let linked: Vec<((usize, usize), Vec<u32>)> = (back.into_par_iter())
            .map(|((row, layer), more)| {
                let links = [&self.nodes[row][layer][..], &more].concat();
                ((row, layer), shortened(rows, row, links, layer))
            })
            .collect();
        for ((row, layer), links) in linked {
            self.nodes[row][layer] = links;
        }
        let highest = |row: &usize| (self.nodes[*row].len(), Reverse(*row));
        let entry = (first..end).chain([self.entry]).max_by_key(highest);
        self.entry = entry.unwrap_or(self.entry);
    }

    /// What a new row is to be linked to in each of its layers, the lowest first: of the nodes, and of the new rows before it.
    fn neighbors_of(&self, rows: Rows, row: usize) -> Vec<Vec<u32>> {
        let layers = layers(row);
        let query = rows.row(row);
        let mut layered = vec![Vec::new(); layers]; // candidates
        if !self.nodes.is_empty() {
            let top = self.nodes[self.entry].len();
            let mut near = vec![near(rows, query, self.entry)];
            for layer in (0..top).rev() {
                let count = if layer < layers { AT_INSERTION } else { 1 };
                near = self.look(rows, query, near, count, layer);
                if layer < layers {
                    layered[layer].clone_from(&near);
                }
            }
        }
        for other in self.len()..row {
            let found = near(rows, query, other);
            for candidates in layered.iter_mut().take(self::layers(other)) {
                candidates.push(found);
            }
        }
        let choose = |mut candidates: Vec<Near>| {
            candidates.sort_unstable_by(|a, b| b.cmp(a));
            candidates.truncate(AT_INSERTION);
            select(rows, &candidates, LINKS)
        };
        layered.into_iter().map(choose).collect()
    }

    /// The nodes of a layer that are nearest to a query, nearest first, of those that links lead to.
    fn look(
        &self,
        rows: Rows,
        query: &[f32],
        from: Vec<Near>,
        count: usize,
        layer: usize,
    ) -> Vec<Near> {
        let mut seen = vec![0_u64; self.len().div_ceil(64)];
        let mut is_new = |row: usize| {
            let (word, bit) = (&mut seen[row / 64], 1 << (row % 64));
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        };
        from.iter().for_each(|near| {
            is_new(near.row);
        });
        let mut best: BinaryHeap<Reverse<Near>> = from.iter().copied().map(Reverse).collect();
        let mut open = BinaryHeap::from(from);
        while let Some(next) = open.pop() {
            let worst = |best: &BinaryHeap<Reverse<Near>>| match best.peek() {
                Some(Reverse(worst)) if best.len() >= count => worst.cosine,
                _ => f32::NEG_INFINITY,
            };
            if next.cosine < worst(&best) {
                break;
            }
            for &link in &self.nodes[next.row][layer] {
                let row = link as usize;
                if !is_new(row) {
                    continue;
                }
                let found = near(rows, query, row);
                if found.cosine > worst(&best) {
                    open.push(found);
                    best.push(Reverse(found));
                    if best.len() > count {
                        best.pop();
                    }
                }
            }
        }
        let best = best.into_sorted_vec();
        best.into_iter().map(|Reverse(near)| near).collect()
    }

    /// The rows that are likely the nearest to an embedding of length 1, nearest first.
    pub fn search(&self, rows: Rows, query: &[f32], count: usize) -> Vec<usize> {
        let Some(entry) = self.nodes.get(self.entry) else {
            return Vec::new();
        };
        let mut near = vec![near(rows, query, self.entry)];
        for layer in (0..entry.len()).rev() {
            let count = if layer == 0 {
                AT_SEARCH.max(2 * count)
            } else {
                1
            };
            near = self.look(rows, query, near, count, layer);
        }
        near.truncate(count);
        near.into_iter().map(|near| near.row).collect()
    }

    /// `u32`s, little endian: what tells the file, nodes, entry; then of each node its number of layers, and of each layer
    /// its number of links and the links.
    fn write(&self, folder: &Path) -> Result<Known> {
        let mut bytes = Vec::new();
        let mut put = |value: usize| bytes.extend((value as u32).to_le_bytes());
        put(MAGIC as usize);
        put(self.len());
        put(self.entry);
        for layers in &self.nodes {
            put(layers.len());
            for links in layers {
                put(links.len());
                links.iter().for_each(|&link| put(link as usize));
            }
        }
        files::write_atomic(&folder.join(FILE), |writer| writer.write_all(&bytes))?;
        Ok(Known {
            entries: self.len(),
            crc32c: crc32c::crc32c(&bytes),
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "it is cut short");
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let mut next = || words.next().context("it is cut short");
        ensure!(next()? == MAGIC, "it is no graph");
        let (count, entry) = (next()? as usize, next()? as usize);
        let mut nodes: Vec<Vec<Vec<u32>>> = Vec::new();
        for _ in 0..count {
            let layers = next()? as usize;
            ensure!(
                (1..=MOST_LAYERS + 1).contains(&layers),
                "a node has {layers} layers"
            );
            let mut node = Vec::with_capacity(layers);
            for layer in 0..layers {
                let links = next()? as usize;
                ensure!(links <= room(layer), "a node has {links} links");
                node.push((0..links).map(|_| next()).collect::<Result<Vec<u32>>>()?);
            }
            nodes.push(node);
        }
        ensure!(words.next().is_none(), "it is too long");
        ensure!(entry < count, "its entry is no node");
        for node in &nodes {
            for (layer, links) in node.iter().enumerate() {
                let is_there =
                    |&link: &u32| (nodes.get(link as usize)).is_some_and(|node| node.len() > layer);
                ensure!(links.iter().all(is_there), "a link leads nowhere");
            }
        }
        Ok(Self { nodes, entry })
    }
}

/// Layers that a row's node is in: 1, and one more with a chance of 1 in [`LINKS`], and so on; the same in every build.
fn layers(row: usize) -> usize {
    // SplitMix64: a well mixed number of the row's.
    let mut mixed = (row as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let bits = LINKS.ilog2();
    (1 + (mixed.trailing_zeros() / bits) as usize).min(1 + MOST_LAYERS)
}

/// Links that a node has room for in a layer.
fn room(layer: usize) -> usize {
    if layer == 0 { 2 * LINKS } else { LINKS }
}

fn near(rows: Rows, query: &[f32], row: usize) -> Near {
    let cosine = dot(query, rows.row(row));
    Near { cosine, row }
}

/// Of candidates, nearest first, those that are nearer to the row than to any chosen before them (algorithm 4 of the paper);
/// and where that leaves some out, the nearest others.
fn select(rows: Rows, candidates: &[Near], count: usize) -> Vec<u32> {
    let (mut chosen, mut others): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for candidate in candidates {
        if chosen.len() == count {
            break;
        }
        let own = rows.row(candidate.row);
        let is_apart = |&other: &usize| dot(own, rows.row(other)) < candidate.cosine;
        match chosen.iter().all(is_apart) {
            true => chosen.push(candidate.row),
            false => others.push(candidate.row),
        }
    }
    let missing = count - chosen.len();
    let all = chosen.into_iter().chain(others.into_iter().take(missing));
    all.map(|row| row as u32).collect()
}

/// A row's links in a layer, no more than there is room for.
fn shortened(rows: Rows, row: usize, links: Vec<u32>, layer: usize) -> Vec<u32> {
    if links.len() <= room(layer) {
        return links;
    }
    let own = rows.row(row);
    let mut candidates: Vec<Near> = (links.iter())
        .map(|&link| near(rows, own, link as usize))
        .collect();
    candidates.sort_unstable_by(|a, b| b.cmp(a));
    select(rows, &candidates, room(layer))
}
