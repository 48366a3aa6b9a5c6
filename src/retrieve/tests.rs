use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::vector::{cosine, norm, normalized};

const WIDTH: usize = 8;

fn encoder(fingerprint: &str) -> Encoder {
    Encoder {
        model: format!("model-{fingerprint}"),
        fingerprint: fingerprint.into(),
        width: WIDTH,
    }
}

fn rows(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |_| (0..WIDTH).map(|_| rng.random_range(-1.0..1.0)).collect();
    (0..count).map(row).collect()
}

fn entry(number: usize) -> Entry {
    Entry {
        entry: format!("caption {number}"),
        image: Some((number / 5).to_string()),
    }
}

fn builder(folder: &Path, append: bool) -> Result<Builder> {
    Builder::open(
        folder,
        Kind::Captions,
        encoder("a"),
        append,
        "captions",
        &|_| (),
    )
}

fn numbered(rows: &[Vec<f32>], first: usize) -> impl Iterator<Item = (Entry, Vec<f32>)> {
    rows.iter()
        .enumerate()
        .map(move |(i, row)| (entry(first + i), row.clone()))
}

/// A datastore of these rows, with a graph from so many on.
fn build(folder: &Path, rows: &[Vec<f32>], exact_below: usize) -> Datastore {
    let mut builder = builder(folder, false).unwrap();
    builder.add(numbered(rows, 0)).unwrap();
    builder.finish(exact_below, &|_| ()).unwrap();
    Datastore::open(folder).unwrap()
}

/// Rows by their cosine to a query, by plain loops.
fn brute_force(rows: &[Vec<f32>], query: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| cosine(&rows[b], query).total_cmp(&cosine(&rows[a], query)));
    order.truncate(count);
    order
}

fn places(hits: &[Hit]) -> Vec<usize> {
    hits.iter().map(|hit| hit.row).collect()
}

fn refused(error: anyhow::Error, parts: &[&str]) {
    let text = format!("{error:#}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn exact_search_finds_what_plain_loops_find() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(9000, 1); // several stretches
    let datastore = build(&folder.path().join("d"), &rows, EXACT_BELOW);
    assert!(!datastore.has_graph());
    let queries = self::rows(70, 2); // several blocks
    let found = datastore.nearest(&queries, 10, &|_, _| true).unwrap();
    for (query, hits) in queries.iter().zip(&found) {
        assert_eq!(places(hits), brute_force(&rows, query, 10));
        for hit in hits {
            assert!((f64::from(hit.cosine) - cosine(&rows[hit.row], query)).abs() < 1e-5);
        }
    }
    assert_eq!(datastore.entry(6001), &entry(6001));
    assert!((norm(datastore.embedding(6001)) - 1.0).abs() < 1e-6);
}

#[test]
fn what_may_not_be_found_is_not_and_equal_texts_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = builder(folder.path(), false).unwrap();
    let rows = rows(40, 3);
    let named = |i: usize, text: &str| Entry {
        entry: text.into(),
        image: Some(i.to_string()),
    };
    let all = rows.iter().enumerate().flat_map(|(i, row)| {
        // Two images share every sentence.
        let text = format!("sentence {i}");
        [
            (named(2 * i, &text), row.clone()),
            (named(2 * i + 1, &text), row.clone()),
        ]
    });
    builder.add(all).unwrap();
    for exact_below in [EXACT_BELOW, 1] {
        builder.finish(exact_below, &|_| ()).unwrap();
        let datastore = Datastore::open(folder.path()).unwrap();
        assert_eq!(
            (datastore.len(), datastore.has_graph()),
            (80, exact_below == 1)
        );
        let keep = |_, row: usize| !row.is_multiple_of(2);
        let hits = &datastore.nearest(&rows[7..8], 40, &keep).unwrap()[0];
        assert_eq!(hits.len(), 40, "each sentence once");
        assert!(hits.iter().all(|hit| hit.row % 2 == 1));
        assert_eq!(hits[0].row, 15);
        builder = self::builder(folder.path(), true).unwrap();
    }
}

