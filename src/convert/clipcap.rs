//! The mapper out of a ClipCap or CapDec checkpoint. Its kind and sizes are read off names and shapes.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;

use super::names;
use super::origin::Shapes;
use super::parameters::Parameter;
use super::weights::Weights;
use crate::captioner::model_folder::CaptionerConfig;
use crate::models::mapper::{MapperConfig, MapperKind};
use torch_checkpoint::Checkpoint;

/// What `export` calls the captioner's settings in a safetensors file's notes.
pub const SETTINGS: &str = "clipcap";
/// Heads of ClipCap's transformer, which no tensor tells.
const HEADS: usize = 8;
/// CLIPs by the width of their embeddings, for messages.
const KNOWN_CLIPS: [(usize, &str); 4] = [
    (512, "ViT-B/32, ViT-B/16 and RN101 give 512"),
    (640, "RN50x4 gives 640"),
    (768, "ViT-L/14 and RN50x16 give 768"),
    (1024, "ViT-H/14, RN50 and RN50x64 give 1024"),
];

/// A mapper and its settings.
pub struct FoundMapper {
    pub sizes: MapperConfig,
    pub weights: Weights,
    /// What the file says of itself, where this program wrote it.
    pub settings: Option<CaptionerConfig>,
}

/// Finds the mapper in front of a GPT-2 of a certain width.
///
/// # Errors
/// When there is none, or it does not go with that width.
pub fn read(checkpoint: &Checkpoint, path: &Path, n_embd: usize) -> Result<FoundMapper> {
    let settings = checkpoint.notes.get(SETTINGS);
    let settings: Option<CaptionerConfig> = settings
        .map(|text| serde_json::from_str(text))
        .transpose()
        .with_context(|| format!("{}: its note `{SETTINGS}`", path.display()))?;
    let shapes = Shapes {
        checkpoint,
        origin: path,
    };
    let mut sizes = sizes(&shapes, n_embd)?;
    if let (MapperKind::Transformer { heads, .. }, Some(settings)) = (&mut sizes.kind, &settings)
        && let MapperKind::Transformer { heads: set, .. } = settings.sizes.kind
    {
        *heads = set;
    }
    let module = sizes.init(&Device::flex());
    let weights = Weights::find(checkpoint, path, Parameter::all(&module), names::clipcap)?;
    Ok(FoundMapper {
        sizes,
        weights,
        settings,
    })
}

/// # Errors
/// When the mapper was trained with another CLIP; the message says which it may have been.
pub fn check_clip(
    sizes: &MapperConfig,
    captioner: &Path,
    clip_dim: usize,
    clip: &Path,
) -> Result<()> {
    if sizes.clip_dim == clip_dim {
        return Ok(());
    }
    let known = KNOWN_CLIPS
        .iter()
        .find(|(width, _)| *width == sizes.clip_dim);
    let known = known.map_or(String::new(), |(_, name)| format!(" ({name})"));
    bail!(
        "the mapper in {} reads embeddings of {} values, but the CLIP in {} gives {clip_dim}: give --clip the CLIP that the captioner was trained with{known}",
        captioner.display(),
        sizes.clip_dim,
        clip.display()
    )
}

fn sizes(shapes: &Shapes, n_embd: usize) -> Result<MapperConfig> {
    let has = |name: &str| shapes.checkpoint.tensors.contains_key(name);
    let (kind, clip_dim, width) = if has("clip_project.prefix_const") {
        return transformer(shapes, n_embd);
    } else if has("clip_project.model.0.weight") {
        let [_, clip_dim] = shapes.dims("clip_project.model.0.weight")?;
        let [width, _] = shapes.dims("clip_project.model.2.weight")?;
        (MapperKind::Mlp, clip_dim, width)
    } else if has("clip_project.weight") {
        let [width, clip_dim] = shapes.dims("clip_project.weight")?;
        (MapperKind::Linear, clip_dim, width)
    } else {
        bail!(
            "{} has no mapper of ClipCap's: neither `clip_project.model.0.weight` (MLP), `clip_project.weight` (linear) nor `clip_project.prefix_const` (transformer)",
            shapes.origin.display()
        );
    };
    Ok(MapperConfig {
        kind,
        clip_dim,
        n_embd,
        prefix_length: vectors(shapes.origin, width, n_embd)?,
    })
}

fn transformer(shapes: &Shapes, n_embd: usize) -> Result<MapperConfig> {
    let [prefix_length, mapper_width] = shapes.dims("clip_project.prefix_const")?;
    let [width, clip_dim] = shapes.dims("clip_project.linear.weight")?;
    ensure!(
        mapper_width == n_embd,
        "the mapper in {} writes vectors of {mapper_width} values, but GPT-2 reads {n_embd}: give --gpt2 the GPT-2 that the captioner was trained with",
        shapes.origin.display()
    );
    Ok(MapperConfig {
        kind: MapperKind::Transformer {
            clip_length: vectors(shapes.origin, width, n_embd)?,
            layers: shapes.layers("clip_project.transformer.layers."),
            heads: HEADS,
        },
        clip_dim,
        n_embd,
        prefix_length,
    })
}

/// How many of GPT-2's vectors a layer's output is.
fn vectors(path: &Path, width: usize, n_embd: usize) -> Result<usize> {
    ensure!(
        width.is_multiple_of(n_embd),
        "the mapper in {} writes {width} values, which are not vectors of the {n_embd} values that GPT-2 reads: give --gpt2 the GPT-2 that the captioner was trained with",
        path.display()
    );
    Ok(width / n_embd)
}
