//! BLEU, ROUGE-L and CIDEr of 40,504 images with five references each, tokenizing included, beside pycocoevalcap.
//!
//! ```sh
//! pip install pycocoevalcap && cargo bench --bench metrics        # PYTHON names another interpreter
//! ```
//! Each side is a process of its own that reads the same two COCO files; wall time and peak memory are of the whole process,
//! by GNU `time`. Without pycocoevalcap only this program is measured.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Images of COCO's val2014.
const IMAGES: usize = 40_504;
const REFERENCES: usize = 5;
/// Words that captions are varied with: about as many as COCO's captions have.
const VOCABULARY: usize = 25_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (references, results) = write_captions(folder.path());
    println!("{IMAGES} images, {REFERENCES} references each");
    let ours = measure(
        Command::new(env!("CARGO_BIN_EXE_clipcap"))
            .args([
                "evaluate",
                "--format",
                "json",
                "--resamples",
                "0",
                "--candidates",
            ])
            .arg(&results)
            .arg("--references")
            .arg(&references),
    );
    let Some(ours) = ours else {
        println!("clipcap failed");
        return;
    };
    println!(
        "clipcap        {:>7.2} s  {:>5.0} MB (METEOR_exact_stem and JSON output too)",
        ours.seconds, ours.megabytes
    );
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_string());
    let peer = measure(
        Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/metrics_peer.py"))
            .arg(&references)
            .arg(&results),
    );
    let Some(peer) = peer else {
        println!("pycocoevalcap was not run: `{python}` has none of it");
        return;
    };
    println!(
        "pycocoevalcap  {:>7.2} s  {:>5.0} MB",
        peer.seconds, peer.megabytes
    );
    println!(
        "               {:>6.1}x  {:>5.1}x",
        peer.seconds / ours.seconds,
        peer.megabytes / ours.megabytes
    );
    let difference = ["Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr"]
        .map(|name| (number(&ours.output, name) - number(&peer.output, name)).abs())
        .into_iter()
        .fold(0.0, f64::max);
    println!("largest difference of an overall score: {difference:.1e}");
}

struct Measured {
    seconds: f64,
    megabytes: f64,
    output: Value,
}

fn number(output: &Value, name: &str) -> f64 {
    output["overall"][name].as_f64().unwrap_or(f64::NAN)
}

/// Runs a command under `time`, which reports its peak memory.
fn measure(command: &mut Command) -> Option<Measured> {
    let mut timed = Command::new("time");
    timed
        .args(["-f", "%M"])
        .arg(command.get_program())
        .args(command.get_args());
    let started = Instant::now();
    let output = timed.stdin(Stdio::null()).output().ok()?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let kilobytes: f64 = errors.lines().last()?.trim().parse().ok()?;
    Some(Measured {
        seconds,
        megabytes: kilobytes / 1024.0,
        output: serde_json::from_slice(&output.stdout).ok()?,
    })
}

/// Captions like COCO's: some ten words, frequent ones often, the references of an image akin.
fn write_captions(folder: &Path) -> (PathBuf, PathBuf) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let words = words(&mut random);
    // Zipf's law: the rank is log-uniform.
    let word = |random: &mut ChaCha8Rng| {
        let rank = (VOCABULARY as f64).powf(random.random_range(0.0..1.0_f64)) as usize - 1;
        words[rank.min(VOCABULARY - 1)].clone()
    };
    let (mut images, mut annotations, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=IMAGES {
        images.push(json!({"id": id, "file_name": format!("{id}.jpg")}));
        let length = random.random_range(8..14);
        let theme: Vec<String> = (0..length).map(|_| word(&mut random)).collect();
        for caption in 0..=REFERENCES {
            let mut said: Vec<String> = theme
                .iter()
                .map(|own| {
                    if random.random_range(0.0..1.0) < 0.6 {
                        own.clone()
                    } else {
                        word(&mut random)
                    }
                })
                .collect();
            said.truncate(random.random_range(7..=length));
            let text = format!("A {}.", said.join(" "));
            if caption == 0 {
                results.push(json!({"image_id": id, "caption": text}));
            } else {
                annotations.push(json!({"id": annotations.len(), "image_id": id, "caption": text}));
            }
        }
    }
    let write = |name: &str, value: Value| {
        let path = folder.join(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    };
    let file = json!({"info": {}, "type": "captions", "licenses": [], "images": images, "annotations": annotations});
    (
        write("references.json", file),
        write("results.json", results.into()),
    )
}

/// Different words of two to four syllables.
fn words(random: &mut ChaCha8Rng) -> Vec<String> {
    const SYLLABLES: [&str; 16] = [
        "ba", "do", "ki", "lu", "me", "na", "po", "ri", "sa", "te", "vo", "wi", "zu", "shi", "tra",
        "plo",
    ];
    let mut known = HashSet::new();
    let mut words = Vec::with_capacity(VOCABULARY);
    while words.len() < VOCABULARY {
        let length = random.random_range(2..=4);
        let word: String = (0..length)
            .map(|_| SYLLABLES[random.random_range(0..SYLLABLES.len())])
            .collect();
        if known.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}
