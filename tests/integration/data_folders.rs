//! Folders of images with texts or metadata, and WebDataset shards, as data sets.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clipcap::data::source::{self, CaptionData, Format};

fn image(side: u32) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(side, 4)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    png.into_inner()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with images of different widths.
fn folder_of(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in names.iter().enumerate() {
        write(&folder.path().join(name), &image(i as u32 + 1));
    }
    folder
}

fn load(folder: &Path) -> CaptionData {
    source::load(folder, &[]).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Names and captions.
fn found(data: &CaptionData) -> Vec<(&str, Vec<&str>)> {
    data.images
        .iter()
        .map(|image| {
            let captions = image.captions.iter().map(String::as_str);
            (image.file_name.as_str(), captions.collect())
        })
        .collect()
}

/// The widths of the images, which are opened where they are.
fn widths(data: &CaptionData) -> Vec<u32> {
    let open = |image: &source::CaptionedImage| image.source.as_ref().unwrap().open().unwrap();
    data.images
        .iter()
        .map(|image| open(image).width())
        .collect()
}

#[test]
fn texts_beside_images_are_read_under_all_their_names() {
    let folder = folder_of(&["a.png", "b.jpg", "c.jfif", "d", "sub/e.PNG"]);
    for (name, text) in [
        ("a.txt", "One.\n\n  Two   dogs. \r\nOne."),
        ("b.jpg.txt", "\u{feff}A caf\u{e9}."),
        ("c.caption", "Three."),
        ("c.TXT", "Four."),
        ("d.txt", "Five."),
        ("sub/e.txt", "Six."),
        ("notes.md", "no caption"),
        (".ipynb_checkpoints/a-checkpoint.txt", "no caption"),
        ("._a.txt", "\u{0}\u{5}"),
    ] {
        write(&folder.path().join(name), text.as_bytes());
    }
    write(
        &folder.path().join(".ipynb_checkpoints/a-checkpoint.png"),
        &image(9),
    );
    write(&folder.path().join("__MACOSX/a.png"), &image(9));
    let data = load(folder.path());
    assert_eq!(data.format, Format::Folder);
    assert_eq!(data.left_out.count, 0, "{:?}", data.left_out);
    let mut found = found(&data);
    found
        .iter_mut()
        .for_each(|(_, captions)| captions.sort_unstable());
    assert_eq!(
        found,
        [
            ("a.png", vec!["One.", "Two dogs."]),
            ("b.jpg", vec!["A café."]),
            ("c.jfif", vec!["Four.", "Three."]),
            ("d", vec!["Five."]),
            ("sub/e.PNG", vec!["Six."]),
        ]
    );
    assert_eq!(widths(&data), [1, 2, 3, 4, 5]);
}

#[test]
fn metadata_files_are_read_where_they_stand() {
    let folder = folder_of(&["train/0.png", "train/more/1.png", "test/0.png"]);
    write(
        &folder.path().join("train/metadata.jsonl"),
        b"{\"file_name\": \"0.png\", \"text\": \"One.\", \"x\": NaN}\r\n{\"file_name\": \"more\\\\1.png\", \"text\": [\"Two.\", \"Three.\"]}\r\n",
    );
    let utf16: Vec<u8> = "\u{feff}file_name,text\r\n0.png,\"Four, five.\"\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    write(&folder.path().join("test/metadata.csv"), &utf16);
    let data = load(folder.path());
    let mut found = found(&data);
    found.sort();
    assert_eq!(
        found,
        [
            ("test/0.png", vec!["Four, five."]),
            ("train/0.png", vec!["One."]),
            ("train/more/1.png", vec!["Two.", "Three."]),
        ]
    );
}

#[test]
fn what_of_a_folder_cannot_be_used_is_named_and_too_much_is_an_error() {
    let names: Vec<String> = (0..20).map(|i| format!("{i:02}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = folder_of(&names);
    for name in &names[1..] {
        let path = folder.path().join(name).with_extension("txt");
        write(&path, format!("Caption of {name}.").as_bytes());
    }
    write(&folder.path().join("05.txt"), b"caf\xe9");
    let data = load(folder.path());
    assert_eq!((data.images.len(), data.left_out.count), (18, 2));
    let named = data.left_out.named.join("\n");
    assert!(named.contains("05.txt: has the byte 0xE9"), "{named}");
    assert!(named.contains("image 00.png has no caption"), "{named}");

    let row = "{\"file_name\": \"gone.png\", \"text\": \"A ghost.\"}\n";
    write(&folder.path().join("metadata.jsonl"), row.as_bytes());
    let error = format!("{:#}", source::load(folder.path(), &[]).unwrap_err());
    for part in [
        "3 of 21 entries",
        "05.txt",
        "metadata.jsonl: line 1: is of gone.png",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}

#[test]
#[cfg(unix)]
fn names_that_are_no_text_and_links_in_circles_are_no_trouble() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder_of(&["a.png"]);
    write(&folder.path().join("a.txt"), b"One.");
    for (i, byte) in [0xe9, 0xe8].into_iter().enumerate() {
        let name = |ending: &str| {
            let bytes = [&[byte], ending.as_bytes()].concat();
            folder.path().join(std::ffi::OsStr::from_bytes(&bytes))
        };
        write(&name(".png"), &image(i as u32 + 2));
        write(&name(".txt"), format!("Caption {i}.").as_bytes());
    }
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    let data = load(folder.path());
    let mut captions: Vec<_> = data
        .images
        .iter()
        .flat_map(|image| &image.captions)
        .collect();
    captions.sort();
    assert_eq!(captions, ["Caption 0.", "Caption 1.", "One."]);
    let mut widths = widths(&data);
    widths.sort_unstable();
    assert_eq!(widths, [1, 2, 3]);
}

/// A tar file of members.
fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

/// One sample a shard but for what else is in the first.
fn shards(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let write_shard = |(i, name): (usize, &&str)| {
        let json = r#"{"caption": "One.", "captions": ["Two."], "x": NaN}"#;
        let mut members = vec![
            ("./0001.txt", b"\xef\xbb\xbfOne.\r\n".to_vec()),
            ("./0001.png", image(i as u32 + 1)),
            ("./0001.seg.png", image(99)),
            ("./._0001.txt", b"\0\x05".to_vec()),
            ("__MACOSX/0001.png", image(99)),
        ];
        if i == 0 {
            members.push(("./0001.json", json.into()));
        }
        let bytes = tar(&members);
        let path = folder.join(name);
        let lower = name.to_lowercase();
        match () {
            () if lower.ends_with("gz") => write(&path, &gzip(&bytes)),
            () if lower.ends_with("zst") => write(&path, &zstd(&bytes)),
            () => write(&path, &bytes),
        }
        path
    };
    names.iter().enumerate().map(write_shard).collect()
}

#[test]
fn shards_are_read_where_they_lie_compressed_ones_too() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["0.tar", "1.tar.gz", "2.tgz", "3.tar.zst", "4.TAR"];
    let paths = shards(folder.path(), &names);
    write(&folder.path().join("._0.tar"), b"\0\x05");
    let data = load(folder.path());
    assert_eq!(data.format, Format::WebDataset);
    assert_eq!(data.left_out.count, 0, "{:?}", data.left_out);
    assert_eq!(
        found(&data),
        [
            ("0/0001", vec!["One.", "Two."]),
            ("1/0001", vec!["One."]),
            ("2/0001", vec!["One."]),
            ("3/0001", vec!["One."]),
            ("4/0001", vec!["One."]),
        ]
    );
    assert_eq!(widths(&data), [1, 2, 3, 4, 5]);
    assert_eq!(widths(&load(&paths[3])), [4]);
}

#[test]
fn a_bad_member_is_named_and_costs_its_sample_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar");
    let names: Vec<String> = (0..20).map(|i| format!("{i:02}")).collect();
    let mut members = Vec::new();
    let files: Vec<_> = (names.iter())
        .map(|name| {
            (
                format!("{name}.png"),
                format!("{name}.json"),
                format!("{name}.txt"),
            )
        })
        .collect();
    for (i, (png, json, txt)) in files.iter().enumerate() {
        members.push((png.as_str(), image(i as u32 + 1)));
        match i {
            3 => members.push((json, b"{\"caption\":".to_vec())),
            7 => members.push((txt, b"caf\xe9".to_vec())),
            _ => members.push((txt, b"A caption.".to_vec())),
        }
    }
    write(&path, &tar(&members));
    let data = load(&path);
    assert_eq!((data.images.len(), data.left_out.count), (18, 2));
    let named = data.left_out.named.join("\n");
    for part in [
        "0.tar: member 03.json: is not JSON",
        "0.tar: member 07.txt: has the byte 0xE9",
    ] {
        assert!(named.contains(part), "no `{part}` in {named}");
    }
    members.push(("20.txt", b"A text without an image.".to_vec()));
    write(&path, &tar(&members));
    let error = format!("{:#}", source::load(&path, &[]).unwrap_err());
    assert!(
        error.contains("3 of 21 entries") && error.contains("0.tar"),
        "{error}"
    );

    let whole = tar(&members);
    write(&path, &whole[..whole.len() / 2 + 100]);
    let error = format!("{:#}", source::load(&path, &[]).unwrap_err());
    assert!(
        error.contains("0.tar") && error.contains("is not a whole tar file"),
        "{error}"
    );

    // A compressed one whose own checksum is wrong.
    let mut packed = gzip(&whole);
    let last = packed.len() - 5;
    packed[last] ^= 1;
    let damaged = folder.path().join("1.tar.gz");
    write(&damaged, &packed);
    let error = format!("{:#}", source::load(&damaged, &[]).unwrap_err());
    assert!(error.contains("1.tar.gz: download it again"), "{error}");
    fs::remove_file(damaged).unwrap();

    // A checksum of line breaks, which the error quotes.
    let mut odd = whole;
    odd[148..156].fill(b'\n');
    write(&path, &odd);
    let error = format!("{:#}", source::load(&path, &[]).unwrap_err());
    assert!(error.contains("0.tar") && !error.contains('\n'), "{error}");
}

#[test]
fn what_is_no_part_of_a_data_set_is_counted() {
    let folder = folder_of(&["a.png", "list.md", "sub/orphan.txt", "sub/b.jpg"]);
    write(&folder.path().join("words"), b"words");
    write(&folder.path().join("a.caption"), b"A.");
    write(&folder.path().join("sub/b.jpg.txt"), b"B.");
    let data = load(folder.path());
    let others = data.other_files.left_out("odd", "odd").unwrap();
    assert!(
        others.starts_with("3 files that are odd were left out: 1 .md ("),
        "{others}"
    );
    assert!(
        others.contains("sub/orphan.txt") || cfg!(windows),
        "{others}"
    );

    let folder = tempfile::tempdir().unwrap();
    let mut members = vec![("a.png", image(1)), ("a.txt", b"A.".to_vec())];
    members.push(("a.cls", b"7".to_vec()));
    write(&folder.path().join("0.tar"), &tar(&members));
    write(&folder.path().join("sizes.json"), b"{}");
    let others = load(folder.path())
        .other_files
        .left_out("odd", "odd")
        .unwrap();
    assert!(
        others.starts_with("2 files that are odd were left out: 1 .cls ("),
        "{others}"
    );
}
