//! Foreign checkpoints become model folders that compute what PyTorch computes (`fixtures/make_convert.py`), and come back as
//! they were.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Case, FLOAT32, assert_close, fixture, values};
use burn::store::burn_pack::{DType, Reader};
use burn::tensor::{Device, Tensor};
use clipcap::captioner::CaptionDecoder;
use clipcap::captioner::model_folder::{ModelConfig, ModelFolder};
use clipcap::convert::{ConvertConfig, Report, convert, export, read_training_set};
use clipcap::decode::{DecodeConfig, Strategy};
use clipcap::device::Precision;
use clipcap::models::clip::VisionConfig;
use clipcap::models::mapper::MapperKind;
use clipcap::nn::Activation;
use clipcap::tokenizer::TokenizerKind;
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    fixture("convert").join(name)
}

fn cases() -> Case {
    Case::open("../convert/cases")
}

/// A folder for what a test converts.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn try_convert(&self, clip: &str, gpt2: &str, captioner: &str) -> anyhow::Result<Report> {
        let given = |name: &str| (!name.is_empty()).then(|| path(name));
        convert(&ConvertConfig {
            clip: given(clip),
            gpt2: given(gpt2),
            captioner: given(captioner),
            normalize_embedding: None,
            output: self.path("model"),
        })
    }

    fn convert(&self, clip: &str, gpt2: &str, captioner: &str) -> ModelFolder {
        self.try_convert(clip, gpt2, captioner)
            .unwrap_or_else(|error| panic!("{clip} {gpt2} {captioner}: {error:#}"));
        ModelFolder::open(&self.path("model")).unwrap()
    }

    /// The message of a conversion that must fail, and that must leave nothing.
    fn fails(&self, clip: &str, gpt2: &str, captioner: &str) -> String {
        let error = self.try_convert(clip, gpt2, captioner).unwrap_err();
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 0, "{error:#}");
        format!("{error:#}")
    }
}

fn assert_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

/// Converts a CLIP and compares both towers with PyTorch's numbers under `case`.
fn check_clip(source: &str, case: &str, tolerance: f32) -> ModelConfig {
    let place = Place::new();
    let folder = place.convert(source, "", "");
    let (cases, device) = (cases(), Device::flex());
    let clip = folder.load_clip(&device).unwrap();
    let key = |what: &str| format!("{case}.{what}");
    let image = clip.encode_image(cases.tensor(&key("pixel_values"), &device));
    let text = clip.encode_text(
        cases.int_tensor(&key("tokens"), &device),
        cases.int_tensor(&key("eos_positions"), &device),
    );
    assert_close(
        &values(image),
        &cases.floats(&key("image")),
        tolerance,
        source,
    );
    assert_close(
        &values(text),
        &cases.floats(&key("text")),
        tolerance,
        source,
    );
    folder.config
}

#[test]
fn a_hugging_face_clip_equals_transformers() {
    let config = check_clip("clip_hf", "clip_hf", FLOAT32);
    let preprocessing = config.clip.unwrap().preprocessing;
    assert_eq!(preprocessing.mean, [0.4, 0.5, 0.6]);
    assert_eq!(preprocessing.std, [0.2, 0.3, 0.4]);
}

#[test]
fn a_clip_in_shards_and_float16_equals_transformers_as_far_as_float16_goes() {
    check_clip("clip_sharded", "clip_hf", 1e-2);
}

#[test]
fn a_clip_in_a_pytorch_file_equals_transformers() {
    check_clip("clip_bin", "clip_hf", FLOAT32);
}

#[test]
fn a_torchscript_archive_of_openais_equals_open_clip() {
    let config = check_clip("clip_openai/ViT.pt", "clip_openai", FLOAT32);
    let VisionConfig::Vit(vit) = config.clip.unwrap().sizes.vision else {
        panic!("a vision transformer");
    };
    assert_eq!(vit.hidden_act, Activation::QuickGelu);
}

