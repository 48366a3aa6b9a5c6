//! CLIP out of a foreign checkpoint, in Hugging Face's names or in OpenAI's.

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;

use super::names;
use super::openai_clip;
use super::origin::{Origin, Settings, Shapes};
use super::parameters::Parameter;
use super::weights::Weights;
use super::{Converted, preprocessing};
use crate::captioner::model_folder::EncoderConfig;
use crate::models::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig, VisionConfig};
use crate::nn::Activation;
use crate::tokenizer::{Tokenizer, TokenizerKind};
use torch_checkpoint::StoredTensor;

/// What every CLIP has for a layer norm's epsilon, where its settings say nothing.
pub const LAYER_NORM_EPS: f64 = 1e-5;
/// Width of a head, where the settings say nothing: every CLIP of OpenAI's.
pub const HEAD_WIDTH: usize = 64;
/// `eos_token_id` of configs older than transformers 4.31. The real id is the vocabulary's highest, and that is what is
/// looked for under this one.
const OLD_EOS_TOKEN_ID: usize = 2;
/// What is said of a CLIP without a text tower.
pub const VISION_ALONE: &str = "the vision tower alone: captioning works, what embeds texts does not (reranking by CLIP, CLIPScore, the modality gap, learning from captions)";

/// The names and sizes of a CLIP in a checkpoint.
pub struct Layout {
    pub sizes: ClipConfig,
    pub naming: Box<dyn Fn(&Parameter) -> super::parameters::Foreign>,
    pub names: &'static str,
    pub notes: Vec<String>,
    /// The end of text as the settings have it.
    pub eos_token_id: Option<usize>,
}

/// Reads CLIP, and its vocabulary if that is beside it.
///
/// # Errors
/// When the checkpoint is of something else, incomplete, or does not agree with the settings beside it.
pub fn read(origin: &Origin) -> Result<Converted<EncoderConfig>> {
    let checkpoint = super::open_checkpoint(&origin.path)?;
    let shapes = Shapes {
        checkpoint: &checkpoint,
        origin: &origin.path,
    };
    let mut layout = layout(&shapes, origin)?;
    let module = layout.sizes.init(&Device::flex());
    let has_text = layout.sizes.text.is_some();
    let weights = Weights::find(
        &checkpoint,
        &origin.path,
        Parameter::all(&module),
        &layout.naming,
    )?;
    let dropped =
        Weights::check_leftover(&[&weights], &checkpoint, &origin.path, |name, tensor| {
            // The temperature is for comparing with texts.
            is_superfluous(name, tensor) || (!has_text && is_temperature(name, tensor))
        })?;
    let (preprocessing, note) = preprocessing::read(origin, layout.sizes.vision.image_size())?;
    layout.notes.extend(note);
    let tokenizer = tokenizer(origin, &mut layout)?;
    Ok(Converted {
        architecture: describe(&layout.sizes),
        format: format!("{}, {} names", checkpoint.format, layout.names),
        config: EncoderConfig {
            sizes: layout.sizes,
            preprocessing,
        },
        weights,
        files: checkpoint.files,
        tokenizer,
        dropped,
        notes: layout.notes,
    })
}

fn layout(shapes: &Shapes, origin: &Origin) -> Result<Layout> {
    if let Some(prefix) = shapes.prefix("vision_model.embeddings.class_embedding") {
        ensure!(
            shapes.has(&format!("{prefix}visual_projection.weight")),
            "{} has a vision tower without its projection (`visual_projection.weight`), and captioners read the projected embedding: give the whole CLIP, or its CLIPVisionModelWithProjection",
            origin.path.display()
        );
        return hugging_face(shapes, &prefix, origin.settings("config.json")?);
    }
    if let Some(prefix) = shapes.prefix("visual.conv1.weight") {
        return openai_clip::layout(shapes, &prefix, origin.settings("open_clip_config.json")?);
    }
    if shapes
        .prefix("visual.trunk.patch_embed.proj.weight")
        .is_some()
    {
        bail!(
            "{} has a vision tower of timm's; CLIP's own vision transformers and ResNets are supported",
            origin.path.display()
        );
    }
    bail!(
        "{} is no CLIP: it has neither `vision_model.embeddings.class_embedding` nor `visual.conv1.weight`",
        origin.path.display()
    )
}

