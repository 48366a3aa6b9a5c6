//! Checkpoints as people have them: wrapped, cut down to a tower, damaged, or no checkpoints at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::place::{INFER, Place, fails_with, image, stderr, stdout};
use crate::common::{FLOAT32, assert_close, fixture};
use burn::tensor::Device;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::captioner::{Captioner, ImageEncoder};
use clipcap::convert::{ConvertConfig, Report, convert, export, read_training_set};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

/// A tensor's name and its bytes.
type Named<'a> = (String, TensorView<'a>);

fn source(name: &str) -> PathBuf {
    fixture("convert").join(name)
}

/// A copy of a fixture folder whose `model.safetensors` holds other tensors.
fn changed(
    from: &str,
    to: &Path,
    change: impl for<'a> Fn(Named<'a>) -> Option<Named<'a>>,
) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(source(from)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let path = to.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter_map(change);
    fs::write(&path, safetensors::serialize(kept, None).unwrap()).unwrap();
    to.to_path_buf()
}

fn as_it_is(named: Named<'_>) -> Option<Named<'_>> {
    Some(named)
}

fn convert_clip(clip: &Path, output: &Path) -> anyhow::Result<Report> {
    convert(&ConvertConfig {
        clip: Some(clip.to_path_buf()),
        output: output.to_path_buf(),
        ..ConvertConfig::default()
    })
}

fn error_of(clip: &Path) -> String {
    let place = tempfile::tempdir().unwrap();
    let error = convert_clip(clip, &place.path().join("model")).unwrap_err();
    let left = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left of it: {error:#}");
    format!("{error:#}")
}

fn is_vision(name: &str) -> bool {
    name.starts_with("vision_model.") || name.starts_with("visual_projection.")
}

/// CLIP's vision tower as `CLIPVisionModelWithProjection` saves it.
fn vision_alone(to: &Path) -> PathBuf {
    let folder = changed("clip_hf", to, |(name, view)| {
        is_vision(&name).then_some((name, view))
    });
    for file in ["vocab.json", "merges.txt"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    let path = folder.join("config.json");
    let whole: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut config = whole["vision_config"].clone();
    config["architectures"] = serde_json::json!(["CLIPVisionModelWithProjection"]);
    config["model_type"] = "clip_vision_model".into();
    config["projection_dim"] = whole["projection_dim"].clone();
    fs::write(&path, config.to_string()).unwrap();
    folder
}

fn embedding(model: &Path) -> Vec<f32> {
    let folder = ModelFolder::open(model).unwrap();
    let encoder = ImageEncoder::load(&folder, &Device::flex()).unwrap();
    let image = clipcap::images::open(Path::new(&image())).unwrap();
    encoder.embed_images(&[image]).unwrap().remove(0)
}

#[test]
fn a_vision_tower_alone_gives_the_whole_clips_embeddings() {
    let place = tempfile::tempdir().unwrap();
    let alone = vision_alone(&place.path().join("alone"));
    let (whole, part) = (place.path().join("whole"), place.path().join("part"));
    convert_clip(&source("clip_hf"), &whole).unwrap();
    let report = convert_clip(&alone, &part).unwrap().to_string();
    assert!(report.contains("the vision tower alone"), "{report}");
    let (expected, found) = (embedding(&whole), embedding(&part));
    assert_eq!(found.len(), 20);
    assert_close(&found, &expected, FLOAT32, "embedding");

    // And back: what is exported is such a folder again.
    let exported = place.path().join("exported");
    export(&part, &exported).unwrap();
    let config = fs::read_to_string(exported.join("clip/config.json")).unwrap();
    assert!(config.contains("clip_vision_model"), "{config}");
    let again = place.path().join("again");
    convert_clip(&exported.join("clip"), &again).unwrap();
    for file in ["clip.bpk", "config.json"] {
        let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(read(&part) == read(&again), "{file} differs");
    }
}

#[test]
fn a_tower_alone_in_the_other_names_is_one_too() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("exported");
    let model = place.path().join("model");
    convert_clip(&source("clip_resnet"), &model).unwrap();
    export(&model, &folder).unwrap();
    let clip = folder.join("clip");
    let path = clip.join("open_clip_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let visual = (tensors.tensors().into_iter()).filter(|(name, _)| name.starts_with("visual."));
    fs::write(&path, safetensors::serialize(visual, None).unwrap()).unwrap();
    let part = place.path().join("part");
    convert_clip(&clip, &part).unwrap();
    assert_close(&embedding(&part), &embedding(&model), FLOAT32, "embedding");
    let again = place.path().join("again");
    export(&part, &again).unwrap();
    convert_clip(&again.join("clip"), &place.path().join("third")).unwrap();
}

#[test]
fn a_tower_alone_captions_and_what_embeds_texts_asks_for_the_other() {
    let place = Place::new();
    place.write_data();
    let alone = vision_alone(&place.path("alone"));
    convert(&ConvertConfig {
        clip: Some(alone),
        gpt2: Some(source("gpt2")),
        captioner: Some(source("captioner_mlp.pt")),
        normalize_embedding: None,
        output: place.path("model/alone"),
    })
    .unwrap();
    let builder = Captioner::builder().device(&Device::flex());
    builder.load(place.path("model/alone")).unwrap();
    let args = ["--model", "model/alone", "--device", "cpu"];
    let output = place.run(&[&["infer"], &args[..], &[&image()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(": "), "{}", stdout(&output));

    let data = ["--data", "data/captions.json", "--images", "data/images"];
    let rerank = ["infer", "--rerank", "clip", "--decode", "beam"];
    for asking in [
        [&rerank[..], &args, &[&image()]].concat(),
        [&["gap"], &args[..], &data].concat(),
        [&["train", "--learn-from", "captions"], &args[..], &data].concat(),
    ] {
        let output = place.run(&asking);
        fails_with(
            &output,
            &["model/alone", "vision tower alone", "whole CLIP"],
        );
    }
}

#[test]
fn a_vision_tower_without_its_projection_is_told_what_it_lacks() {
    let place = tempfile::tempdir().unwrap();
    let folder = changed("clip_hf", &place.path().join("bare"), |(name, view)| {
        name.starts_with("vision_model.").then_some((name, view))
    });
    let error = error_of(&folder);
    assert!(error.contains("CLIPVisionModelWithProjection"), "{error}");
}

#[test]
fn wrappers_of_any_order_and_depth_are_taken_off_and_told() {
    let place = tempfile::tempdir().unwrap();
    let plain = place.path().join("plain");
    convert_clip(&source("clip_hf"), &plain).unwrap();
    for (number, wrapper) in [
        "module.",
        "_orig_mod.module.",
        "model.net.module.",
        "net.model.",
    ]
    .into_iter()
    .enumerate()
    {
        let wrapped = place.path().join(format!("wrapped-{number}"));
        let folder = changed("clip_hf", &wrapped, |(name, view)| {
            // Parts of a network may be wrapped alone.
            let name = name.replace("vision_model.encoder", "vision_model._orig_mod.encoder");
            Some((format!("{wrapper}{name}"), view))
        });
        let model = place.path().join(format!("model-{number}"));
        let report = convert_clip(&folder, &model).unwrap().to_string();
        assert!(report.contains(&format!("`{wrapper}`")), "{report}");
        let read = |folder: &Path| fs::read(folder.join("clip.bpk")).unwrap();
        assert!(read(&plain) == read(&model), "{wrapper}");
    }
}

#[test]
fn two_networks_in_one_file_are_not_mixed() {
    let place = tempfile::tempdir().unwrap();
    let folder = changed("clip_hf", &place.path().join("both"), as_it_is);
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let ones: Vec<Vec<u8>> = (tensors.iter())
        .map(|(_, view)| vec![1; view.data().len()])
        .collect();
    let others = (tensors.iter().zip(&ones)).map(|((name, view), ones)| {
        let other = TensorView::new(view.dtype(), view.shape().to_vec(), ones).unwrap();
        (format!("module.{name}"), other)
    });
    let both = tensors.clone().into_iter().chain(others);
    fs::write(&path, safetensors::serialize(both, None).unwrap()).unwrap();
    let error = error_of(&folder);
    assert!(
        error.contains("both `") && error.contains("module."),
        "{error}"
    );
}

#[test]
fn weights_that_are_no_numbers_are_named_and_counted() {
    let place = tempfile::tempdir().unwrap();
    for (number, (values, told)) in [
        (
            &[f32::NAN, f32::NAN, f32::INFINITY][..],
            "3 of its 32 values are not finite (2 NaN, 1 infinite)",
        ),
        (
            &[f32::NEG_INFINITY][..],
            "1 of its 32 values are not finite (0 NaN, 1 infinite)",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = "vision_model.post_layernorm.weight";
        let folder = changed("clip_hf", &place.path().join(number.to_string()), as_it_is);
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut changed = tensors.tensor(name).unwrap().data().to_vec();
        for (place, value) in values.iter().enumerate() {
            changed[4 * place..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let tensors = tensors.tensors().into_iter().map(|(this, view)| {
            let data = if this == name { &changed } else { view.data() };
            let view = TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap();
            (this, view)
        });
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let error = error_of(&folder);
        for part in [name, told, &folder.display().to_string()] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }
}

#[test]
fn files_that_are_no_weights_are_called_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let mut zip = Vec::new();
    {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(&mut zip));
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        writer.start_file("holiday/notes.txt", options).unwrap();
        writer.finish().unwrap();
    }
    let page = b"<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title>";
    for (bytes, told) in [
        (&b""[..], "it is empty"),
        (page, "it is a web page"),
        (
            b"{\"error\":\"Entry not found\"}",
            "it is JSON, not weights",
        ),
        (
            b"Access denied",
            "it is a text, not weights (it begins `Access denied`)",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "Git LFS pointer",
        ),
        (&[0; 4096], "nothing but zeros"),
        (
            &zip,
            "a zip archive without a data.pkl (it holds holiday/notes.txt)",
        ),
        (b"\x1f\x8b\x08\x00\xff\xff", "a gzip file"),
    ] {
        let path = place.path().join("coco_weights.pt");
        fs::write(&path, bytes).unwrap();
        let error = error_of(&path);
        assert!(error.contains("coco_weights.pt: "), "{error}");
        assert!(error.contains(told), "no `{told}` in: {error}");
        assert!(!error.contains('\n'), "{error}");
        let error = format!("{:#}", read_training_set(&path).unwrap_err());
        assert!(error.contains("coco_weights.pt"), "{error}");
    }
}

#[test]
fn an_unknown_key_of_a_model_folder_comes_with_the_one_that_was_meant() {
    let place = Place::new();
    let config = place.path("model/tiny/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("\"n_layer\"", "\"n_layers\"", 1)).unwrap();
    let output = place.run(&[&INFER[..], &[&image()]].concat());
    fails_with(
        &output,
        &["config.json", "`n_layers`: did you mean `n_layer`?"],
    );
    for (text, told) in [("", "it is empty"), ("<html>", "it is a web page")] {
        fs::write(&config, text).unwrap();
        let output = place.run(&[&INFER[..], &[&image()]].concat());
        fails_with(&output, &["config.json", told]);
    }
}
