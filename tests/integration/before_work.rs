//! What is told before the work and not after it: inputs that changed, outputs that cannot be written, flags without effect,
//! values that make no sense; and what is told of files that are damaged.

use std::fs;

use crate::common::place::{INFER, Place, fails_with, image, refused_with, stderr, stdout};

fn run(place: &Place, line: &str) -> std::process::Output {
    place.line(line).output().unwrap()
}

fn succeeds(place: &Place, line: &str) -> String {
    let output = run(place, line);
    assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_run_goes_on_with_what_it_was_begun_with_alone() {
    let place = Place::new();
    place.write_data();
    assert!(place.train("r", &["--epochs", "1"]).status.success());
    let resume = "train --resume r --device cpu --ui plain";
    let changed = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, told: &[&str]| {
        let path = place.path(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, change(before.clone())).unwrap();
        fails_with(&run(&place, resume), told);
        fs::write(&path, before).unwrap();
    };
    let fix = "start a new run";
    let run_name = "artifacts/r was begun with";
    let reworded = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replacen("\"caption\":\"A", "\"caption\":\"One", 1)
            .replacen("\"caption\": \"A", "\"caption\": \"One", 1)
            .into_bytes()
    };
    let captions = "other captions than data/captions.json has now";
    changed("data/captions.json", &reworded, &[run_name, captions, fix]);
    let longer = |bytes: Vec<u8>| [bytes, vec![0; 10]].concat();
    changed(
        "data/images/000003.png",
        &longer,
        &[
            run_name,
            "other images than data/captions.json has now",
            "000003.png",
            fix,
        ],
    );
    changed(
        "model/tiny/gpt2-tokenizer.json",
        &|bytes| [bytes, b"\n".to_vec()].concat(),
        &[
            run_name,
            "another gpt2-tokenizer.json than model/tiny has now",
            fix,
        ],
    );
    succeeds(&place, resume);
}

#[test]
fn a_run_goes_on_with_the_datastore_and_parts_it_was_begun_with_alone() {
    let place = Place::new();
    place.write_data();
    succeeds(
        &place,
        "index data/captions.json --output store --device cpu",
    );
    let names: Vec<String> = (0..12).map(|n| format!("{n:06}.png")).collect();
    let lists = |train: usize| {
        for (file, names) in [
            ("train", &names[..train]),
            ("val", &names[train..11]),
            ("test", &names[11..]),
        ] {
            fs::write(place.path(&format!("{file}.txt")), names.join("\n")).unwrap();
        }
    };
    lists(9);
    let train = "train --model sample --data data/captions.json --images data/images --shares train.txt,val.txt,test.txt --prefix-length 4 --clip-length 3 --layers 1 --batch-size 4 --epochs 1 --trainable mapper --device cpu --ui plain --retrieve 2 --index store --run r";
    succeeds(&place, train);
    let resume = "train --resume r --device cpu --ui plain";
    lists(8);
    fails_with(
        &run(&place, resume),
        &[
            "artifacts/r was begun with the images of data/captions.json in other parts",
            "train.txt",
        ],
    );
    lists(9);
    fs::write(place.path("more.txt"), "A purple dog.\nA green cat.\n").unwrap();
    succeeds(
        &place,
        "index more.txt --append --output store --device cpu",
    );
    fails_with(
        &run(&place, resume),
        &[
            "artifacts/r was begun with another datastore than store is now",
            "start a new run",
        ],
    );
}

#[test]
fn a_search_over_trainings_goes_on_with_its_data_alone() {
    let place = Place::new();
    place.write_data();
    let tune = "tune epochs=1,2 --folds 2 --model model/tiny --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --batch-size 4 --device cpu --run t";
    succeeds(&place, tune);
    succeeds(&place, tune);
    let path = place.path("data/captions.json");
    let text = fs::read_to_string(&path).unwrap();
    let caption = text
        .split("\"caption\"")
        .nth(1)
        .unwrap()
        .split('"')
        .nth(1)
        .unwrap();
    fs::write(&path, text.replacen(caption, "A dog.", 1)).unwrap();
    fails_with(
        &run(&place, tune),
        &["artifacts/t was begun with other captions than data/captions.json has now"],
    );
}