#[test]
fn adding_later_gives_what_building_at_once_gives() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(600, 4);
    let whole = build(&folder.path().join("whole"), &rows, 100);
    let parts = folder.path().join("parts");
    build(&parts, &rows[..250], 100);
    refused(
        builder(&parts, false).err().unwrap(),
        &["parts", "250 captions", "--append"],
    );
    let mut more = builder(&parts, true).unwrap();
    assert!(more.has(&entry(249)) && !more.has(&entry(250)));
    more.add(numbered(&rows[200..], 200)).unwrap();
    let built = more.finish(100, &|_| ()).unwrap();
    assert_eq!(
        (built.entries, built.added, built.has_graph),
        (600, 350, true)
    );
    let parts = Datastore::open(&parts).unwrap();
    assert!(parts.has_graph());
    for row in 0..600 {
        assert_eq!(parts.entry(row), whole.entry(row));
        assert_eq!(parts.embedding(row), whole.embedding(row));
    }
    let queries = self::rows(20, 5);
    let find = |datastore: &Datastore| datastore.nearest_exactly(&queries, 10).unwrap();
    assert_eq!(find(&parts), find(&whole));
}

#[test]
fn a_build_that_was_cut_off_goes_on_after_its_last_whole_entry() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(30, 6);
    let whole = build(&folder.path().join("whole"), &rows, EXACT_BELOW);
    // As it is when a process is ended at any byte of either file.
    for (lost_rows, lost_text) in [(0, 0), (5, 0), (0, 5), (100, 3), (0, 700)] {
        let path = folder.path().join(format!("cut-{lost_rows}-{lost_text}"));
        let mut first = builder(&path, false).unwrap();
        first.add(numbered(&rows[..20], 0)).unwrap();
        drop(first);
        refused(
            Datastore::open(&path).unwrap_err(),
            &["run the same `index` again"],
        );
        for (name, lost) in segment::names(0).iter().zip([lost_rows, lost_text]) {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(path.join(format!("{name}.partial")))
                .unwrap();
            file.set_len(file.metadata().unwrap().len() - lost).unwrap();
        }
        let mut again = builder(&path, false).unwrap();
        assert!(
            again.resumed <= 20 && again.resumed + 30 > 20,
            "{}",
            again.resumed
        );
        if lost_rows + lost_text == 0 {
            assert_eq!(again.resumed, 20, "nothing finished is lost");
        }
        again.add(numbered(&rows, 0)).unwrap();
        again.finish(EXACT_BELOW, &|_| ()).unwrap();
        let again = Datastore::open(&path).unwrap();
        assert_eq!(again.len(), 30);
        for row in 0..30 {
            assert_eq!(again.entry(row), whole.entry(row));
            assert_eq!(again.embedding(row), whole.embedding(row));
        }
    }
}

#[test]
fn renamed_files_that_nobody_told_of_are_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let rows = rows(10, 7);
    drop(build(&path, &rows, EXACT_BELOW));
    let mut manifest = Manifest::open(&path).unwrap();
    (manifest.segments, manifest.unfinished) = (Vec::new(), true);
    manifest.write(&path).unwrap();
    let again = builder(&path, false).unwrap();
    assert_eq!(again.resumed, 10);
    again.finish(EXACT_BELOW, &|_| ()).unwrap();
    assert_eq!(Datastore::open(&path).unwrap().len(), 10);
}

#[test]
fn a_damaged_file_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    drop(build(&path, &rows(50, 8), 10));
    for name in ["embeddings-0001.f32", "entries-0001.jsonl", "graph.hnsw"] {
        let file = path.join(name);
        let bytes = fs::read(&file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [flipped, bytes[..bytes.len() - 4].to_vec()] {
            fs::write(&file, damaged).unwrap();
            let error = Datastore::open(&path).unwrap_err();
            refused(error, &[name, "is damaged", "build it again"]);
        }
        fs::write(&file, bytes).unwrap();
    }
    Datastore::open(&path).unwrap();
    fs::write(path.join("index.json"), "{\"format\": 1").unwrap();
    refused(Datastore::open(&path).unwrap_err(), &["index.json"]);
    let error = Datastore::open(folder.path()).unwrap_err();
    refused(error, &["is not a datastore"]);
}

