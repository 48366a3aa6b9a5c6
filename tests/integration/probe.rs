//! Encoders from images alone, and what can be read out of them, as the program does it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::place::{Place, refused_with, stderr, stdout};
use clipcap::datasets::classes::{ClassSet, ClassSource};
use clipcap::hub::Watch;
use clipcap::hub::archives::{self, Archive};
use md5::{Digest, Md5};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Files of CIFAR-10's binary version with random content, `rows` images each.
fn write_cifar10(folder: &Path, rows: usize) {
    fs::create_dir_all(folder).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let names = (1..=5).map(|n| format!("data_batch_{n}"));
    for name in names.chain(["test_batch".to_string()]) {
        let mut bytes = vec![0; rows * 3073];
        rng.fill_bytes(&mut bytes);
        for row in bytes.chunks_mut(3073) {
            row[0] = rng.random_range(0..10);
        }
        fs::write(folder.join(format!("{name}.bin")), bytes).unwrap();
    }
}

fn run(place: &Place, args: &str) -> Output {
    let args: Vec<&str> = args.split(' ').collect();
    place.run(&[&args[..], &["--device", "cpu", "--ui", "plain"]].concat())
}

fn succeeds(place: &Place, args: &str) -> String {
    let output = run(place, args);
    assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
    stdout(&output)
}

fn fails(place: &Place, args: &str, expected: &str) {
    let output = run(place, args);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{args}: {error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: ") && last.contains(expected),
        "{args}: {error}"
    );
}

/// The command line was wrong by itself.
fn refuses(place: &Place, args: &str, expected: &str) {
    refused_with(&run(place, args), &[expected]);
}

const SMALL: &str = "--width 2 --epochs 1 --batch-size 8 --image-size 16";

#[test]
fn cifar10_files_of_random_content_are_trained_on_and_probed_by_every_encoder() {
    let place = Place::new();
    write_cifar10(&place.path("dataset/cifar-10-batches-bin"), 40);
    for method in ["simclr", "autoencoder", "resnet18"] {
        let args = format!("pretrain {method} --data cifar10 --output model/{method} {SMALL}");
        assert!(
            succeeds(&place, &args).contains("epoch 1 was best"),
            "{method}"
        );
    }
    succeeds(
        &place,
        "pretrain pca --data cifar10 --output model/pca --image-size 16",
    );
    for encoder in [
        "model/simclr",
        "model/autoencoder",
        "model/resnet18",
        "model/pca",
        "pixels",
        "pca",
        "model/tiny",
    ] {
        let args = format!("probe --encoder {encoder} --data cifar10 --eval knn --format json");
        let line: Value = serde_json::from_str(&succeeds(&place, &args)).unwrap();
        let accuracy = line["outcome"]["accuracy"].as_f64().unwrap();
        // Nothing can be learned of noise: about one in ten of 40 is right.
        assert!(accuracy < 0.4, "{encoder}: {accuracy}");
        assert_eq!(line["outcome"]["classes"].as_array().unwrap().len(), 10);
    }
    let args =
        "probe --encoder model/simclr --data dataset/cifar-10-batches-bin --report page.html";
    let text = succeeds(&place, args);
    assert!(
        text.contains("40 test images right") && text.contains("automobile"),
        "{text}"
    );
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert_eq!(page.matches("<circle").count(), 40);
}

#[test]
fn a_run_goes_on_and_ends_as_one_that_was_not_stopped() {
    let place = Place::new();
    write_cifar10(&place.path("data"), 24);
    let settings = "--width 2 --batch-size 16 --image-size 16 --warmup-epochs 0 --optimizer lars --learning-rate 0.3";
    let whole = format!(
        "pretrain simclr --data data --output model/whole --epochs 3 --run whole {settings}"
    );
    succeeds(&place, &whole);
    // Stopped after two epochs: the third one's checkpoint and the end are taken away.
    let kept = place.path("artifacts/stopped");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([place.path("artifacts/whole"), kept.clone()])
        .status()
        .unwrap();
    assert!(copied.success());
    for part in ["model", "optim", "scheduler"] {
        fs::remove_file(kept.join(format!("checkpoint/{part}-3.bpk"))).unwrap();
    }
    succeeds(
        &place,
        "pretrain simclr --resume artifacts/stopped --output model/resumed",
    );
    let loss = |folder: &str| {
        let text = fs::read_to_string(place.path(folder).join("source.json")).unwrap();
        let source: Value = serde_json::from_str(&text).unwrap();
        source["encoder"]["validation_loss"].as_f64().unwrap()
    };
    assert!((loss("model/whole") - loss("model/resumed")).abs() < 1e-5);
    fails(
        &place,
        "pretrain autoencoder --resume artifacts/stopped --output model/x",
        "is a run of `pretrain simclr`",
    );
    write_cifar10(&place.path("data"), 32);
    fails(
        &place,
        "pretrain simclr --resume artifacts/stopped --output model/resumed",
        "artifacts/stopped was begun with other images than data has now",
    );
}