#[test]
fn places_that_cannot_be_written_are_told_before_anything_is_computed() {
    let place = Place::new();
    place.write_data();
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("folder/file"), "mine").unwrap();
    let data = "--data data/captions.json --images data/images --device cpu";
    let evaluate = format!("evaluate --model model/tiny {data}");
    let tune = format!("tune epochs=1,2 --model model/tiny {data}");
    let candidates = "evaluate --candidates none.json --references data/captions.json";
    for (line, parts) in [
        (
            format!("{evaluate} --report none/a.html"),
            ["none/a.html", "none is no folder"],
        ),
        (
            format!("{evaluate} --report folder"),
            ["folder is a folder", "name a file"],
        ),
        (
            format!("{evaluate} --markdown none/a.md"),
            ["none/a.md", "none is no folder"],
        ),
        (
            format!("{evaluate} --output folder/file"),
            ["folder/file", "is not a folder"],
        ),
        (
            format!("{candidates} --report none/a.html"),
            ["none/a.html", "none is no folder"],
        ),
        (
            format!("{tune} --markdown none/a.md"),
            ["none/a.md", "none is no folder"],
        ),
        (
            "probe --data scenes --report none/a.html --device cpu".into(),
            ["none/a.html", "none is no folder"],
        ),
        (
            "probe --table --markdown none/a.md --device cpu".into(),
            ["none/a.md", "none is no folder"],
        ),
        (
            "explain --model none --output none/a a.png".into(),
            ["none/a", "none is no folder"],
        ),
        (
            "explain --model none --report folder a.png".into(),
            ["folder is a folder", "name a file"],
        ),
        (
            "explain --model none --overlays folder/file a.png".into(),
            ["folder/file", "is not a folder"],
        ),
        (
            "convert --training-set none.pkl --output folder".into(),
            ["folder is there already", "name another folder"],
        ),
        (
            "convert --clip none --output folder/file/x".into(),
            ["folder/file/x", "is not a folder"],
        ),
        (
            "export model/tiny --output none/a.safetensors".into(),
            ["none/a.safetensors", "none is no folder"],
        ),
        (
            "pretrain gpt2 --output model/tiny --device cpu".into(),
            ["model/tiny holds a mapper", "name another folder"],
        ),
        (
            "pretrain clip --output folder --device cpu".into(),
            ["folder is there already", "no model folder"],
        ),
        (
            "pretrain simclr --output folder/file --device cpu".into(),
            ["folder/file", "is not a folder"],
        ),
        (
            "pretrain sample --output model/tiny --device cpu".into(),
            ["model/tiny is a model already", "overwrite"],
        ),
    ] {
        fails_with(&run(&place, &line), &parts);
    }
    assert!(!place.path("artifacts").exists() && !place.path("dataset").exists());
}

#[test]
fn flags_without_effect_are_refused_by_name() {
    let place = Place::new();
    place.write_data();
    let data = "--data data/captions.json --images data/images";
    let train = format!("train --model model/tiny {data}");
    for (line, flag) in [
        ("explain --count 3 a.png", "--check"),
        ("explain --draws 3 a.png", "--check"),
        ("explain --check --alternatives 3", "--alternatives"),
        ("explain --check --recursive", "--recursive has no effect"),
        ("explain --split val a.png", "--check"),
        ("explain --data a.json --overlays x a.png", "--check"),
        (
            "evaluate --candidates a --references b --split test",
            "--split has no effect",
        ),
        (
            "evaluate --candidates a --references b --data c",
            "--data has no effect",
        ),
        (
            "evaluate --compare a b --references c --decode beam",
            "--decode has no effect",
        ),
        (
            "evaluate --compare a b --references c --output d",
            "--output has no effect",
        ),
        (
            "evaluate --model model/tiny --by CIDEr",
            "--by has no effect",
        ),
        ("pretrain clip --output x --scenes 9 --images y", "--images"),
        (
            "pretrain gpt2 --output x --scenes 9 --shares 80/10/10",
            "--shares",
        ),
        ("probe --table --values 1,2", "--values has no effect"),
        (
            "probe --encoder pixels --values 1,2",
            "--values has no effect",
        ),
        (
            "convert --training-set a.pkl --captioner b.pt --output c",
            "--captioner",
        ),
        (
            "explain --cells 4 --method attention a.png",
            "--cells has no effect",
        ),
        (
            "explain --beam-size 3 a.png",
            "--beam-size needs --decode beam",
        ),
        (
            "explain --caption x --decode beam a.png",
            "--decode has no effect",
        ),
        (
            "infer --model model/tiny --index store a.png",
            "--index has no effect",
        ),
        (
            "infer --model model/tiny --index store --retrieve 0 a.png",
            "--index has no effect",
        ),
        (
            "serve --model model/tiny --index store",
            "--index has no effect",
        ),
        ("infer --fetch a.png", "--model"),
        (
            "infer --output out --ids ids.json a.tar",
            "--ids has no effect",
        ),
        (
            "evaluate --model model/tiny --index store",
            "--index has no effect",
        ),
        (
            "evaluate --model model/tiny --references a.json",
            "--references has no effect",
        ),
        (
            "evaluate --candidates a --references b --images c",
            "--images has no effect",
        ),
        (
            "evaluate --candidates a --references b --by CIDEr",
            "--compare",
        ),
        (
            "evaluate --compare a b --references c --clip-score sample",
            "--clip-score has no effect",
        ),
        (
            "evaluate --candidates a --references b --resamples 0 --confidence 90",
            "--confidence has no effect",
        ),
        (
            "evaluate --model model/tiny --shares file --split-seed 2",
            "--split-seed has no effect",
        ),
        ("probe --run a", "--run has no effect"),
        ("probe --neighbors 3", "--neighbors has no effect"),
        ("probe --folds --report a.html", "--report has no effect"),
        ("probe --table --report a.html", "--report has no effect"),
        ("probe --table --eval knn", "--eval has no effect"),
        ("probe --table --format json", "--format has no effect"),
        ("probe --table --encoder pca", "--encoder has no effect"),
        (
            "probe --ablate temperature --temperature 0.1",
            "--temperature has no effect",
        ),
        ("probe --epochs 3", "--epochs has no effect"),
        (
            "pretrain pca --output x --epochs 3",
            "--epochs has no effect",
        ),
        (
            "pretrain autoencoder --output x --stem cifar",
            "--stem has no effect",
        ),
        (
            "pretrain resnet18 --output x --temperature 0.1",
            "--temperature has no effect",
        ),
        (
            "pretrain simclr --output x --loss triplet --temperature 0.1",
            "--temperature has no effect",
        ),
        (
            "pretrain clip --output x --data a.json --shares file --split-seed 2",
            "--split-seed has no effect",
        ),
        (
            "index a.png --of images --output x --split train",
            "--split has no effect",
        ),
        (
            "index data/captions.json --output x --split-seed 3",
            "--split-seed has no effect",
        ),
        (
            "index data/captions.json --output x --recursive",
            "--recursive has no effect",
        ),
        ("fetch cifar10 --output x", "--output has no effect"),
        ("fetch cifar10 --user", "--user has no effect"),
        (
            &format!("{train} --mapper mlp --layers 3"),
            "--layers needs --mapper transformer",
        ),
        (
            &format!("{train} --mapper linear --clip-length 3"),
            "--clip-length needs --mapper transformer",
        ),
        (
            &format!("{train} --noise none --noise-variance 0.1"),
            "--noise-variance needs --noise",
        ),
        (
            &format!("{train} --noise gaussian --noise-rate 0.1"),
            "--noise-rate needs --noise",
        ),
        (
            &format!("{train} --shares file --split-seed 3"),
            "--split-seed has no effect",
        ),
    ] {
        refused_with(&run(&place, line), &[flag]);
    }
    assert!(!place.path("artifacts").exists() && !place.path("dataset").exists());
}

