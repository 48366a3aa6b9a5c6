//! Shards and records in Parquet, where it is built in.

#![cfg(feature = "parquet")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::common::image_files::{cut, png, write};
use crate::common::place::{INFER, Place, stderr};

const EMBED: [&str; 5] = ["embed", "--model", "model/tiny", "--device", "cpu"];

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn rows(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batches: Vec<_> = reader.with_batch_size(1 << 20).build().unwrap().collect();
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().unwrap().unwrap()
}

fn succeeds(place: &Place, args: &[&str]) {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn images_are_bytes_structs_or_paths_and_records_the_same() {
    let place = Place::new();
    let images: Vec<Option<Vec<u8>>> = vec![Some(png(0)), Some(cut(png(1))), None, Some(png(3))];
    let bytes =
        || -> ArrayRef { Arc::new(BinaryArray::from_iter(images.iter().map(Option::as_deref))) };
    let keys = || -> ArrayRef { Arc::new(StringArray::from(vec!["a", "b", "c", "d"])) };
    write_table(
        &place.path("in/bytes.parquet"),
        vec![("image", bytes()), ("key", keys())],
    );
    let paths = vec![Some("0.png"), Some("1.png"), None, Some("3.png")];
    let paths: ArrayRef = Arc::new(StringArray::from(paths));
    write(&place.path("in/0.png"), &png(0));
    write(&place.path("in/3.png"), &png(3));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9, 10]));
    write_table(
        &place.path("in/paths.parquet"),
        vec![("image_path", paths), ("id", ids)],
    );
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    let of_hugging_face: ArrayRef = Arc::new(StructArray::from(vec![
        (field("bytes", DataType::Binary), bytes()),
        (
            field("path", DataType::Utf8),
            Arc::new(StringArray::new_null(4)) as ArrayRef,
        ),
    ]));
    write_table(
        &place.path("in/struct.parquet"),
        vec![("image", of_hugging_face)],
    );
    let names = ["in/bytes.parquet", "in/paths.parquet", "in/struct.parquet"];
    succeeds(&place, &[&INFER[..], &["--output", "out"], &names].concat());
    let found =
        ["bytes", "paths", "struct"].map(|name| lines(&place.path(&format!("out/{name}.jsonl"))));
    let keys = [["a", "b", "d"], ["7", "8", "10"], ["0", "1", "3"]];
    for (records, keys) in found.iter().zip(keys) {
        assert_eq!(records.len(), 3);
        for ((record, key), row) in records.iter().zip(keys).zip([0, 1, 3]) {
            assert_eq!(
                (&record["key"], &record["member"]),
                (&key.into(), &format!("row {row}").into())
            );
            assert_eq!(record["error"].is_null(), key != keys[1], "{record}");
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
    let images: ArrayRef = Arc::new(BinaryArray::from_iter_values([png(0), cut(png(1)), png(2)]));
    write_table(&place.path("in/a.parquet"), vec![("image", images)]);
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
        let rows = rows(&place.path(&(folder + "-rows/a.parquet")));
        assert_eq!(rows.num_rows(), lines.len());
        for (row, line) in lines.iter().enumerate() {
            for (name, column) in rows.schema().fields().iter().zip(rows.columns()) {
                assert_eq!(cell(column, row), line[name.name()], "{name}");
            }
        }
        if command[0] == "embed" {
            let kind = rows
                .column_by_name("embedding")
                .unwrap()
                .data_type()
                .clone();
            assert!(matches!(kind, DataType::FixedSizeList(_, 8)), "{kind}");
        }
    }
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    // JSON has numbers as they are written: the shortest text of a float32.
    let float = |value: f32| serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::FixedSizeList(..) => {
            let values = column.as_fixed_size_list().value(row);
            let values = values.as_primitive::<Float32Type>();
            values.iter().map(|value| float(value.unwrap())).collect()
        }
        kind => panic!("{kind}"),
    }
}

#[test]
fn a_table_that_is_cut_off_or_without_images_fails_by_name() {
    let place = Place::new();
    let images: ArrayRef = Arc::new(BinaryArray::from_iter_values([png(0)]));
    write_table(&place.path("in/whole.parquet"), vec![("image", images)]);
    let whole = fs::read(place.path("in/whole.parquet")).unwrap();
    write(&place.path("in/cut.parquet"), &whole[..whole.len() / 2]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    write_table(&place.path("in/words.parquet"), vec![("words", texts)]);
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
