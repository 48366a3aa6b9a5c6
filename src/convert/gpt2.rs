//! GPT-2 out of a foreign checkpoint: a language model's own, or a captioner's that trained it further.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;

use super::Converted;
use super::names;
use super::origin::{Origin, Settings, Shapes};
use super::parameters::Parameter;
use super::weights::Weights;
use crate::models::gpt2::Gpt2Config;
use crate::nn::Activation;
use crate::tokenizer::{Tokenizer, TokenizerKind};
use torch_checkpoint::{Checkpoint, StoredTensor};

/// Width of a head, where no settings tell it: every GPT-2 of OpenAI's.
const HEAD_WIDTH: usize = 64;

/// Reads GPT-2 with its vocabulary.
///
/// # Errors
/// When the checkpoint is of something else, incomplete, or does not agree with the settings beside it.
pub fn read(origin: &Origin) -> Result<Converted<Gpt2Config>> {
    let checkpoint = super::open_checkpoint(&origin.path)?;
    let (config, weights) = find(&checkpoint, &origin.path, origin)?;
    let dropped = Weights::check_leftover(&[&weights], &checkpoint, &origin.path, is_superfluous)?;
    finish(origin, &checkpoint, config, weights, dropped)
}

/// Reads the GPT-2 that a captioner's checkpoint holds; heads and vocabulary come from `origin`.
///
/// The names that do not go into it are for the caller to judge.
pub fn read_from(
    checkpoint: &Checkpoint,
    captioner: &Path,
    origin: &Origin,
) -> Result<Converted<Gpt2Config>> {
    let (config, weights) = find(checkpoint, captioner, origin).with_context(|| {
        format!(
            "the GPT-2 in {} with the settings of {}",
            captioner.display(),
            origin.path.display()
        )
    })?;
    let mut found = finish(origin, checkpoint, config, weights, Vec::new())?;
    found.notes.push(format!(
        "the captioner holds a GPT-2 of its own: of {} only settings and vocabulary are taken",
        origin.path.display()
    ));
    Ok(found)
}

/// Whether a checkpoint holds a GPT-2.
pub fn is_in(checkpoint: &Checkpoint) -> bool {
    let mut names = checkpoint.tensors.keys();
    names.any(|name| name.ends_with("wte.weight"))
}

/// The causal masks of checkpoints that older transformers wrote. `c_attn.bias`, which is a weight, has one dimension.
pub fn is_superfluous(name: &str, tensor: &StoredTensor) -> bool {
    (name.ends_with(".attn.bias") && tensor.shape.len() == 4)
        || (name.ends_with(".attn.masked_bias") && tensor.count() == 1)
        || (name.ends_with("lm_head.weight") && tensor.shape.len() == 2)
}

fn find(checkpoint: &Checkpoint, path: &Path, origin: &Origin) -> Result<(Gpt2Config, Weights)> {
    let shapes = Shapes {
        checkpoint,
        origin: path,
    };
    let prefix = shapes
        .prefix("wte.weight")
        .with_context(|| format!("{} is no GPT-2: it has no `wte.weight`", path.display()))?;
    let head = prefix.strip_suffix("transformer.").unwrap_or(&prefix);
    let settings = origin.settings("config.json")?;
    let mut config = config(&shapes, &prefix, settings.as_ref())?;
    config.tie_word_embeddings =
        is_tied(checkpoint, &prefix, head).with_context(|| path.display().to_string())?;
    let module = config.init(&Device::flex());
    let weights = Weights::find(checkpoint, path, Parameter::all(&module), |parameter| {
        names::gpt2(parameter, &prefix, head)
    })?;
    Ok((config, weights))
}

fn finish(
    origin: &Origin,
    checkpoint: &Checkpoint,
    config: Gpt2Config,
    weights: Weights,
    dropped: Vec<String>,
) -> Result<Converted<Gpt2Config>> {
    let tokenizer = Tokenizer::load(&origin.folder, TokenizerKind::Gpt2)?;
    ensure!(
        tokenizer.vocab_size() <= config.vocab_size,
        "{}: the vocabulary has {} entries, but the weights embed {}",
        origin.folder.display(),
        tokenizer.vocab_size(),
        config.vocab_size
    );
    let mut notes = Vec::new();
    if origin.settings("config.json")?.is_none() {
        notes.push(format!(
            "no config.json beside {}: heads of {HEAD_WIDTH} are taken, as OpenAI's have",
            origin.path.display()
        ));
    }
    Ok(Converted {
        architecture: format!(
            "{} layers, {} wide, {} heads, {} positions, {} tokens{}",
            config.n_layer,
            config.n_embd,
            config.n_head,
            config.n_positions,
            config.vocab_size,
            if config.tie_word_embeddings {
                ""
            } else {
                ", a head of its own"
            }
        ),
        format: checkpoint.format.clone(),
        config,
        weights,
        files: checkpoint.files.clone(),
        tokenizer: Some(tokenizer),
        dropped,
        notes,
    })
}

fn config(shapes: &Shapes, prefix: &str, settings: Option<&Settings>) -> Result<Gpt2Config> {
    let name = |name: &str| format!("{prefix}{name}");
    let [vocab_size, n_embd] = shapes.dims(&name("wte.weight"))?;
    let [n_positions, _] = shapes.dims(&name("wpe.weight"))?;
    let [_, n_inner] = shapes.dims(&name("h.0.mlp.c_fc.weight"))?;
    let mut config = Gpt2Config {
        vocab_size,
        n_positions,
        n_embd,
        n_layer: shapes.layers(&name("h.")),
        n_head: n_embd / HEAD_WIDTH,
        n_inner: (n_inner != 4 * n_embd).then_some(n_inner),
        activation_function: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        tie_word_embeddings: true,
    };
    let Some(settings) = settings else {
        return Ok(config);
    };
    match settings.text("model_type")? {
        Some(other) if other != "gpt2" => bail!(
            "{}: model_type is `{other}`, not gpt2",
            settings.file().display()
        ),
        _ => {}
    }
    settings.agree("n_embd", n_embd)?;
    settings.agree("n_layer", config.n_layer)?;
    settings.require("scale_attn_weights", true)?;
    settings.require("scale_attn_by_inverse_layer_idx", false)?;
    settings.require("add_cross_attention", false)?;
    // 12 heads are transformers' own default, which its files may leave out.
    config.n_head = settings.size("n_head")?.unwrap_or(12);
    if let Some(activation) = settings.activation("activation_function")? {
        config.activation_function = activation;
    }
    if let Some(epsilon) = settings.number("layer_norm_epsilon")? {
        config.layer_norm_epsilon = epsilon;
    }
    Ok(config)
}

/// Whether the head is `wte`: absent, the same storage, or the same values.
fn is_tied(checkpoint: &Checkpoint, prefix: &str, head: &str) -> Result<bool> {
    let tensor = |name: String| checkpoint.tensors.get(&name);
    match (
        tensor(format!("{head}lm_head.weight")),
        tensor(format!("{prefix}wte.weight")),
    ) {
        (Some(head), Some(wte)) => head.equals(wte),
        _ => Ok(true),
    }
}
