//! A model folder back into the files it could have been made from: ClipCap's names, and Hugging Face's or open_clip's.
//! Converting them gives the same folder again, bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::store::burn_pack::{self, Reader};
use burn::tensor::Device;
use serde_json::{Value, json};

use super::clipcap;
use super::names;
use super::parameters::{Foreign, Parameter};
use super::safetensors_file::{self, Tensor};
use crate::captioner::model_folder::{EncoderConfig, ModelFolder, Part, tokenizer_file};
use crate::files;
use crate::models::clip::{
    ClipConfig, ClipTextConfig, ClipVisionConfig, ResNetConfig, VisionConfig,
};
use crate::models::gpt2::Gpt2Config;
use crate::nn::Activation;
use crate::tokenizer::{END_OF_TEXT, START_OF_TEXT, Tokenizer, TokenizerKind};

/// What stands before GPT-2's names in a ClipCap checkpoint.
const CLIPCAP_GPT2: (&str, &str) = ("gpt.transformer.", "gpt.");
/// The same in Hugging Face's files.
const HUGGING_FACE_GPT2: (&str, &str) = ("transformer.", "");

/// Writes a model folder in PyTorch's names: to a file ending in `.safetensors` mapper and GPT-2 as ClipCap has them; to a
/// folder that file as `captioner.safetensors`, and beside it `clip/` and `gpt2/`. Returns the files with weights.
///
/// # Errors
/// When the model lacks a part that is asked for, or the output is there already.
pub fn export(model: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let model = ModelFolder::open(model)?;
    if output
        .extension()
        .is_some_and(|ending| ending == "safetensors")
    {
        ensure!(
            !output.exists(),
            "{} is there already: delete it, or name another file",
            output.display()
        );
        files::check_file(output)?;
        write_captioner(&model, output)?;
        return Ok(vec![output.to_path_buf()]);
    }
    files::write_folder(output, |folder| {
        let mut written = Vec::new();
        if model.config.mapper.is_some() && model.config.gpt2.is_some() {
            write_captioner(&model, &folder.join("captioner.safetensors"))?;
            written.push(output.join("captioner.safetensors"));
        }
        if let Some(encoder) = &model.config.clip {
            let name = write_clip(&model, encoder, &folder.join("clip"))?;
            written.push(output.join("clip").join(name));
        }
        if let Some(gpt2) = &model.config.gpt2 {
            write_gpt2(&model, gpt2, &folder.join("gpt2"))?;
            written.push(output.join("gpt2/model.safetensors"));
        }
        Ok(written)
    })
}

/// ClipCap's `model.state_dict()`, head included, with the captioner's settings as a note.
fn write_captioner(model: &ModelFolder, path: &Path) -> Result<()> {
    let (captioner, gpt2) = (model.captioner_config()?, model.gpt2_config()?);
    let mut tensors = gpt2_tensors(model, gpt2, CLIPCAP_GPT2)?;
    if gpt2.tie_word_embeddings {
        let wte = "gpt.transformer.wte.weight";
        let wte = tensors.iter().find(|tensor| tensor.name == wte);
        let mut head = wte.context("GPT-2 has no wte")?.clone();
        head.name = "gpt.lm_head.weight".into();
        tensors.push(head);
    }
    let parameters = Parameter::all(&captioner.sizes.init(&Device::flex()));
    tensors.extend(collect(model, Part::Mapper, &parameters, names::clipcap)?);
    let notes = BTreeMap::from([
        ("format", "pt".to_string()),
        (clipcap::SETTINGS, serde_json::to_string(captioner)?),
    ]);
    safetensors_file::write(path, tensors, &notes)
}

