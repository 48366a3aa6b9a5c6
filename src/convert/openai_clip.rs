//! Sizes of a CLIP in OpenAI's names, which open_clip keeps. Most are read off the tensors, as OpenAI's own
//! `build_model` does (`clip/model.py`, d05afc4); the rest stands in `open_clip_config.json`, where there is one.

use anyhow::{Result, ensure};

use super::clip::{HEAD_WIDTH, LAYER_NORM_EPS, Layout, VISION_ALONE};
use super::names;
use super::origin::{Settings, Shapes};
use crate::models::clip::{
    ClipConfig, ClipTextConfig, ClipVisionConfig, ResNetConfig, VisionConfig,
};
use crate::nn::Activation;

/// open_clip's towers with heads of another width than 64: g/14, H/14 and bigG/14, by the tower's width
/// (`model_configs/*.json`, 3.3).
const WIDE_HEADS: [(usize, usize); 3] = [(1280, 80), (1408, 88), (1664, 104)];

/// Names and sizes.
///
/// # Errors
/// When tensors are missing, or the settings say otherwise than they.
pub fn layout(shapes: &Shapes, prefix: &str, settings: Option<Settings>) -> Result<Layout> {
    let mut notes = Vec::new();
    let model = settings
        .as_ref()
        .map(|settings| settings.section("model_cfg"));
    let custom = shapes.prefix("text.token_embedding.weight").is_some();
    let text_prefix = if custom { "text." } else { "" };
    let hidden_act = match &model {
        Some(model) => activation(model)?,
        None => guess_activation(shapes, prefix, &mut notes)?,
    };
    let section = |key: &str| model.as_ref().map(|model| model.section(key));
    let text_tower = format!("{prefix}{text_prefix}");
    let has_text = shapes.has_any(&format!("{text_tower}token_embedding."))
        || shapes.has_any(&format!("{text_tower}transformer."));
    let text = has_text
        .then(|| text_sizes(shapes, &text_tower, section("text_cfg"), hidden_act))
        .transpose()?;
    if !has_text {
        notes.push(VISION_ALONE.into());
    }
    let is_resnet = shapes
        .prefix("visual.attnpool.positional_embedding")
        .is_some();
    let tower = format!("{prefix}visual.");
    let (vision, projection_dim): (VisionConfig, usize) = if is_resnet {
        let [projection_dim, _] = shapes.dims(&format!("{tower}attnpool.c_proj.weight"))?;
        let resnet = resnet_sizes(shapes, &tower, section("vision_cfg"))?;
        (resnet.into(), projection_dim)
    } else {
        let [_, projection_dim] = shapes.dims(&format!("{tower}proj"))?;
        let vit = vit_sizes(shapes, &tower, section("vision_cfg"), hidden_act)?;
        (vit.into(), projection_dim)
    };
    if let Some(model) = &model {
        model.agree("embed_dim", projection_dim)?;
    }
    let prefix = prefix.to_string();
    Ok(Layout {
        sizes: ClipConfig {
            vision,
            text,
            projection_dim,
        },
        naming: Box::new(move |parameter| names::openai_clip(parameter, &prefix, text_prefix)),
        names: "OpenAI's",
        notes,
        eos_token_id: None,
    })
}

/// open_clip's models have GELU unless their settings ask for quick-GELU.
fn activation(model: &Settings) -> Result<Activation> {
    Ok(match model.flag("quick_gelu")? {
        Some(true) => Activation::QuickGelu,
        _ => Activation::Gelu,
    })
}

/// Without settings: OpenAI's own are quick-GELU, and the widths that OpenAI never made are open_clip's.
fn guess_activation(shapes: &Shapes, prefix: &str, notes: &mut Vec<String>) -> Result<Activation> {
    let [width, ..] = shapes.dims::<4>(&format!("{prefix}visual.conv1.weight"))?;
    if WIDE_HEADS.iter().any(|(wide, _)| *wide == width) {
        notes.push("no open_clip_config.json beside it: GELU is taken, by its width it is one of open_clip's".into());
        return Ok(Activation::Gelu);
    }
    notes.push(
        "no open_clip_config.json beside it: quick-GELU is taken, as OpenAI's have (models that open_clip trained on LAION need one)"
            .into(),
    );
    Ok(Activation::QuickGelu)
}