#[test]
fn an_encoder_learned_from_images_alone_feeds_the_mapper() {
    let place = Place::new();
    place.write_data();
    let classes = place.path("classes");
    for (i, entry) in fs::read_dir(place.path("data/images")).unwrap().enumerate() {
        let folder = classes.join(["even", "odd"][i % 2]);
        fs::create_dir_all(&folder).unwrap();
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let args = "pretrain pca --data classes --output model/pca --image-size 8";
    fails(&place, args, "have no 128 principal components");
    fs::create_dir_all(place.path("more")).unwrap();
    write_cifar10(&place.path("more/cifar"), 40);
    succeeds(
        &place,
        "pretrain pca --data more/cifar --output model/pca --image-size 8",
    );
    let again = "pretrain pca --data more/cifar --output model/pca --image-size 8";
    fails(&place, again, "model/pca holds an image encoder already");
    succeeds(&place, &format!("{again} --overwrite"));
    let trained = place.train("own", &["--encoder", "model/pca", "--epochs", "1"]);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let best = place.path("artifacts/own/best");
    assert!(best.join("encoder.bpk").is_file() && !best.join("clip.bpk").exists());
    let infer = [
        "infer",
        "--model",
        "artifacts/own/best",
        "--device",
        "cpu",
        "data/images/000000.png",
    ];
    let output = place.run(&infer);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rerank = [
        &infer[..],
        &[
            "--rerank",
            "clip",
            "--decode",
            "beam",
            "--num-captions",
            "2",
        ],
    ]
    .concat();
    let output = place.run(&rerank);
    assert!(
        stderr(&output).contains("texts cannot be embedded"),
        "{}",
        stderr(&output)
    );
    // A mapper for another width than the encoder's.
    let config = best.join("config.json");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("\"clip_dim\": 128", "\"clip_dim\": 64");
    fs::write(&config, text).unwrap();
    let output = place.run(&infer);
    assert_ne!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("64"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_trained_on_or_probed_is_named() {
    let place = Place::new();
    write_cifar10(&place.path("data"), 24);
    fails(
        &place,
        "probe --data cifar10",
        "get it with `clipcap fetch cifar10`",
    );
    fails(&place, "probe --data nowhere", "nowhere is not a folder");
    fails(
        &place,
        "probe --encoder pixels --data data --folds --eval knn",
        "no folds of its own",
    );
    refuses(
        &place,
        "pretrain simclr --data data --output model/x --batch-size 1",
        "a batch of one image",
    );
    refuses(
        &place,
        "pretrain simclr --data data --output model/x --temperature 0",
        "temperature of 0",
    );
    refuses(
        &place,
        "pretrain autoencoder --data data --output model/x --image-size 20",
        "not a multiple of 8",
    );
    fails(
        &place,
        "pretrain simclr --data data --output model/x --batch-size 4096",
        "too few images",
    );
    fails(
        &place,
        "probe --encoder data --data data",
        "has no config.json",
    );
    let output = run(&place, "probe --encoder pixels --data data --epochs 3");
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(
        error.contains("--epochs has no effect here: it is a setting of training"),
        "{error}"
    );
    let mut bytes = fs::read(place.path("data/test_batch.bin")).unwrap();
    bytes[3073] = 10;
    fs::write(place.path("data/test_batch.bin"), &bytes).unwrap();
    fails(&place, "probe --data data", "test_batch.bin: label 1 is 10");
    fs::write(place.path("data/test_batch.bin"), &bytes[..5000]).unwrap();
    fails(&place, "probe --data data", "test_batch.bin has 5000 bytes");
}

#[test]
fn a_table_and_an_ablation_go_on_where_they_were() {
    let place = Place::new();
    write_cifar10(&place.path("data"), 40);
    let args = format!("probe --table --data data --run mine {SMALL}");
    let table = succeeds(&place, &args);
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), 5, "{table}");
    assert!(
        rows[0].starts_with("| SimCLR | width 2, 1 epochs, batch 8, 16 px")
            && rows[0].contains("80.2 / 76.4"),
        "{table}"
    );
    assert!(place.path("artifacts/mine/table.json").is_file());
    assert_eq!(succeeds(&place, &args), table);
    let other = args.replace("--epochs 1", "--epochs 2");
    fails(&place, &other, "simclr/config.json has other settings");
    assert_eq!(succeeds(&place, &args), table);
    let args = format!("probe --ablate temperature --values 0.1,1 --data data --run tau {SMALL}");
    let points = succeeds(&place, &args);
    assert_eq!(points.lines().count(), 4, "{points}");
    let svg = fs::read_to_string(place.path("artifacts/tau/ablation.svg")).unwrap();
    assert!(svg.contains("temperature"));
}

/// The Python version's files, as the archive has them: pickles of protocol 2 by Python 2, with a NumPy array.
#[test]
fn both_versions_of_cifar10_are_the_same_images() {
    let place = tempfile::tempdir().unwrap();
    let (binary, python) = (place.path().join("bin"), place.path().join("py"));
    write_cifar10(&binary, 3);
    fs::create_dir(&python).unwrap();
    for entry in fs::read_dir(&binary).unwrap() {
        let path = entry.unwrap().path();
        let target = python.join(path.file_stem().unwrap());
        fs::write(target, pickled(&fs::read(&path).unwrap())).unwrap();
    }
    let load = |path: &Path| ClassSet::load(&ClassSource::Path(path.into()), place.path()).unwrap();
    let (a, b) = (load(&binary), load(&python));
    assert_eq!(a.train.labels, b.train.labels);
    for index in 0..a.train.len() {
        assert_eq!(
            a.train.images.get(index).unwrap(),
            b.train.images.get(index).unwrap()
        );
    }
    fs::write(python.join("test_batch"), b"\x80\x02}q\x01.").unwrap();
    let error = ClassSet::load(&ClassSource::Path(python), place.path()).unwrap_err();
    assert!(
        format!("{error:#}").contains("test_batch: it has no `labels`"),
        "{error:#}"
    );
}

/// What cPickle writes of `{'batch_label': .., 'labels': [..], 'data': array(.., dtype=uint8), 'filenames': [..]}`.
fn pickled(rows: &[u8]) -> Vec<u8> {
    let count = rows.len() / 3073;
    let mut out = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(".to_vec();
    for row in rows.chunks(3073) {
        out.extend([b'K', row[0]]);
    }
    out.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K");
    out.extend([count as u8]);
    out.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((count as u32 * 3072).to_le_bytes());
    for row in rows.chunks(3073) {
        out.extend(&row[1..]);
    }
    out.extend(b"tbU\tfilenamesq\x0c]q\x0du.");
    out
}

/// Says nothing.
struct Quiet(Mutex<Vec<String>>);

impl Watch for Quiet {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

/// Serves one file, understands byte ranges, and cuts the first answer short. Returns the address and counts requests.
fn serve(content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/data.tar.gz", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let mut start = 0;
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                let line = line.to_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let rest = &content[start..];
            let status = if start > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                rest.len()
            );
            let sent = if number == 0 {
                rest.len() / 2
            } else {
                rest.len()
            };
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&rest[..sent]).unwrap();
        }
    });
    (url, requests)
}