#[test]
fn values_that_no_file_makes_right_are_wrong_usage() {
    let place = Place::new();
    for (line, part) in [
        ("explain --check --covered 0", "0 percent of an image"),
        ("explain --check --covered nan", "percent of an image"),
        ("explain --check --draws 0", "drawn 0 times"),
        ("explain --check --count 0", "--count is 0"),
        (
            "explain --cells 0 --method occlusion a.png",
            "0 cells a side",
        ),
        (
            "explain --cells 65 --method occlusion a.png",
            "65 cells a side",
        ),
        ("infer --output out {5..3}.tar", "goes backward"),
        (
            "embed --output out {0..99999999999}.tar",
            "more than 10000000 names",
        ),
        (
            "infer --output out --max-chars 3 --prepend long a.tar",
            "--",
        ),
        (
            "evaluate --compare a b --references c --by BLEU",
            "there is no such score",
        ),
        (
            "evaluate --compare a b --references c --by METEOR",
            "--meteor-data",
        ),
        (
            "evaluate --candidates a --references b --confidence 100",
            "--confidence 100",
        ),
        ("ablate none.json --seeds 0", "--seeds is 0"),
        ("tune epochs=1..3 --random 0", "0 random settings"),
        ("probe --encoder pixels --image-size 0", "image size is 0"),
        (
            "infer --retrieve 101 --index store a.png",
            "give at most 100",
        ),
        ("index --of images --output x", "--of images needs images"),
    ] {
        refused_with(&run(&place, line), &[part]);
    }
    assert!(!place.path("artifacts").exists() && !place.path("dataset").exists());
}