#[test]
fn a_resnet_with_attention_pooling_equals_open_clip() {
    let config = check_clip("clip_resnet", "clip_resnet", FLOAT32);
    let VisionConfig::ResNet(resnet) = config.clip.unwrap().sizes.vision else {
        panic!("a ResNet");
    };
    assert_eq!((resnet.layers, resnet.attention_heads), ([1, 2, 1, 1], 2));
}

#[test]
fn an_open_clip_folder_equals_open_clip_with_its_own_settings() {
    let clip = check_clip("clip_open_clip", "clip_open_clip", FLOAT32)
        .clip
        .unwrap();
    let VisionConfig::Vit(vit) = clip.sizes.vision else {
        panic!("a vision transformer");
    };
    assert_eq!(
        (vit.hidden_act, vit.num_attention_heads),
        (Activation::Gelu, 2)
    );
    assert_eq!(clip.preprocessing.mean, [0.5; 3]);
}

#[test]
fn half_weights_stay_half_on_disk() {
    let place = Place::new();
    place.convert("clip_openai/ViT.pt", "", "");
    let tensors = Reader::from_file(place.path("model/clip.bpk")).unwrap();
    let tensors = tensors.into_tensors().unwrap();
    assert!(tensors.iter().all(|tensor| tensor.dtype == DType::F16));
}

#[test]
fn a_clip_without_vocabulary_embeds_images_and_says_so_for_sentences() {
    let place = Place::new();
    let report = place.try_convert("clip_resnet", "", "").unwrap();
    assert_parts(
        &report.to_string(),
        &["no CLIP vocabulary", "quick-GELU is taken"],
    );
    let folder = ModelFolder::open(&place.path("model")).unwrap();
    let error = folder.load_tokenizer(TokenizerKind::Clip).unwrap_err();
    assert_parts(&format!("{error:#}"), &["clip-tokenizer.json is missing"]);
}

fn check_gpt2(source: &str, case: &str) -> ModelConfig {
    let place = Place::new();
    let folder = place.convert("", source, "");
    let (cases, device) = (cases(), Device::flex());
    let gpt2 = folder.load_gpt2(&device).unwrap();
    let tokens = cases.int_tensor(&format!("{case}.tokens"), &device);
    let hidden = gpt2.forward(gpt2.embed_tokens(tokens));
    let [b, t, c] = hidden.dims();
    let logits = values(gpt2.logits(hidden.reshape([b * t, c])));
    assert_close(
        &logits,
        &cases.floats(&format!("{case}.logits")),
        FLOAT32,
        source,
    );
    folder.config
}

#[test]
fn a_gpt2_without_prefix_and_with_old_masks_equals_transformers() {
    let config = check_gpt2("gpt2", "gpt2").gpt2.unwrap();
    assert!(config.tie_word_embeddings);
}

#[test]
fn a_gpt2_with_prefix_in_float16_and_an_untied_head_equals_transformers() {
    let config = check_gpt2("gpt2_untied", "gpt2_untied").gpt2.unwrap();
    assert!(!config.tie_word_embeddings);
    assert_eq!(config.activation_function, Activation::Gelu);
}

