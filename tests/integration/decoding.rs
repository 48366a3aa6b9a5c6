//! Searches and limits of sampling find what Hugging Face's do (`fixtures/make_decoding.py`), on the CPU's engine.

use burn::tensor::Device;
use clipcap::captioner::{CaptionOptions, Captioner};
use clipcap::datasets::scenes;
use clipcap::decode::{
    DecodeConfig, EarlyStopping, HfBeams, Hypothesis, Sampling, Strategy, decode,
};
use clipcap::device::Precision;
use clipcap::engine;
use clipcap::models::gpt2::Gpt2Config;
use clipcap::nn::Activation;
use serde_json::Value;

use crate::common::{fixture, load_weights};

/// Positions and width of the prefixes.
const PREFIX: usize = 5 * 32;

fn read(name: &str) -> Value {
    let path = fixture(&format!("decoding/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn gpt2() -> engine::Gpt2 {
    let config = Gpt2Config {
        vocab_size: 97,
        n_positions: 48,
        n_embd: 32,
        n_layer: 2,
        n_head: 4,
        n_inner: None,
        activation_function: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        tie_word_embeddings: true,
    };
    let module = load_weights(
        config.init(&Device::flex()),
        "gpt2",
        &[(r"^transformer\.", "")],
    );
    engine::Gpt2::new(module, Precision::F32).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    list(value)
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

/// A setting of the fixture, by Hugging Face's name.
fn number(settings: &Value, name: &str) -> Option<f32> {
    Some(settings.get(name)?.as_f64().unwrap() as f32)
}

fn count(settings: &Value, name: &str) -> Option<usize> {
    Some(settings.get(name)?.as_u64().unwrap() as usize)
}

fn strategy(settings: &Value) -> Strategy {
    let Some(beam_size) = count(settings, "num_beams") else {
        return Strategy::Greedy;
    };
    Strategy::HfBeam(HfBeams {
        early_stopping: match &settings["early_stopping"] {
            Value::Bool(true) => EarlyStopping::Always,
            Value::Bool(false) => EarlyStopping::Estimate,
            _ => EarlyStopping::Never,
        },
        groups: count(settings, "num_beam_groups").unwrap_or(1),
        diversity_penalty: number(settings, "diversity_penalty").unwrap_or(0.0),
        ..HfBeams::new(beam_size)
    })
}

fn config(settings: &Value, length: usize) -> DecodeConfig {
    let words = |words: &Value| list(words).iter().map(ids).collect();
    DecodeConfig {
        min_length: count(settings, "min_new_tokens").unwrap_or(0),
        length_penalty: number(settings, "length_penalty").unwrap_or(1.0),
        no_repeat_ngram: count(settings, "no_repeat_ngram_size").unwrap_or(0),
        repetition_penalty: number(settings, "repetition_penalty").unwrap_or(1.0),
        bad_words: settings.get("bad_words_ids").map_or(Vec::new(), words),
        prompt: settings.get("prompt").map_or(Vec::new(), ids),
        ..DecodeConfig::new(strategy(settings), length, ids(&settings["stop"]))
    }
}

fn search(gpt2: &engine::Gpt2, config: &DecodeConfig, images: usize) -> Vec<Vec<Hypothesis>> {
    let prefixes: Vec<f32> = (0..images * PREFIX)
        .map(|index| ((index * 37 % 101) as f32 - 50.0) / 25.0)
        .collect();
    let mut step = engine::Gpt2Step::new(gpt2, &prefixes, images, &config.prompt);
    decode(&mut step, config).unwrap()
}

/// How many captions are in a fixture, every one of which is found.
fn check(name: &str) -> usize {
    let (fixture, gpt2) = (read(name), gpt2());
    let length = count(&fixture, "length").unwrap();
    let mut captions = 0;
    for case in list(&fixture["cases"]) {
        let (settings, images) = (&case["settings"], list(&case["images"]));
        let found = search(&gpt2, &config(settings, length), images.len());
        for (image, (found, expected)) in found.iter().zip(images).enumerate() {
            let expected = list(expected);
            assert_eq!(found.len(), expected.len());
            for (rank, (found, expected)) in found.iter().zip(expected).enumerate() {
                let place = format!("{settings}: image {image}, rank {rank}");
                assert_eq!(found.tokens, ids(&expected["ids"]), "{place}");
                if let Some(score) = number(expected, "score") {
                    let near = (found.score - score).abs() < 1e-4 * score.abs().max(1.0);
                    assert!(near, "{place}: {} {score}", found.score);
                }
                captions += 1;
            }
        }
    }
    captions
}

#[test]
fn greedy_and_beam_searches_under_every_rule_find_transformers_ids() {
    assert!(check("generate") > 400);
}

#[test]
fn diverse_groups_of_beams_find_transformers_ids() {
    assert!(check("diverse") > 400);
}

#[test]
fn sampling_keeps_transformers_tokens_with_their_probabilities() {
    let fixture = read("warpers");
    let rows: Vec<Vec<f32>> = (list(&fixture["logits"]).iter())
        .map(|row| {
            list(row)
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect()
        })
        .collect();
    for case in list(&fixture["cases"]) {
        let settings = &case["settings"];
        let sampling = Sampling {
            temperature: number(settings, "temperature").unwrap_or(1.0),
            top_k: count(settings, "top_k"),
            top_p: number(settings, "top_p"),
            min_p: number(settings, "min_p"),
            typical_p: number(settings, "typical_p"),
            epsilon_cutoff: number(settings, "epsilon_cutoff"),
            eta_cutoff: number(settings, "eta_cutoff"),
            ..Sampling::default()
        };
        for (logits, expected) in rows.iter().zip(list(&case["rows"])) {
            let mut found = sampling.probabilities(logits);
            found.sort_by_key(|&(token, _)| token);
            let tokens: Vec<u32> = found.iter().map(|&(token, _)| token).collect();
            assert_eq!(tokens, ids(&expected["tokens"]), "{settings}");
            for (&(_, found), expected) in found.iter().zip(list(&expected["probabilities"])) {
                let expected = expected.as_f64().unwrap();
                assert!((found - expected).abs() < 2e-6, "{settings}: {found}");
            }
        }
    }
}

#[test]
fn the_sample_models_captions_keep_the_rules() {
    let builder = Captioner::builder().device(&Device::flex());
    let captioner = builder.load("model/sample").unwrap();
    let images: Vec<_> = (0..12)
        .map(|index| scenes::draw(&scenes::scene(77, index)))
        .collect();
    let caption = |options: &CaptionOptions| -> Vec<_> {
        let captions = captioner.caption_batch(&images, options).unwrap();
        captions.into_iter().flatten().collect()
    };
    let plain = caption(&CaptionOptions::default());
    let has = |text: &str, word: &str| text.to_lowercase().contains(word);
    let with = plain.iter().filter(|found| has(&found.caption, " small"));
    assert!(with.count() > 1);
    for options in [
        CaptionOptions::default(),
        CaptionOptions::beam(3),
        CaptionOptions::hf_beam(3),
    ] {
        for found in caption(&options.clone().bad_words(["small", "Smaller"])) {
            assert!(!has(&found.caption, " small"), "{}", found.caption);
        }
        for found in caption(&options.min_length(15)) {
            assert!(found.tokens.len() > 15, "{}", found.caption);
        }
    }
    let penalized = caption(&CaptionOptions::default().repetition_penalty(5.0));
    assert!(
        penalized
            .iter()
            .zip(&plain)
            .any(|(a, b)| a.tokens != b.tokens)
    );
}

#[test]
fn consensus_orders_what_is_drawn_by_its_likeness_to_the_others() {
    let builder = Captioner::builder().device(&Device::flex());
    let captioner = builder.load("model/sample").unwrap();
    let sampling = Sampling {
        num_captions: 8,
        ..Sampling::default()
    };
    let options = CaptionOptions::new(Strategy::Sample(sampling))
        .num_captions(3)
        .rerank(clipcap::captioner::Rerank::Consensus);
    let image = scenes::draw(&scenes::scene(77, 1));
    let captions = captioner.caption_batch(&[image], &options).unwrap();
    let values: Vec<f32> = (captions[0].iter())
        .map(|caption| caption.consensus.unwrap())
        .collect();
    assert_eq!(values.len(), 3);
    assert!(
        values.is_sorted_by(|a, b| a >= b) && values[0] > 0.0,
        "{values:?}"
    );
}

#[test]
fn a_least_length_holds_back_the_end_of_the_text_too() {
    let builder = Captioner::builder().device(&Device::flex());
    let captioner = builder.load("model/sample").unwrap();
    let images: Vec<_> = (0..12)
        .map(|index| scenes::draw(&scenes::scene(77, index)))
        .collect();
    let options = CaptionOptions::default().min_length(14);
    for captions in captioner.caption_batch(&images, &options).unwrap() {
        assert!(
            !captions[0].caption.contains("<|endoftext|>"),
            "{}",
            captions[0].caption
        );
    }
    let drawn = Strategy::Sample(Sampling {
        num_captions: 1_000_000,
        ..Sampling::default()
    });
    let error = captioner
        .caption_batch(&images[..1], &CaptionOptions::new(drawn))
        .unwrap_err();
    assert!(error.to_string().contains("give at most 100000"), "{error}");
}