fn write_gpt2(model: &ModelFolder, gpt2: &Gpt2Config, folder: &Path) -> Result<()> {
    files::create_dir(folder)?;
    let tensors = gpt2_tensors(model, gpt2, HUGGING_FACE_GPT2)?;
    let notes = BTreeMap::from([("format", "pt".to_string())]);
    safetensors_file::write(&folder.join("model.safetensors"), tensors, &notes)?;
    copy_vocabulary(model, TokenizerKind::Gpt2, folder)?;
    let end = model.load_tokenizer(TokenizerKind::Gpt2)?.end_of_text();
    let config = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": gpt2.vocab_size,
        "n_positions": gpt2.n_positions,
        "n_embd": gpt2.n_embd,
        "n_layer": gpt2.n_layer,
        "n_head": gpt2.n_head,
        "n_inner": gpt2.n_inner,
        "activation_function": gpt2.activation_function,
        "layer_norm_epsilon": gpt2.layer_norm_epsilon,
        "tie_word_embeddings": gpt2.tie_word_embeddings,
        "bos_token_id": end,
        "eos_token_id": end,
    });
    files::write_json(&folder.join("config.json"), &config)
}

/// Returns the name of the file with the weights.
fn write_clip(model: &ModelFolder, encoder: &EncoderConfig, folder: &Path) -> Result<&'static str> {
    files::create_dir(folder)?;
    let sizes = &encoder.sizes;
    let parameters = Parameter::all(&sizes.init(&Device::flex()));
    let notes = BTreeMap::from([("format", "pt".to_string())]);
    let vocabulary = model.path.join(tokenizer_file(TokenizerKind::Clip));
    let has_vocabulary = sizes.text.is_some() && vocabulary.is_file();
    if has_vocabulary {
        copy_vocabulary(model, TokenizerKind::Clip, folder)?;
    }
    match &sizes.vision {
        VisionConfig::Vit(vit) => {
            let name = "model.safetensors";
            let naming = |parameter: &Parameter| names::hugging_face_clip(parameter, "");
            let tensors = collect(model, Part::Clip, &parameters, naming)?;
            safetensors_file::write(&folder.join(name), tensors, &notes)?;
            let tokenizer = has_vocabulary
                .then(|| model.load_tokenizer(TokenizerKind::Clip))
                .transpose()?;
            let config = match &sizes.text {
                Some(text) => hugging_face_config(sizes, vit, text, tokenizer.as_ref()),
                None => hugging_face_vision_config(sizes, vit),
            };
            files::write_json(&folder.join("config.json"), &config)?;
            let preprocessor = folder.join("preprocessor_config.json");
            files::write_json(&preprocessor, &hugging_face_preprocessing(encoder))?;
            Ok(name)
        }
        VisionConfig::ResNet(resnet) => {
            let name = "open_clip_model.safetensors";
            let naming = |parameter: &Parameter| names::openai_clip(parameter, "", "");
            let tensors = collect(model, Part::Clip, &parameters, naming)?;
            safetensors_file::write(&folder.join(name), tensors, &notes)?;
            let config = open_clip_config(encoder, resnet)?;
            files::write_json(&folder.join("open_clip_config.json"), &config)?;
            Ok(name)
        }
    }
}

fn hugging_face_config(
    sizes: &ClipConfig,
    vit: &ClipVisionConfig,
    text_sizes: &ClipTextConfig,
    tokenizer: Option<&Tokenizer>,
) -> Value {
    let mut text = serde_json::to_value(text_sizes).unwrap_or_default();
    let mut vision = serde_json::to_value(vit).unwrap_or_default();
    for tower in [&mut text, &mut vision] {
        tower["projection_dim"] = sizes.projection_dim.into();
    }
    // Where the text ends is the highest id but in a vocabulary that says otherwise.
    let end = tokenizer.map_or(text_sizes.vocab_size - 1, |tokenizer| {
        tokenizer.end_of_text() as usize
    });
    text["eos_token_id"] = end.into();
    text["bos_token_id"] = end.saturating_sub(1).into();
    text["pad_token_id"] = end.into();
    json!({
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes.projection_dim,
        "text_config": text,
        "vision_config": vision,
    })
}

/// The settings of a vision tower that comes alone, as image-encoder folders have them.
fn hugging_face_vision_config(sizes: &ClipConfig, vit: &ClipVisionConfig) -> Value {
    let mut config = serde_json::to_value(vit).unwrap_or_default();
    config["architectures"] = json!(["CLIPVisionModelWithProjection"]);
    config["model_type"] = "clip_vision_model".into();
    config["projection_dim"] = sizes.projection_dim.into();
    config
}