/// Converts a captioner and compares prefix, greedy and beam captions with the reference's.
fn check_captioner(name: &str) -> ModelConfig {
    let place = Place::new();
    let folder = place.convert("clip_hf", "gpt2", &format!("{name}.pt"));
    let (cases, device) = (cases(), Device::flex());
    let key = |what: &str| format!("{name}.{what}");
    let texts: Value =
        serde_json::from_str(&fs::read_to_string(path("texts.json")).unwrap()).unwrap();
    let texts = &texts[name];
    let captioner = folder.captioner_config().unwrap();
    let mut embedding: Tensor<2> = cases.tensor(&key("embedding"), &device);
    let rows: Vec<Vec<f32>> = cases
        .floats(&key("embedding"))
        .chunks(20)
        .map(<[f32]>::to_vec)
        .collect();
    if captioner.normalize_embedding {
        embedding = clipcap::nn::normalize(embedding);
    }
    let prefix = folder.load_mapper(&device).unwrap().forward(embedding);
    assert_close(
        &values(prefix),
        &cases.floats(&key("prefix")),
        FLOAT32,
        name,
    );

    let decoder = CaptionDecoder::load(&folder, &device, Precision::F32).unwrap();
    assert_eq!(decoder.decode_config(Strategy::Greedy).max_length, 67);
    let decode = |strategy| {
        let config: DecodeConfig = decoder.decode_config(strategy);
        decoder.caption(&rows, &config).unwrap()
    };
    let (greedy, beams) = (
        decode(Strategy::Greedy),
        decode(Strategy::Beam { beam_size: 5 }),
    );
    for i in 0..rows.len() {
        let expected = cases.ints(&key(&format!("greedy_{i}")));
        assert_eq!(signed(&greedy[i][0].tokens), expected, "{name}, image {i}");
        let text = decoder.tokenizer.decode(&greedy[i][0].tokens).unwrap();
        assert_eq!(
            text,
            texts["greedy"][i].as_str().unwrap(),
            "{name}, image {i}"
        );
        let lengths = cases.ints(&key(&format!("beam_lengths_{i}")));
        let ids = cases.ints(&key(&format!("beam_ids_{i}")));
        assert_eq!(beams[i].len(), 5);
        for (rank, found) in beams[i].iter().enumerate() {
            let expected = &ids[rank * 67..][..lengths[rank] as usize];
            assert_eq!(
                signed(&found.tokens),
                expected,
                "{name}, image {i}, rank {rank}"
            );
            let text = decoder.tokenizer.decode(&found.tokens).unwrap();
            assert_eq!(text, texts["beam"][i][rank].as_str().unwrap());
        }
        let scores: Vec<f32> = beams[i].iter().map(|found| found.score).collect();
        assert_close(
            &scores,
            &cases.floats(&key(&format!("beam_scores_{i}"))),
            FLOAT32,
            name,
        );
    }
    folder.config
}

fn signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

#[test]
fn a_captioner_with_an_mlp_and_old_masks_captions_as_clipcap() {
    let mapper = check_captioner("captioner_mlp").mapper.unwrap();
    assert_eq!(mapper.sizes.kind, MapperKind::Mlp);
    assert!(!mapper.normalize_embedding);
}

#[test]
fn a_captioner_with_a_transformer_in_a_legacy_file_in_float16_captions_as_clipcap() {
    let mapper = check_captioner("captioner_transformer").mapper.unwrap();
    let kind = MapperKind::Transformer {
        clip_length: 3,
        layers: 2,
        heads: 8,
    };
    assert_eq!((mapper.sizes.kind, mapper.sizes.prefix_length), (kind, 5));
    assert!(mapper.normalize_embedding);
}

#[test]
fn a_captioner_with_a_linear_mapper_and_the_old_prefix_captions_as_clipcap() {
    let mapper = check_captioner("captioner_linear").mapper.unwrap();
    assert_eq!(
        (mapper.sizes.kind, mapper.sizes.prefix_length),
        (MapperKind::Linear, 12)
    );
}

#[test]
fn the_report_says_what_was_read_kept_and_dropped() {
    let place = Place::new();
    let report = place
        .try_convert("clip_hf", "gpt2", "captioner_mlp.pt")
        .unwrap();
    let lines = report.to_string();
    assert_parts(
        &lines,
        &["clip ", "dropped text_model.embeddings.position_ids"],
    );
    assert_parts(
        &lines,
        &["only settings and vocabulary are taken", "wrote "],
    );
    let source: Value =
        serde_json::from_str(&fs::read_to_string(place.path("model/source.json")).unwrap())
            .unwrap();
    let gpt2 = &source["gpt2"];
    let hash = clipcap::files::sha256(&path("captioner_mlp.pt")).unwrap();
    assert_eq!(gpt2["files"][0]["sha256"], hash.as_str());
    let dropped: Vec<&str> = gpt2["dropped"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        dropped.contains(&"gpt.transformer.h.1.attn.masked_bias"),
        "{dropped:?}"
    );
    assert!(dropped.contains(&"gpt.lm_head.weight"), "{dropped:?}");
    assert!(
        !dropped.iter().any(|name| name.contains("c_attn")),
        "{dropped:?}"
    );
}