fn vit_sizes(
    shapes: &Shapes,
    tower: &str,
    settings: Option<Settings>,
    hidden_act: Activation,
) -> Result<ClipVisionConfig> {
    let name = |name: &str| format!("{tower}{name}");
    let [hidden_size, _, patch_size, _] = shapes.dims(&name("conv1.weight"))?;
    let (grid, _) = shapes.grid(&name("positional_embedding"))?;
    let [intermediate_size, _] = shapes.dims(&name("transformer.resblocks.0.mlp.c_fc.weight"))?;
    let known = WIDE_HEADS.iter().find(|(width, _)| *width == hidden_size);
    let default = known.map_or(HEAD_WIDTH, |(_, head_width)| *head_width);
    let found = ClipVisionConfig {
        hidden_size,
        intermediate_size,
        num_hidden_layers: shapes.layers(&name("transformer.resblocks.")),
        num_attention_heads: hidden_size / head_width(settings.as_ref(), default)?,
        image_size: grid * patch_size,
        patch_size,
        hidden_act,
        layer_norm_eps: LAYER_NORM_EPS,
    };
    if let Some(settings) = &settings {
        settings.agree("width", found.hidden_size)?;
        settings.agree("layers", found.num_hidden_layers)?;
        settings.agree("patch_size", found.patch_size)?;
        settings.agree("image_size", found.image_size)?;
        unsupported(settings, &[("pool_type", &["tok"])])?;
    }
    Ok(found)
}

fn resnet_sizes(shapes: &Shapes, tower: &str, settings: Option<Settings>) -> Result<ResNetConfig> {
    let [width, ..] = shapes.dims::<4>(&format!("{tower}conv3.weight"))?;
    let (grid, embed_dim) = shapes.grid(&format!("{tower}attnpool.positional_embedding"))?;
    let layers = [1, 2, 3, 4].map(|stage| shapes.layers(&format!("{tower}layer{stage}.")));
    // A head is as wide in the pool as in the towers of OpenAI's vision transformers.
    let head_width = head_width(settings.as_ref(), HEAD_WIDTH)?;
    let found = ResNetConfig {
        layers,
        width,
        image_size: grid * 32,
        attention_heads: (embed_dim / head_width).max(1),
    };
    if let Some(settings) = &settings {
        settings.agree("width", found.width)?;
        settings.agree("image_size", found.image_size)?;
    }
    Ok(found)
}

fn text_sizes(
    shapes: &Shapes,
    tower: &str,
    settings: Option<Settings>,
    hidden_act: Activation,
) -> Result<ClipTextConfig> {
    let name = |name: &str| format!("{tower}{name}");
    let [vocab_size, hidden_size] = shapes.dims(&name("token_embedding.weight"))?;
    let [max_position_embeddings, _] = shapes.dims(&name("positional_embedding"))?;
    let [intermediate_size, _] = shapes.dims(&name("transformer.resblocks.0.mlp.c_fc.weight"))?;
    let heads = settings.as_ref().map(|settings| settings.size("heads"));
    let heads = heads.transpose()?.flatten();
    let found = ClipTextConfig {
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers: shapes.layers(&name("transformer.resblocks.")),
        num_attention_heads: heads.unwrap_or(hidden_size / HEAD_WIDTH),
        max_position_embeddings,
        hidden_act,
        layer_norm_eps: LAYER_NORM_EPS,
    };
    if let Some(settings) = &settings {
        settings.agree("width", found.hidden_size)?;
        settings.agree("layers", found.num_hidden_layers)?;
        settings.agree("vocab_size", found.vocab_size)?;
        settings.agree("context_length", found.max_position_embeddings)?;
        settings.require("no_causal_mask", false)?;
        unsupported(settings, &[("pool_type", &["argmax", "eos"])])?;
    }
    Ok(found)
}

fn head_width(settings: Option<&Settings>, default: usize) -> Result<usize> {
    let Some(settings) = settings else {
        return Ok(default);
    };
    let set = settings.size("head_width")?.unwrap_or(HEAD_WIDTH);
    ensure!(set > 0, "{}: head_width is 0", settings.file().display());
    Ok(set)
}

/// # Errors
/// When a setting has a value other than those listed.
fn unsupported(settings: &Settings, supported: &[(&str, &[&str])]) -> Result<()> {
    for (key, values) in supported {
        if let Some(value) = settings.text(key)? {
            ensure!(
                values.contains(&value.as_str()),
                "{}: {key} is `{value}`; {} is supported",
                settings.file().display(),
                values.join(" or ")
            );
        }
    }
    Ok(())
}
