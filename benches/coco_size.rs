//! Memory of training on a data set of COCO's size: `cargo bench --bench coco_size [-- DIVISOR...]`.
//!
//! Makes annotations of 123,287 images with 616,767 captions, and of a half and a quarter of them, and begins to train a
//! tiny mapper before a tiny GPT-2 on each with the program itself, for [`STRETCH`] captions. The images are tiny, and so is CLIP but
//! for its embeddings, which have 512 values as ViT-B/32's do: what is measured is what a data set costs, not what the
//! networks do. Linux only: sizes are read from `/proc`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

#[allow(dead_code)] // tests use the rest
#[path = "../tests/integration/common/model.rs"]
mod model;

const IMAGES: usize = 123_287;
const CAPTIONS: usize = 616_767;
/// Captions after which a size is looked at, and once more after as many again.
const STRETCH: f64 = 20_000.0;
const WORDS: [&str; 16] = [
    "red", "circle", "blue", "star", "white", "on", "a", "the", "man", "street", "dog", "with",
    "sitting", "green", "field", "two",
];

fn main() {
    let divisors: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let divisors = if divisors.is_empty() {
        vec![4, 2, 1]
    } else {
        divisors
    };
    println!(
        "| images | captions | after loading | after 20,000 captions | after 40,000 | highest |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for divisor in divisors {
        let folder = tempfile::tempdir().expect("a folder");
        let (images, captions) = (IMAGES / divisor, CAPTIONS / divisor);
        write_data(folder.path(), images, captions);
        model::write_model_sized(&folder.path().join("model/tiny"), 1, 512);
        println!("| {images} | {captions} |{}", train(folder.path()));
    }
}

fn write_data(folder: &Path, images: usize, captions: usize) {
    let image_folder = folder.join("images");
    fs::create_dir_all(&image_folder).unwrap();
    let mut image = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(16, 16, image::Rgb([200, 30, 60]))
        .write_to(&mut image, image::ImageFormat::Png)
        .unwrap();
    let image = image.into_inner();
    let mut file = std::io::BufWriter::new(fs::File::create(folder.join("captions.json")).unwrap());
    write!(file, "{{\"images\":[").unwrap();
    for id in 0..images {
        let name = format!("COCO_train2014_{id:012}.png");
        fs::write(image_folder.join(&name), &image).unwrap();
        let comma = if id == 0 { "" } else { "," };
        write!(file, "{comma}{{\"id\":{id},\"file_name\":\"{name}\",\"license\":3,\"height\":480,\"width\":640}}").unwrap();
    }
    write!(file, "],\"annotations\":[").unwrap();
    for id in 0..captions {
        let comma = if id == 0 { "" } else { "," };
        // Ten words of what comes from a caption's number alone.
        let words: Vec<&str> = (0..10)
            .map(|word| WORDS[(id * 7 + word * (id % 13 + 1)) % 16])
            .collect();
        let image = id % images;
        write!(
            file,
            "{comma}{{\"image_id\":{image},\"id\":{id},\"caption\":\"A {}.\"}}",
            words.join(" ")
        )
        .unwrap();
    }
    write!(file, "]}}").unwrap();
    file.flush().unwrap();
}

/// Trains until memory has been looked at, and stops; the last cells of a row.
fn train(folder: &Path) -> String {
    let args = "train --model model/tiny --data captions.json --images images --prefix-length 4 --clip-length 4 --layers 1 --batch-size 400 --epochs 1 --trainable mapper --validation-captions 0 --shares 98/1/1 --device cpu --ui json --run run";
    let mut child = Command::new(env!("CARGO_BIN_EXE_clipcap"))
        .args(args.split(' '))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let size = |key: &str| {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1024.0)
    };
    let (mut sizes, mut highest) = ([None; 3], f64::NAN);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("images with") && line.contains("to train on") {
            sizes[0] = Some(size("VmRSS"));
        }
        let Ok(progress) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        highest = size("VmHWM");
        let items = progress["items"].as_f64().unwrap_or(0.0);
        for times in [1, 2] {
            if items >= STRETCH * times as f64 {
                sizes[times] = sizes[times].or(Some(size("VmRSS")));
            }
        }
        if sizes[2].is_some() {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let cells = sizes.into_iter().chain([Some(highest)]);
    let megabytes = cells.map(|size| size.map_or("-".into(), |size| format!("{size:.0} MB")));
    format!(" {} |", megabytes.collect::<Vec<String>>().join(" | "))
}
