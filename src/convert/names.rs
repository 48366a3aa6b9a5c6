//! The names of one network's weights in the checkpoints of others: Hugging Face's, OpenAI's and open_clip's, ClipCap's.

use super::parameters::{Foreign, Parameter, Rows};

/// Our names, and OpenAI's, before and within a layer.
const OPENAI_CLIP: [(&str, &str); 11] = [
    (
        "vision_model.embeddings.class_embedding",
        "visual.class_embedding",
    ),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    (
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
    ),
    ("vision_model.pre_layernorm.", "visual.ln_pre."),
    (
        "vision_model.encoder.layers.",
        "visual.transformer.resblocks.",
    ),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    (
        "text_model.embeddings.position_embedding.weight",
        "positional_embedding",
    ),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_projection.weight", "text_projection"),
];
const OPENAI_LAYER: [(&str, &str); 5] = [
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];
/// Kept in one matrix there, in this order.
const OPENAI_ATTENTION: [(&str, usize); 3] = [
    (".self_attn.q_proj.", 0),
    (".self_attn.k_proj.", 1),
    (".self_attn.v_proj.", 2),
];
const CLIPCAP: [(&str, &str); 5] = [
    ("Mlp.hidden.", "clip_project.model.0."),
    ("Mlp.output.", "clip_project.model.2."),
    ("Linear.output.", "clip_project."),
    ("Transformer.transformer.", "clip_project.transformer."),
    ("Transformer.", "clip_project."),
];

/// CLIP in Hugging Face's names, which ours are but for a slip of the pen.
pub fn hugging_face_clip(parameter: &Parameter, prefix: &str) -> Foreign {
    let foreign = parameter.torch();
    let name = foreign.name.replacen(
        "vision_model.pre_layernorm.",
        "vision_model.pre_layrnorm.",
        1,
    );
    Foreign {
        name: format!("{prefix}{name}"),
        ..foreign
    }
}

/// CLIP in OpenAI's and open_clip's names. `text` is what stands before the sentence tower's: nothing, or `text.`.
pub fn openai_clip(parameter: &Parameter, prefix: &str, text: &str) -> Foreign {
    let mut foreign = parameter.torch();
    let path = parameter.path.as_str();
    if path.starts_with("visual.") {
        foreign.name = foreign
            .name
            .replacen(".downsample.conv.", ".downsample.0.", 1)
            .replacen(".downsample.bn.", ".downsample.1.", 1);
    } else if path == "visual_projection.weight" {
        // Both are `[input, output]` there: `x @ proj`.
        foreign.name = "visual.proj".into();
        foreign.transposed = false;
    } else {
        if path == "text_projection.weight" {
            foreign.transposed = false;
        }
        foreign.name = replace_start(&foreign.name, &OPENAI_CLIP);
        for (ours, theirs) in OPENAI_LAYER {
            foreign.name = foreign.name.replacen(ours, theirs, 1);
        }
        for (ours, third) in OPENAI_ATTENTION {
            if foreign.name.contains(ours) {
                foreign.name = foreign.name.replacen(ours, ".attn.in_proj_", 1);
                foreign.rows = Rows::Third(third);
            }
        }
        if path.starts_with("text_") {
            foreign.name = format!("{text}{}", foreign.name);
        }
    }
    foreign.name = format!("{prefix}{}", foreign.name);
    foreign
}

/// GPT-2, with what stands before `wte.weight` (`transformer`), and before `lm_head.weight` (`head`).
pub fn gpt2(parameter: &Parameter, transformer: &str, head: &str) -> Foreign {
    let foreign = parameter.torch();
    let name = match foreign.name.as_str() {
        "lm_head" => format!("{head}lm_head.weight"),
        name => format!("{transformer}{name}"),
    };
    Foreign { name, ..foreign }
}

/// ClipCap's mappers.
pub fn clipcap(parameter: &Parameter) -> Foreign {
    let foreign = parameter.torch();
    Foreign {
        name: replace_start(&foreign.name, &CLIPCAP),
        ..foreign
    }
}

fn replace_start(name: &str, table: &[(&str, &str)]) -> String {
    let found = table
        .iter()
        .find_map(|(ours, theirs)| Some((theirs, name.strip_prefix(ours)?)));
    match found {
        Some((theirs, rest)) => format!("{theirs}{rest}"),
        None => name.to_string(),
    }
}