fn archive(url: String, md5: &'static str) -> Archive {
    Archive {
        name: "mine",
        about: "a test",
        url,
        md5,
        folder: "stl10_binary",
        patience: Duration::from_millis(1),
    }
}

#[test]
fn a_data_set_is_fetched_past_a_lost_connection_checked_and_unpacked_once() {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let mut noise = vec![0; 200_000];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
    for (name, bytes) in [
        ("stl10_binary/train_X.bin", &noise[..]),
        ("stl10_binary/train_y.bin", b"123"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    let content = tar.into_inner().unwrap().finish().unwrap();
    let md5: &'static str = Box::leak(clipcap::files::hex(&Md5::digest(&content)).into_boxed_str());
    let (url, requests) = serve(content);
    let place = tempfile::tempdir().unwrap();
    let watch = Quiet(Mutex::new(Vec::new()));
    let error =
        archives::fetch(&archive(url.clone(), "no such sum"), place.path(), &watch).unwrap_err();
    assert!(
        error.to_string().contains("not what was published"),
        "{error:#}"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 2); // the first was cut short
    assert!(watch.0.lock().unwrap()[0].contains("the connection was lost"));
    let mine = archive(url, md5);
    let folder = archives::fetch(&mine, place.path(), &watch).unwrap();
    let mut read = Vec::new();
    fs::File::open(folder.join("train_X.bin"))
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert_eq!(read, noise);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    archives::fetch(&mine, place.path(), &watch).unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 3);

    // Two at once: one fetches, and the other uses what came.
    let other = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let watch = Quiet(Mutex::new(Vec::new()));
            let (mine, other) = (&mine, other.path());
            scope.spawn(move || archives::fetch(mine, other, &watch).unwrap());
        }
    });
    assert_eq!(requests.load(Ordering::SeqCst), 4);
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}
