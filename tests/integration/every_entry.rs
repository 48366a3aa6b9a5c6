//! Every entry of a data set, and every image sent to the service, is used or refused by name, whatever it is: `train`,
//! `gap`, `evaluate`, `probe` and `serve` over folders of good, bad, hostile and odd entries. `inputs.rs` asks the
//! same of `infer` and `embed`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Output, Stdio};

use crate::common::entries::{Entries, Fate, count, is_refused, named, write_mixed};
use crate::common::image_files::{png, write};
use crate::common::place::{Place, fails_with, stderr, stdout};
use crate::common::process::signal;
use serde_json::Value;

/// Random entries of each case.
const ENTRIES: usize = 8;
/// Cases: together they have all kinds.
const CASES: usize = 3;

/// Random entries in a folder, among so many images.
fn write_among(folder: &Path, case: usize, images: u32) -> Entries {
    let mut entries = write_mixed(folder, case * ENTRIES, ENTRIES, case as u64);
    for n in 0..images {
        let path = folder.join(format!("image {n:03}.png"));
        write(&path, &png(n));
        entries.insert(path, Fate::Read);
    }
    entries
}

/// A caption beside each image, and beside what is said to be one; gives how many are beside none.
fn write_captions(entries: &Entries) -> usize {
    let mut alone = 0;
    for (path, &fate) in entries {
        if fate != Fate::Other {
            fs::write(path.with_extension("txt"), "A red circle.").unwrap();
            alone += usize::from(!path.is_file());
        }
    }
    alone
}

/// What was refused is named once with its reason, what is read is not, and nothing is said of the program's own faults.
fn assert_named(place: &Place, output: &Output, entries: &Entries) {
    let text = stderr(output);
    let lines: Vec<&str> = (text.lines())
        .filter(|line| line.starts_with("skipped ") || line.starts_with("left out: "))
        .collect();
    for (path, &fate) in entries {
        let name = named(&place.path(""), path);
        let about = |line: &&&str| line.contains(&format!(" {name}: "));
        let about: Vec<_> = lines.iter().filter(about).collect();
        match fate {
            Fate::Refused(reason) => {
                assert!(
                    about.len() == 1 && about[0].contains(reason),
                    "{name}: {text}"
                );
            }
            Fate::Read | Fate::Other => assert!(about.is_empty(), "{about:?}"),
        }
    }
    assert_eq!(lines.len(), count(entries, is_refused), "{text}");
    assert_no_fault(&text);
    assert_no_fault(&stdout(output));
}

fn assert_no_fault(text: &str) {
    for word in ["panicked", "backtrace", "RUST_", "unwrap"] {
        assert!(!text.contains(word), "{text}");
    }
}

fn says(output: &Output, part: &str) {
    let text = stderr(output);
    assert!(text.contains(part), "no `{part}` in: {text}");
}

/// Files that have no part in it are counted.
fn says_others(output: &Output, others: usize, what: &str) {
    match others {
        0 => assert!(!stderr(output).contains(what), "{}", stderr(output)),
        1 => says(output, &format!("1 file that is {what}")),
        _ => says(output, &format!("{others} files that are {what}")),
    }
}

#[test]
fn every_image_of_a_data_set_is_used_or_refused_by_name() {
    for case in 0..CASES {
        let place = Place::new();
        let entries = write_among(&place.path("photos"), case, 130);
        let alone = write_captions(&entries);
        let read = count(&entries, |fate| fate == Fate::Read);
        let refused = count(&entries, is_refused);
        let others = count(&entries, |fate| fate == Fate::Other) + alone;
        let model = "--model model/tiny --device cpu --data photos";
        let sizes = "--prefix-length 4 --clip-length 3 --layers 1 --batch-size 16";
        let train = format!("train {model} {sizes} --epochs 1 --ui plain --run a");
        let evaluate = format!("evaluate {model} --images photos --split all --resamples 0");
        for line in [format!("gap {model}"), train, evaluate] {
            let output = place.line(&line).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_named(&place, &output, &entries);
            says_others(&output, others, "neither");
            if line.starts_with("gap") {
                let counts = format!("{read} images, {read} captions");
                assert!(stdout(&output).starts_with(&counts), "{}", stdout(&output));
            } else if line.starts_with("train") {
                says(&output, &format!("{read} images with {read} captions"));
                says(&output, &format!(", {refused} entries left out: "));
            } else {
                says(&output, &format!("captioned {read}/{read} images"));
            }
        }
        let predictions = fs::read_to_string(place.path("predictions-all.json")).unwrap();
        let predictions: Vec<Value> = serde_json::from_str(&predictions).unwrap();
        assert_eq!(predictions.len(), read);
    }
}

