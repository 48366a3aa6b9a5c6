//! What the graph of a datastore finds, and how fast: `cargo bench --bench retrieval [-- ENTRIES]`.
//!
//! recall@10 is the share of the ten nearest by exact search that the graph finds, over 500 queries that are in no datastore.
//! Two kinds of embeddings: those of generated scenes by the sample model's CLIP (64 values), and drawn ones of 512 values, as
//! ViT-B/32's have, of which 48 directions hold what differs and the others a tenth as much. Drawn evenly from all 512
//! directions nothing is near anything, which no encoder's embeddings are like.

use std::time::Instant;

use burn::tensor::Device;
use clipcap::captioner::ImageEncoder;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::datasets::scenes;
use clipcap::retrieve::{Builder, Datastore, Encoder, Entry, Hit, Kind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const ENTRIES: usize = 100_000;
const QUERIES: usize = 500;
const WIDTH: usize = 512;
const DIRECTIONS: usize = 48;

fn main() {
    let entries = std::env::args().find_map(|arg| arg.parse().ok());
    let entries = entries.unwrap_or(ENTRIES);
    println!(
        "| embeddings | entries | graph built | exact, a query | graph, a query | recall@10 |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    measure("of scenes, 64 values", &of_scenes(entries + QUERIES));
    measure("drawn, 512 values", &drawn(entries + QUERIES));
}

fn drawn(count: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
    let row = |_| {
        let scale = |i: usize| if i < DIRECTIONS { 1.0 } else { 0.1 };
        (0..WIDTH).map(|i| scale(i) * normal()).collect()
    };
    (0..count).map(row).collect()
}

fn of_scenes(count: usize) -> Vec<Vec<f32>> {
    let folder = ModelFolder::open(std::path::Path::new("model/sample")).expect("the sample model");
    let encoder = ImageEncoder::load(&folder, &Device::flex()).expect("its CLIP");
    let numbers: Vec<u64> = (0..count as u64).collect();
    let embed = |numbers: &[u64]| {
        let images: Vec<_> = (numbers.iter())
            .map(|&number| scenes::draw(&scenes::scene(99, number)))
            .collect();
        encoder.embed_images(&images).expect("embeddings")
    };
    numbers.chunks(256).flat_map(embed).collect()
}

fn measure(name: &str, rows: &[Vec<f32>]) {
    let (rows, queries) = rows.split_at(rows.len() - QUERIES);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let encoder = Encoder {
        model: name.into(),
        fingerprint: name.into(),
        width: rows[0].len(),
    };
    let mut builder =
        Builder::open(&path, Kind::Images, encoder, false, "images", &|_| ()).expect("a datastore");
    let entry = |(number, row): (usize, &Vec<f32>)| {
        let entry = Entry {
            entry: number.to_string(),
            image: None,
        };
        (entry, row.clone())
    };
    builder
        .add(rows.iter().enumerate().map(entry))
        .expect("entries");
    let begun = Instant::now();
    builder.finish(0, &|_| ()).expect("a graph");
    let built = begun.elapsed().as_secs_f64();
    let datastore = Datastore::open(&path).expect("the datastore");
    let one_by_one = |find: &dyn Fn(&Vec<f32>) -> Vec<Hit>| {
        let begun = Instant::now();
        let found: Vec<Vec<usize>> = (queries.iter())
            .map(|query| find(query).iter().map(|hit| hit.row).collect())
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        (found, 1000.0 * seconds / QUERIES as f64)
    };
    let (exact, exact_ms) = one_by_one(&|query| {
        let found = datastore.nearest_exactly(std::slice::from_ref(query), 10);
        found.expect("hits").remove(0)
    });
    let (graph, graph_ms) = one_by_one(&|query| {
        let found = datastore.nearest(std::slice::from_ref(query), 10, &|_, _| true);
        found.expect("hits").remove(0)
    });
    let both = (exact.iter().zip(&graph))
        .map(|(exact, graph)| exact.iter().filter(|row| graph.contains(row)).count());
    let recall = both.sum::<usize>() as f64 / (10 * QUERIES) as f64;
    println!(
        "| {name} | {} | {built:.0} s | {exact_ms:.1} ms | {graph_ms:.1} ms | {recall:.3} |",
        rows.len()
    );
}
