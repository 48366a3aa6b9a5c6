//! A model folder with tiny random networks, for tests of everything around them.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use clipcap::captioner::model_folder::{
    CaptionerConfig, EncoderConfig, Part, save_part, tokenizer_file, update_config,
};
use clipcap::models::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig, Preprocessing};
use clipcap::models::gpt2::Gpt2Config;
use clipcap::models::mapper::{MapperConfig, MapperKind};
use clipcap::nn::Activation;
use clipcap::tokenizer::{Tokenizer, TokenizerKind};

/// Held while weights are drawn: a device has one random number generator, and tests run side by side.
static SEEDED: Mutex<()> = Mutex::new(());

pub fn write_model(folder: &Path) {
    write_model_seeded(folder, 1);
}

pub fn write_model_seeded(folder: &Path, seed: u64) {
    write_model_sized(folder, seed, 8);
}

/// `projection_dim` is the width of CLIP's embeddings.
pub fn write_model_sized(folder: &Path, seed: u64, projection_dim: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let device = Device::flex();
    let _seeded = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    let texts = || {
        ["A red circle.", "A blue star on white."]
            .into_iter()
            .cycle()
            .take(20)
            .map(String::from)
    };
    let clip_tokenizer = Tokenizer::train(TokenizerKind::Clip, texts(), 530).unwrap();
    let gpt2_tokenizer = Tokenizer::train(TokenizerKind::Gpt2, texts(), 270).unwrap();
    let clip = ClipConfig {
        vision: ClipVisionConfig {
            hidden_size: 16,
            intermediate_size: 32,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            image_size: 16,
            patch_size: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
        .into(),
        text: Some(ClipTextConfig {
            vocab_size: clip_tokenizer.vocab_size(),
            hidden_size: 16,
            intermediate_size: 32,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            max_position_embeddings: 16,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }),
        projection_dim,
    };
    let gpt2 = Gpt2Config {
        vocab_size: gpt2_tokenizer.vocab_size(),
        n_positions: 64,
        n_embd: 16,
        n_layer: 1,
        n_head: 2,
        n_inner: None,
        activation_function: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        tie_word_embeddings: true,
    };
    let mapper = MapperConfig {
        kind: MapperKind::Transformer {
            clip_length: 3,
            layers: 1,
            heads: 2,
        },
        clip_dim: projection_dim,
        n_embd: 16,
        prefix_length: 4,
    };
    save_part(clip.init(&device), folder, Part::Clip).unwrap();
    save_part(gpt2.init(&device), folder, Part::Gpt2).unwrap();
    save_part(mapper.init(&device), folder, Part::Mapper).unwrap();
    clip_tokenizer
        .save(&folder.join(tokenizer_file(TokenizerKind::Clip)))
        .unwrap();
    gpt2_tokenizer
        .save(&folder.join(tokenizer_file(TokenizerKind::Gpt2)))
        .unwrap();
    let stop = gpt2_tokenizer.encode(".").unwrap()[0];
    update_config(folder, |config| {
        config.clip = Some(EncoderConfig {
            sizes: clip,
            preprocessing: Preprocessing::openai(16),
        });
        config.gpt2 = Some(gpt2);
        config.mapper = Some(CaptionerConfig {
            sizes: mapper,
            normalize_embedding: true,
            stop_tokens: vec![stop],
            retrieve: None,
        });
    })
    .unwrap();
}