#[test]
fn a_data_set_of_which_too_much_is_refused_is_an_error_of_one_line() {
    // The first case has one bad entry.
    for case in 1..CASES {
        let place = Place::new();
        let entries = write_among(&place.path("photos"), case, 12);
        write_captions(&entries);
        assert!(count(&entries, is_refused) * 9 > count(&entries, |fate| fate == Fate::Read));
        let model = "--model model/tiny --device cpu --data photos";
        for line in [
            format!("gap {model}"),
            format!("train {model} --epochs 1 --ui plain --run a"),
            format!("evaluate {model} --images photos --split all"),
        ] {
            let output = place.line(&line).output().unwrap();
            fails_with(&output, &["photos", " of ", "more than 10%"]);
            assert_no_fault(&stderr(&output));
        }
    }
}

#[test]
fn every_image_of_a_class_is_used_or_refused_by_name() {
    for case in 0..CASES {
        let place = Place::new();
        let mut entries = write_among(&place.path("classes/red"), case, 100);
        for n in 0..60 {
            let path = place.path(&format!("classes/blue/{n:02}.png"));
            write(&path, &png(n));
            entries.insert(path, Fate::Read);
        }
        // What is in no class.
        write(&place.path("classes/alone.png"), &png(1));
        entries.insert(place.path("classes/alone.png"), Fate::Other);
        let line =
            "probe --encoder model/tiny --device cpu --data classes --eval knn --neighbors 3";
        let output = place.line(line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_named(&place, &output, &entries);
        says_others(
            &output,
            count(&entries, |fate| fate == Fate::Other),
            "no image",
        );
        let text = stderr(&output);
        let embedded = |part: &str| -> usize {
            let last = text.lines().rfind(|line| line.ends_with(part)).unwrap();
            let (_, total) = last.split_once('/').unwrap();
            total.split(' ').next().unwrap().parse().unwrap()
        };
        let read = count(&entries, |fate| fate == Fate::Read);
        assert_eq!(embedded(" to train on") + embedded(" to test on"), read);
    }
}

/// The service while it runs.
struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Service {
    fn start(place: &Place) -> Self {
        let line = "serve --model model/tiny --device cpu --port 0 --log json --max-images 100";
        let mut child = place.line(line).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("no address: {line}"));
        Self {
            address: format!("http://{address}"),
            child,
            log,
        }
    }

    /// Status and answer.
    fn post(&self, kind: &str, body: &[u8]) -> (u16, Value) {
        let request = ureq::post(format!("{}/caption", self.address)).header("content-type", kind);
        let request = request
            .config()
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut answer = request.send(body).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_no_fault(&text);
        (
            answer.status().as_u16(),
            serde_json::from_str(&text).unwrap(),
        )
    }

    /// Ends it, and gives its log.
    fn stop(mut self) -> String {
        signal(&self.child, "-TERM");
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{text}");
        text
    }
}

/// It does not outlive a test that fails.
impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// What the service says of an image by itself or among others.
fn assert_answer(answer: &Value, fate: Fate, name: &str) {
    match fate {
        Fate::Read => assert!(
            answer["captions"][0]["caption"].is_string(),
            "{name}: {answer}"
        ),
        Fate::Refused(reason) => {
            let error = answer["error"]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: {answer}"));
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
        Fate::Other => assert!(answer["error"].is_string(), "{name}: {answer}"),
    }
}

#[test]
#[cfg(unix)]
fn every_image_sent_to_the_service_is_answered_in_its_place() {
    let place = Place::new();
    let mut entries = write_mixed(&place.path("sent"), 0, 40, 11);
    entries.retain(|path, _| path.is_file());
    let service = Service::start(&place);
    let mut form = Vec::new();
    for (path, &fate) in &entries {
        let bytes = fs::read(path).unwrap();
        // What is empty is not called so, but no image.
        let fate = match bytes.is_empty() {
            true => Fate::Other,
            false => fate,
        };
        let (status, answer) = service.post("application/octet-stream", &bytes);
        let name = path.display().to_string();
        assert_answer(&answer, fate, &name);
        assert_eq!(status == 200, fate == Fate::Read, "{name}: {status}");
        assert!(status < 500, "{name}: {status}");
        let head =
            "--xyz\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n";
        form.extend([head.as_bytes(), &bytes, b"\r\n"].concat());
    }
    form.extend(b"--xyz--\r\n");
    let (status, answer) = service.post("multipart/form-data; boundary=xyz", &form);
    assert_eq!(status, 200, "{answer}");
    let answers = answer["images"].as_array().unwrap();
    assert_eq!(answers.len(), entries.len());
    for (answer, (path, &fate)) in answers.iter().zip(&entries) {
        assert_answer(answer, fate, &path.display().to_string());
    }
    let log = service.stop();
    assert_no_fault(&log);
    let lines = log.lines().filter(|line| line.starts_with('{'));
    assert_eq!(lines.count(), entries.len() + 1, "{log}");
}