#[test]
fn another_encoder_and_other_things_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let datastore = build(&path, &rows(5, 9), EXACT_BELOW);
    datastore.check_encoder(&encoder("a")).unwrap();
    let error = datastore.check_encoder(&encoder("b")).unwrap_err();
    refused(
        error,
        &[
            "encoder of model-a",
            "model-b has another",
            "--model model-b",
        ],
    );
    let open = |kind, encoder| {
        Builder::open(&path, kind, encoder, true, "captions", &|_| ())
            .err()
            .unwrap()
    };
    refused(open(Kind::Captions, encoder("b")), &["model-a", "model-b"]);
    refused(open(Kind::Images, encoder("a")), &["holds captions"]);
    let error = datastore.check_kind(Kind::Images, "x").unwrap_err();
    refused(error, &["holds captions", "x needs images"]);
    let error = datastore
        .nearest(&[vec![1.0; 3]], 1, &|_, _| true)
        .unwrap_err();
    refused(error, &["embeddings of 8 values, and one of 3"]);
}

/// The share of the true ten nearest that the graph finds. `benches/retrieval.rs` measures it at 100,000.
#[test]
fn the_graph_finds_nearly_all_that_exact_search_finds() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(5000, 10);
    let datastore = build(&folder.path().join("d"), &rows, 1000);
    assert!(datastore.has_graph());
    let queries = self::rows(100, 11);
    let found = datastore.nearest(&queries, 10, &|_, _| true).unwrap();
    let exact = datastore.nearest_exactly(&queries, 10).unwrap();
    let both = (found.iter().zip(&exact)).map(|(found, exact)| {
        let exact = places(exact);
        places(found)
            .iter()
            .filter(|row| exact.contains(row))
            .count()
    });
    let recall = both.sum::<usize>() as f64 / 1000.0;
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn a_graph_that_was_cut_off_is_finished_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let rows = rows(300, 12);
    drop(build(&path, &rows[..200], 100));
    let mut more = builder(&path, true).unwrap();
    more.add(numbered(&rows, 0)).unwrap();
    // Ended after the segment, before the graph.
    let graph = more.manifest.graph;
    more.manifest
        .segments
        .push(more.partial.finish().unwrap().unwrap());
    more.manifest.write(&path).unwrap();
    drop(more);
    let between = Datastore::open(&path).unwrap();
    assert_eq!((between.len(), between.has_graph()), (300, false));
    let found = between.nearest(&rows[250..251], 1, &|_, _| true).unwrap();
    assert_eq!(found[0][0].row, 250, "compared with all meanwhile");
    let built = builder(&path, false).unwrap().finish(100, &|_| ()).unwrap();
    assert_eq!((built.added, built.has_graph), (0, true));
    assert_ne!(Manifest::open(&path).unwrap().graph, graph);
    assert!(Datastore::open(&path).unwrap().has_graph());
}

#[test]
fn projection_is_the_softmax_weighed_mean_of_all_captions() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(9000, 13);
    let datastore = build(&folder.path().join("d"), &rows, EXACT_BELOW);
    let queries = self::rows(3, 14);
    for temperature in [TEMPERATURE, 1.0] {
        let projected = datastore.project(&queries, temperature).unwrap();
        for (query, projected) in queries.iter().zip(&projected) {
            // The formula as it stands, in float64.
            let mut sum = [0.0_f64; WIDTH];
            for row in &rows {
                let weight = (cosine(row, query) / f64::from(temperature)).exp();
                let unit = normalized(row);
                (sum.iter_mut().zip(unit)).for_each(|(sum, x)| *sum += weight * f64::from(x));
            }
            let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (x, sum) in projected.iter().zip(sum) {
                assert!(
                    (f64::from(*x) - sum / length).abs() < 2e-4,
                    "{x} {}",
                    sum / length
                );
            }
        }
    }
    assert!(datastore.project(&queries, 0.0).is_err());
    // One caption alone is where everything ends up.
    let alone = build(&folder.path().join("alone"), &rows[..1], EXACT_BELOW);
    let projected = alone.project(&queries, TEMPERATURE).unwrap();
    assert!(cosine(&projected[2], &rows[0]) > 1.0 - 1e-6);
}

#[test]
fn a_linked_copy_stays_as_it_is_when_more_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("d"), folder.path().join("copy"));
    let rows = rows(40, 15);
    build(&path, &rows[..20], 10).link_to(&copy).unwrap();
    let mut more = builder(&path, true).unwrap();
    more.add(numbered(&rows, 0)).unwrap();
    more.finish(10, &|_| ()).unwrap();
    assert_eq!(Datastore::open(&path).unwrap().len(), 40);
    let copy = Datastore::open(&copy).unwrap();
    assert_eq!((copy.len(), copy.has_graph()), (20, true));
}
