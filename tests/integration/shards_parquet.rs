//! Shards and records in Parquet, where it is built in.

#![cfg(feature = "parquet")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::common::image_files::{cut, png, write};
use crate::common::place::{INFER, Place, stderr};

const EMBED: [&str; 5] = ["embed", "--model", "model/tiny", "--device", "cpu"];

/// A column as it is written.
enum Column {
    Bytes(Vec<Option<Vec<u8>>>),
    Numbers(Vec<i64>),
}

/// Values that may be missing, in columns of one level (a struct's fields have two).
fn write_table(path: &Path, schema: &str, level: i16, columns: &[Column]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut writer = group.next_column().unwrap().unwrap();
        match column {
            Column::Bytes(values) => {
                let levels: Vec<i16> = values
                    .iter()
                    .map(|value| level * i16::from(value.is_some()))
                    .collect();
                let values: Vec<ByteArray> = values
                    .iter()
                    .flatten()
                    .map(|value| value.clone().into())
                    .collect();
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&levels), None)
                    .unwrap();
            }
            Column::Numbers(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, None, None)
                    .unwrap();
            }
        }
        writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// The rows of a file, as JSON has them.
fn rows(path: &Path) -> Vec<serde_json::Map<String, Value>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    let row = |row: parquet::record::Row| {
        let columns = row.into_columns().into_iter();
        columns.map(|(name, value)| (name, json(value))).collect()
    };
    rows.map(|found| row(found.unwrap())).collect()
}

fn json(value: Field) -> Value {
    match value {
        Field::Null => Value::Null,
        Field::Str(text) => text.into(),
        Field::Int(number) => number.into(),
        // Lines have the shortest text of a float32.
        Field::Float(number) => number.to_string().parse::<f64>().unwrap().into(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        other => panic!("{other:?}"),
    }
}

fn succeeds(place: &Place, args: &[&str]) {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn lines(path: &Path) -> Vec<serde_json::Map<String, Value>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn images_are_bytes_structs_or_paths() {
    let place = Place::new();
    let images = || Column::Bytes(vec![Some(png(0)), Some(cut(png(1))), None, Some(png(3))]);
    let texts = |texts: [Option<&str>; 4]| {
        Column::Bytes(texts.map(|text| text.map(|text| text.into())).to_vec())
    };
    write_table(
        &place.path("in/bytes.parquet"),
        "message m { optional binary image; optional binary key (STRING); }",
        1,
        &[
            images(),
            texts([Some("a"), Some("b"), Some("c"), Some("d")]),
        ],
    );
    write(&place.path("in/0.png"), &png(0));
    write(&place.path("in/3.png"), &png(3));
    write_table(
        &place.path("in/paths.parquet"),
        "message m { required int64 id; optional binary image_path (STRING); }",
        1,
        &[
            Column::Numbers(vec![7, 8, 9, 10]),
            texts([Some("0.png"), Some("1.png"), None, Some("3.png")]),
        ],
    );
    write_table(
        &place.path("in/struct.parquet"),
        "message m { optional group image { optional binary bytes; optional binary path (STRING); } }",
        2,
        &[images(), texts([None; 4])],
    );
    let names = ["in/bytes.parquet", "in/paths.parquet", "in/struct.parquet"];
    succeeds(&place, &[&INFER[..], &["--output", "out"], &names].concat());
    let found =
        ["bytes", "paths", "struct"].map(|name| lines(&place.path(&format!("out/{name}.jsonl"))));
    let keys = [["a", "b", "d"], ["7", "8", "10"], ["0", "1", "3"]];
    for (records, keys) in found.iter().zip(keys) {
        assert_eq!(records.len(), 3);
        for ((record, key), row) in records.iter().zip(keys).zip([0, 1, 3]) {
            assert_eq!(record["key"], key);
            assert_eq!(record["member"], format!("row {row}"));
            assert_eq!(record["error"].is_null(), key != keys[1], "{record:?}");
        }
        for row in [0, 2] {
            assert_eq!(records[row]["caption"], found[0][row]["caption"]);
        }
    }
    let error = |table: usize| found[table][1]["error"].as_str().unwrap();
    assert!(
        error(0).starts_with("bytes.parquet/row 1: is damaged: it is cut short"),
        "{}",
        error(0)
    );
    assert!(error(1).contains("1.png: no such file"), "{}", error(1));
}

#[test]
fn rows_have_what_lines_have() {
    let place = Place::new();
    let images = Column::Bytes(vec![Some(png(0)), Some(cut(png(1))), Some(png(2))]);
    write_table(
        &place.path("in/a.parquet"),
        "message m { optional binary image; }",
        1,
        &[images],
    );
    for command in [&INFER[..], &EMBED] {
        let run = |format, output: &str| {
            succeeds(
                &place,
                &[command, &["--format", format, "--output", output, "in"]].concat(),
            );
        };
        let folder = command[0].to_string();
        run("jsonl", &folder);
        run("parquet", &(folder.clone() + "-rows"));
        let lines = lines(&place.path(&(folder.clone() + "/a.jsonl")));
        assert_eq!(lines.len(), 3);
        assert_eq!(rows(&place.path(&(folder + "-rows/a.parquet"))), lines);
    }
}

#[test]
fn a_table_that_is_cut_off_or_without_images_fails_by_name() {
    let place = Place::new();
    let images = Column::Bytes(vec![Some(png(0))]);
    write_table(
        &place.path("in/whole.parquet"),
        "message m { optional binary image; }",
        1,
        &[images],
    );
    let whole = fs::read(place.path("in/whole.parquet")).unwrap();
    write(&place.path("in/cut.parquet"), &whole[..whole.len() / 2]);
    let words = Column::Bytes(vec![Some(b"a".to_vec())]);
    write_table(
        &place.path("in/words.parquet"),
        "message m { optional binary words (STRING); }",
        1,
        &[words],
    );
    let output = place.run(&[&INFER[..], &["--output", "out", "in"]].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "error: in/cut.parquet: the shard cannot be read: download it again, or take it out: is not a whole Parquet file",
        "error: in/words.parquet: ",
        "has no column of images (image, ",
        "3 shards: 1 finished, 2 failed",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}