fn hugging_face(shapes: &Shapes, prefix: &str, settings: Option<Settings>) -> Result<Layout> {
    let mut notes = Vec::new();
    if settings.is_none() {
        notes.push(
            "no config.json beside it: heads of 64 and quick-GELU are taken, as OpenAI's have"
                .into(),
        );
    }
    let has_text = shapes.has_any(&format!("{prefix}text_model."));
    let vision = settings.as_ref().map(vision_settings);
    let text = settings
        .as_ref()
        .map(|settings| settings.section("text_config"));
    let name = |name: &str| format!("{prefix}{name}");
    let [projection_dim, _] = shapes.dims(&name("visual_projection.weight"))?;
    if let Some(settings) = &settings {
        settings.agree("projection_dim", projection_dim)?;
    }
    let sizes = ClipConfig {
        vision: hugging_face_vision(shapes, &name("vision_model."), vision.as_ref())?.into(),
        text: (has_text.then(|| hugging_face_text(shapes, &name("text_model."), text.as_ref())))
            .transpose()?,
        projection_dim,
    };
    if !has_text {
        notes.push(VISION_ALONE.into());
    }
    let eos_token_id = match &text {
        Some(text) if has_text => text.size("eos_token_id")?,
        _ => None,
    };
    let prefix = prefix.to_string();
    Ok(Layout {
        sizes,
        naming: Box::new(move |parameter| names::hugging_face_clip(parameter, &prefix)),
        names: "Hugging Face's",
        notes,
        eos_token_id: eos_token_id.filter(|id| *id != OLD_EOS_TOKEN_ID),
    })
}

/// A vision tower's settings: their section in those of a whole CLIP, and all of them where it comes alone.
fn vision_settings(settings: &Settings) -> Settings {
    match settings.get("vision_config") {
        None if settings.get("hidden_size").is_some() => settings.clone(),
        _ => settings.section("vision_config"),
    }
}

fn hugging_face_vision(
    shapes: &Shapes,
    tower: &str,
    settings: Option<&Settings>,
) -> Result<ClipVisionConfig> {
    let name = |name: &str| format!("{tower}{name}");
    let [hidden_size, _, patch_size, _] =
        shapes.dims(&name("embeddings.patch_embedding.weight"))?;
    let (grid, _) = shapes.grid(&name("embeddings.position_embedding.weight"))?;
    let [intermediate_size, _] = shapes.dims(&name("encoder.layers.0.mlp.fc1.weight"))?;
    let found = ClipVisionConfig {
        hidden_size,
        intermediate_size,
        num_hidden_layers: shapes.layers(&name("encoder.layers.")),
        // transformers' own defaults, which its files leave out
        num_attention_heads: heads(settings, hidden_size, 12)?,
        image_size: grid * patch_size,
        patch_size,
        hidden_act: activation(settings)?,
        layer_norm_eps: epsilon(settings)?,
    };
    if let Some(settings) = settings {
        settings.agree("hidden_size", found.hidden_size)?;
        settings.agree("num_hidden_layers", found.num_hidden_layers)?;
        settings.agree("image_size", found.image_size)?;
        settings.agree("patch_size", found.patch_size)?;
    }
    Ok(found)
}

fn hugging_face_text(
    shapes: &Shapes,
    tower: &str,
    settings: Option<&Settings>,
) -> Result<ClipTextConfig> {
    let name = |name: &str| format!("{tower}{name}");
    let [vocab_size, hidden_size] = shapes.dims(&name("embeddings.token_embedding.weight"))?;
    let [max_position_embeddings, _] =
        shapes.dims(&name("embeddings.position_embedding.weight"))?;
    let [intermediate_size, _] = shapes.dims(&name("encoder.layers.0.mlp.fc1.weight"))?;
    let found = ClipTextConfig {
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers: shapes.layers(&name("encoder.layers.")),
        num_attention_heads: heads(settings, hidden_size, 8)?,
        max_position_embeddings,
        hidden_act: activation(settings)?,
        layer_norm_eps: epsilon(settings)?,
    };
    if let Some(settings) = settings {
        settings.agree("hidden_size", found.hidden_size)?;
        settings.agree("num_hidden_layers", found.num_hidden_layers)?;
        settings.agree("vocab_size", found.vocab_size)?;
    }
    Ok(found)
}