fn hugging_face_preprocessing(encoder: &EncoderConfig) -> Value {
    let preprocessing = &encoder.preprocessing;
    let side = preprocessing.image_size;
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": true,
        "crop_size": {"height": side, "width": side},
        "do_rescale": true,
        "do_normalize": true,
        "image_mean": preprocessing.mean,
        "image_std": preprocessing.std,
    })
}

fn open_clip_config(encoder: &EncoderConfig, resnet: &ResNetConfig) -> Result<Value> {
    let ClipConfig {
        text,
        projection_dim,
        ..
    } = &encoder.sizes;
    let mut model = json!({
        "embed_dim": projection_dim,
        "vision_cfg": {
            "image_size": resnet.image_size,
            "layers": resnet.layers,
            "width": resnet.width,
            "head_width": resnet.embed_dim() / resnet.attention_heads,
        },
    });
    if let Some(text) = text {
        model["quick_gelu"] = match text.hidden_act {
            Activation::QuickGelu => true,
            Activation::Gelu => false,
            other => bail!("open_clip has no settings for a text tower with {other:?}"),
        }
        .into();
        model["text_cfg"] = json!({
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
        });
    }
    Ok(json!({
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": encoder.preprocessing.mean,
            "std": encoder.preprocessing.std,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }))
}

/// The vocabulary in the format of the `tokenizers` library, and the little that transformers wants beside it.
fn copy_vocabulary(model: &ModelFolder, kind: TokenizerKind, folder: &Path) -> Result<()> {
    let tokenizer = model.load_tokenizer(kind)?;
    tokenizer.save(&folder.join("tokenizer.json"))?;
    let settings = match kind {
        TokenizerKind::Clip => json!({
            "tokenizer_class": "CLIPTokenizer", "bos_token": START_OF_TEXT, "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT, "unk_token": END_OF_TEXT,
        }),
        TokenizerKind::Gpt2 => json!({"tokenizer_class": "PreTrainedTokenizerFast"}),
    };
    files::write_json(&folder.join("tokenizer_config.json"), &settings)
}

fn gpt2_tensors(
    model: &ModelFolder,
    gpt2: &Gpt2Config,
    (transformer, head): (&str, &str),
) -> Result<Vec<Tensor>> {
    let parameters = Parameter::all(&gpt2.init(&Device::flex()));
    collect(model, Part::Gpt2, &parameters, |parameter| {
        names::gpt2(parameter, transformer, head)
    })
}

/// One of a folder's weight files as foreign tensors, unread.
fn collect(
    model: &ModelFolder,
    part: Part,
    parameters: &[Parameter],
    naming: impl Fn(&Parameter) -> Foreign,
) -> Result<Vec<Tensor>> {
    let path = model.path.join(part.file_name());
    let unreadable =
        |error: burn_pack::Error| anyhow::anyhow!("{} cannot be read: {error}", path.display());
    let stored = Reader::from_file(&path)
        .and_then(Reader::into_tensors)
        .map_err(unreadable)?;
    let mut stored: BTreeMap<String, burn_pack::Tensor> = stored
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    // A layer's queries, keys and values come in this order, as the rows of the foreign tensor do.
    for parameter in parameters {
        let tensor = stored
            .remove(&parameter.path)
            .with_context(|| format!("{} lacks `{}`", path.display(), parameter.path))?;
        ensure!(
            tensor.shape.to_vec() == parameter.shape,
            "{}: `{}` is {:?}, where config.json beside it says {:?}",
            path.display(),
            parameter.path,
            tensor.shape.to_vec(),
            parameter.shape
        );
        let foreign = naming(parameter);
        let whole = tensors
            .entry(foreign.name.clone())
            .or_insert_with(|| Tensor::new(&foreign, parameter));
        whole
            .add(tensor, foreign.transposed)
            .with_context(|| path.display().to_string())?;
    }
    ensure!(
        stored.is_empty(),
        "{} holds what config.json beside it has no place for: {:?}",
        path.display(),
        stored.keys().next()
    );
    Ok(tensors.into_values().collect())
}