#[test]
fn texts_that_clip_reads_the_beginning_of_are_told() {
    let place = Place::new();
    place.write_data();
    let long = "A red circle on a white star. ".repeat(9);
    fs::write(place.path("a.txt"), format!("A red circle.\n{long}\n")).unwrap();
    let index = "index a.txt --of captions --model model/tiny --output store --device cpu";
    let told = succeeds(&place, index);
    let line = "1 of 2 texts are longer than the 14 tokens that CLIP reads, and were cut; the longest has ";
    assert!(
        told.contains(line) && told.contains("`A red circle on a white star."),
        "{told}"
    );
    let args = ["search", "--index", "store", "--device", "cpu", &long];
    let output = place.run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("1 of 1 texts are longer"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output).lines().count(), 2);

    let names: Vec<String> = (0..12)
        .map(|n| format!("{{\"image\": \"{n:06}.png\", \"caption\": \"{long}\"}}\n"))
        .collect();
    fs::write(place.path("said.jsonl"), names.concat()).unwrap();
    let score = "evaluate --candidates said.jsonl --references data/captions.json --images data/images --clip-score model/tiny --resamples 0 --device cpu";
    let told = succeeds(&place, score);
    assert!(
        told.contains("of 72 texts are longer than the 14 tokens"),
        "{told}"
    );
    assert_eq!(told.matches("texts are longer").count(), 1, "{told}");
}

#[test]
fn damaged_files_are_told_with_what_to_do() {
    let place = Place::new();
    place.write_data();
    succeeds(
        &place,
        "index data/captions.json --model model/tiny --output store --device cpu",
    );
    let photo = image();
    let infer = || place.run(&[&INFER[..], &[&photo]].concat());
    let search = || run(&place, "search --index store --device cpu dog");
    let damaged = |file: &str, told: &[&str], command: &dyn Fn() -> std::process::Output| {
        let path = place.path(file);
        let before = fs::read(&path).unwrap();
        for bytes in [&before[..before.len() / 2], b""] {
            fs::write(&path, bytes).unwrap();
            fails_with(&command(), told);
        }
        fs::write(&path, before).unwrap();
    };
    let again = "or make the model folder again with `clipcap fetch`, `convert` or `train`";
    for part in ["clip", "gpt2", "mapper"] {
        let file = format!("model/tiny/{part}.bpk");
        damaged(&file, &[&file, "cannot be read", again], &infer);
    }
    for file in ["model/tiny/config.json", "model/tiny/gpt2-tokenizer.json"] {
        damaged(file, &[file, again], &infer);
    }
    for file in [
        "store/index.json",
        "store/entries-0001.jsonl",
        "store/embeddings-0001.f32",
    ] {
        damaged(
            file,
            &[file, "is damaged", "build it again with `clipcap index`"],
            &search,
        );
    }
    fs::remove_file(place.path("store/entries-0001.jsonl")).unwrap();
    fails_with(
        &search(),
        &["entries-0001.jsonl is damaged", "`clipcap index`"],
    );
    fs::remove_file(place.path("model/tiny/mapper.bpk")).unwrap();
    fails_with(&infer(), &["mapper.bpk is missing", again]);
}

#[test]
fn damaged_files_of_a_run_are_told_with_what_to_do() {
    let place = Place::new();
    place.write_data();
    assert!(place.train("r", &["--epochs", "1"]).status.success());
    let infer = format!("infer --model artifacts/r/best --device cpu {}", image());
    let resume = "train --resume r --device cpu --ui plain";
    for (file, told, line) in [
        (
            "best/mapper.bpk",
            "make it again with `clipcap train`",
            infer.as_str(),
        ),
        ("config.json", "put back a copy", resume),
        ("inputs.json", "put back a copy, or delete it", resume),
        (
            "checkpoint/model-1.bpk",
            "delete it, and the run goes on from the epoch before",
            resume,
        ),
        (
            "checkpoint/optim-1.bpk",
            "delete it, and the run goes on from the epoch before",
            resume,
        ),
    ] {
        let path = place.path("artifacts/r").join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, &before[..before.len() / 2]).unwrap();
        fails_with(&run(&place, line), &[file, told]);
        fs::write(&path, before).unwrap();
    }
    succeeds(&place, resume);
}

#[test]
fn what_a_killed_program_left_is_removed_by_the_next_that_writes_there() {
    let place = Place::new();
    place.write_data();
    let left = |path: &str| {
        fs::write(place.path(path), "half").unwrap();
        place.path(path)
    };
    let own = left(".said.jsonl.Ab12cd.partial");
    let others = left(".other.jsonl.Ab12cd.partial");
    let line = format!(
        "explain --model sample --device cpu --output said.jsonl {}",
        image()
    );
    succeeds(&place, &line);
    assert!(!own.exists() && others.exists());

    assert!(place.train("r", &["--epochs", "1"]).status.success());
    let best = place.path("artifacts/r/best");
    let between = place.path("artifacts/r/.best.Ab12cd.partial");
    let scratch = left("artifacts/r/checkpoint/model-1.bpk.123-0.tmp");
    // Killed between the old model was moved away and the new one got its place.
    fs::create_dir(&between).unwrap();
    fs::rename(&best, between.join("old")).unwrap();
    succeeds(&place, "train --resume r --device cpu --ui plain");
    assert!(best.join("mapper.bpk").is_file() && !between.exists() && !scratch.exists());
}