#[test]
fn a_pickle_that_would_run_something_is_refused_and_nothing_is_run() {
    let message = Place::new().fails("clip_hf", "gpt2", "evil.pt");
    assert_parts(
        &message,
        &["evil.pt", "posix.system", "nothing of it was run"],
    );
    assert!(!Path::new("pwned").exists());
}

#[test]
fn a_mapper_of_another_width_than_clip_names_both() {
    let message = Place::new().fails("clip_resnet", "gpt2", "captioner_mlp.pt");
    assert_parts(
        &message,
        &[
            "captioner_mlp.pt",
            "20 values",
            "clip_resnet",
            "28",
            "give --clip",
        ],
    );
}

#[test]
fn networks_in_each_others_place_are_told_apart() {
    let place = Place::new();
    assert_parts(&place.fails("gpt2", "", ""), &["gpt2", "is no CLIP"]);
    assert_parts(&place.fails("", "clip_hf", ""), &["clip_hf", "is no GPT-2"]);
    let message = place.fails("clip_hf", "gpt2", "gpt2/model.safetensors");
    assert_parts(&message, &["has no mapper of ClipCap's"]);
    assert_parts(&place.fails("nowhere", "", ""), &["nowhere does not exist"]);
    assert_parts(
        &place.fails("", "captioner_mlp.pt", ""),
        &["no place for: `clip_project.model.0.bias`"],
    );
}