fn heads(settings: Option<&Settings>, width: usize, default: usize) -> Result<usize> {
    match settings {
        Some(settings) => Ok(settings.size("num_attention_heads")?.unwrap_or(default)),
        None => Ok(width / HEAD_WIDTH),
    }
}

fn activation(settings: Option<&Settings>) -> Result<Activation> {
    let set = settings.map(|settings| settings.activation("hidden_act"));
    Ok(set.transpose()?.flatten().unwrap_or(Activation::QuickGelu))
}

fn epsilon(settings: Option<&Settings>) -> Result<f64> {
    let set = settings.map(|settings| settings.number("layer_norm_eps"));
    Ok(set.transpose()?.flatten().unwrap_or(LAYER_NORM_EPS))
}

/// What checkpoints hold and no network needs: position numbers, the causal mask, sizes, and counters of training.
fn is_superfluous(name: &str, tensor: &StoredTensor) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    match last {
        "position_ids" | "num_batches_tracked" => true,
        "attn_mask" => tensor.shape.len() == 2,
        "input_resolution" | "context_length" | "vocab_size" => tensor.count() == 1,
        _ => false,
    }
}

fn is_temperature(name: &str, tensor: &StoredTensor) -> bool {
    name.ends_with("logit_scale") && tensor.count() == 1
}

/// The vocabulary beside the weights. Captioning does without one, so its absence is noted, not refused.
fn tokenizer(origin: &Origin, layout: &mut Layout) -> Result<Option<Tokenizer>> {
    let Some(text) = &layout.sizes.text else {
        return Ok(None); // nothing to read with it
    };
    let embedded = text.vocab_size;
    let tokenizer = match Tokenizer::load(&origin.folder, TokenizerKind::Clip) {
        Ok(tokenizer) => tokenizer,
        // Beside a single file may lie another model's vocabulary; in a CLIP's folder it must be CLIP's.
        Err(error) if origin.path.is_file() || error.is_absence() => {
            layout.notes.push(
                "no CLIP vocabulary beside it: captioning works, embedding sentences does not (a tokenizer.json beside it would be taken along)"
                    .into(),
            );
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let (size, end) = (tokenizer.vocab_size(), tokenizer.end_of_text() as usize);
    ensure!(
        size <= embedded && end < embedded,
        "{}: the vocabulary has {size} entries, but the weights embed {embedded}",
        origin.folder.display()
    );
    match layout.eos_token_id {
        Some(id) if id != end => bail!(
            "{}: eos_token_id is {id}, but the vocabulary ends a text with {end}",
            origin.folder.display()
        ),
        // Then the highest id of a sentence is where it ends.
        None if end + 1 != size => bail!(
            "{}: the vocabulary ends a text with {end}, which is not its highest id, {}",
            origin.folder.display(),
            size - 1
        ),
        _ => Ok(Some(tokenizer)),
    }
}

fn describe(sizes: &ClipConfig) -> String {
    let vision = match &sizes.vision {
        VisionConfig::Vit(vit) => format!(
            "ViT of {} layers, {} wide, {} heads, patches of {} at {} pixels",
            vit.num_hidden_layers,
            vit.hidden_size,
            vit.num_attention_heads,
            vit.patch_size,
            vit.image_size
        ),
        VisionConfig::ResNet(resnet) => format!(
            "ResNet of {:?} bottlenecks, {} wide, {} heads, at {} pixels",
            resnet.layers, resnet.width, resnet.attention_heads, resnet.image_size
        ),
    };
    let text = match &sizes.text {
        Some(text) => format!(
            "text of {} layers, {} wide",
            text.num_hidden_layers, text.hidden_size
        ),
        None => "no text tower".to_string(),
    };
    format!("{vision}; {text}; embeddings of {}", sizes.projection_dim)
}