/// A copy of a fixture folder with one file changed.
fn changed(
    place: &Place,
    source: &str,
    file: &str,
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> PathBuf {
    let folder = place.path("changed");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(path(source)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let bytes = fs::read(folder.join(file)).unwrap();
    fs::write(folder.join(file), change(bytes)).unwrap();
    folder
}

fn convert_changed(source: &str, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let place = Place::new();
    let folder = changed(&place, source, file, change);
    let is_clip = source.starts_with("clip");
    let error = convert(&ConvertConfig {
        clip: is_clip.then(|| folder.clone()),
        gpt2: (!is_clip).then_some(folder),
        output: place.path("model"),
        ..ConvertConfig::default()
    });
    assert_eq!(
        fs::read_dir(place.0.path()).unwrap().count(),
        1,
        "only the source is left"
    );
    format!("{:#}", error.unwrap_err())
}

fn replace(from: &str, to: &str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    let (from, to) = (from.to_string(), to.to_string());
    move |bytes| {
        // Latin-1 keeps every byte.
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        assert!(text.contains(&from), "no {from}");
        text.replace(&from, &to)
            .chars()
            .map(|char| char as u8)
            .collect()
    }
}

#[test]
fn missing_leftover_misshaped_and_cut_off_tensors_are_named() {
    let message = convert_changed(
        "gpt2",
        "model.safetensors",
        replace("\"h.1.ln_2.bias\"", "\"h.1.ln_9.bias\""),
    );
    assert_parts(&message, &["lacks `h.1.ln_2.bias`"]);
    let message = convert_changed(
        "gpt2",
        "model.safetensors",
        replace("h.1.attn.masked_bias", "h.1.attn.others_bias"),
    );
    assert_parts(&message, &["no place for: `h.1.attn.others_bias`"]);
    let message = convert_changed("gpt2", "model.safetensors", |mut bytes| {
        bytes.truncate(bytes.len() - 5);
        bytes
    });
    assert_parts(&message, &["model.safetensors", "tensor `", "cut short"]);
    let message = convert_changed("clip_bin", "pytorch_model.bin", |mut bytes| {
        bytes.truncate(bytes.len() / 2);
        bytes
    });
    assert_parts(&message, &["pytorch_model.bin", "zip archive"]);
}

#[test]
fn settings_that_do_not_go_with_the_weights_are_named() {
    let message = convert_changed(
        "gpt2",
        "config.json",
        replace("\"n_embd\": 32", "\"n_embd\": 64"),
    );
    assert_parts(&message, &["config.json", "n_embd is 64", "have 32"]);
    let message = convert_changed(
        "clip_hf",
        "preprocessor_config.json",
        replace("\"resample\": 3", "\"resample\": 2"),
    );
    assert_parts(&message, &["preprocessor_config.json", "resample is 2"]);
    let message = convert_changed("gpt2", "config.json", replace("gelu_new", "swish"));
    assert_parts(&message, &["activation_function is `swish`"]);
    let message = convert_changed(
        "gpt2",
        "config.json",
        replace("\"n_head\": 4", "\"n_head\": 5"),
    );
    assert_parts(&message, &["n_head is 5", "32"]);
}

#[test]
fn a_folder_that_is_there_is_not_written_over() {
    let place = Place::new();
    place.convert("clip_resnet", "", "");
    let error = place.try_convert("clip_resnet", "", "").unwrap_err();
    assert_parts(&format!("{error:#}"), &["model is there already"]);
}

/// Weights, configuration and vocabularies, byte for byte.
fn assert_same_folder(a: &Path, b: &Path) {
    for name in [
        "config.json",
        "clip.bpk",
        "gpt2.bpk",
        "mapper.bpk",
        "gpt2-tokenizer.json",
        "clip-tokenizer.json",
    ] {
        let read = |folder: &Path| fs::read(folder.join(name)).ok();
        assert!(read(a) == read(b), "{name} differs");
    }
}

#[test]
fn what_is_exported_and_converted_again_is_the_same_bit_for_bit() {
    let sources = [
        ("clip_hf", "gpt2", "captioner_transformer.pt"),
        ("clip_open_clip", "gpt2", "captioner_linear.pt"),
        ("clip_openai/ViT.pt", "gpt2", "captioner_mlp.pt"),
        ("clip_resnet", "gpt2_untied", ""),
    ];
    for (clip, gpt2, captioner) in sources {
        let place = Place::new();
        place.convert(clip, gpt2, captioner);
        let exported = place.path("exported");
        export(&place.path("model"), &exported).unwrap();
        convert(&ConvertConfig {
            clip: Some(exported.join("clip")),
            gpt2: Some(exported.join("gpt2")),
            captioner: (!captioner.is_empty()).then(|| exported.join("captioner.safetensors")),
            normalize_embedding: None,
            output: place.path("again"),
        })
        .unwrap_or_else(|error| panic!("{clip}: {error:#}"));
        assert_same_folder(&place.path("model"), &place.path("again"));
    }
}

#[test]
fn an_exported_captioner_alone_has_clipcaps_names_and_keeps_its_settings() {
    let place = Place::new();
    let model = place.path("tiny");
    crate::common::model::write_model(&model);
    let file = place.path("captioner.safetensors");
    export(&model, &file).unwrap();
    let bytes = fs::read(&file).unwrap();
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in [
        "gpt.lm_head.weight",
        "gpt.transformer.h.0.attn.c_attn.bias",
        "clip_project.prefix_const",
    ] {
        assert!(names.tensor(name).is_ok(), "{name}");
    }
    assert!(export(&model, &file).is_err(), "a file is not written over");
}

#[test]
fn a_training_pickle_gives_captions_and_an_embedding_an_image() {
    let place = Place::new();
    let set = read_training_set(&path("training.pkl")).unwrap();
    assert_eq!((set.clip_dim, set.captions.len()), (20, 3));
    assert_eq!(set.captions[1].caption, "Un café.");
    let written = set.write(&place.path("data")).unwrap();
    assert_eq!((written.images, written.captions), (2, 3));
    let coco = clipcap::data::source::load(&place.path("data/captions.json"), &[]).unwrap();
    assert_eq!(
        coco.images[0].captions,
        ["A red circle.", "A circle that is red."]
    );
    let bytes = fs::read(place.path("data/embeddings.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected: Vec<u8> = cases()
        .floats("training.embedding")
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    assert_eq!(tensors.tensor("clip_embedding").unwrap().data(), expected);
}
