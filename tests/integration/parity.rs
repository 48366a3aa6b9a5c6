//! The networks compute what PyTorch computes, on tiny models with random weights (`fixtures/make_models.py`).

use crate::common::{Case, FLOAT32, assert_close, load_weights, values};
use burn::lr_scheduler::LrScheduler;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use burn::train::{InferenceStep, TrainStep};
use clipcap::captioner::Gpt2Step;
use clipcap::data::batcher::{CaptionBatch, TokenBatch};
use clipcap::decode::{DecodeConfig, Strategy, decode};
use clipcap::device::Precision;
use clipcap::models::caption_model::{CaptionModel, Trainable};
use clipcap::models::clip::{Clip, ClipConfig, ClipTextConfig, ClipVisionConfig};
use clipcap::models::gpt2::{Gpt2, Gpt2Config, KvCache};
use clipcap::models::mapper::{Mapper, MapperConfig, MapperKind};
use clipcap::nn::Activation;
use clipcap::pretrain::contrastive::{CLIP_MAX_FACTOR, contrastive_loss};
use clipcap::train::learner::{CaptionLearner, StepConfig};
use clipcap::trainer::optimizer::OptimizerConfig;
use clipcap::trainer::schedule::{Decay, ScheduleConfig};

const CLIP_RENAMES: [(&str, &str); 1] = [(
    r"^vision_model\.pre_layrnorm\.",
    "vision_model.pre_layernorm.",
)];
const MAPPER_RENAMES: [(&str, &str); 3] = [
    (r"^clip_project\.model\.0\.", "hidden."),
    (r"^clip_project\.model\.2\.", "output."),
    (r"^clip_project\.(prefix_const|linear|transformer)", "$1"),
];

fn device() -> Device {
    Device::flex()
}

pub fn clip_a() -> Clip {
    let config = ClipConfig {
        vision: ClipVisionConfig {
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            image_size: 32,
            patch_size: 8,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
        .into(),
        text: Some(ClipTextConfig {
            vocab_size: 99,
            hidden_size: 24,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            max_position_embeddings: 16,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }),
        projection_dim: 20,
    };
    load_weights(config.init(&device()), "clip_a", &CLIP_RENAMES)
}

fn clip_b() -> Clip {
    let config = ClipConfig {
        vision: ClipVisionConfig {
            hidden_size: 40,
            intermediate_size: 72,
            num_hidden_layers: 1,
            num_attention_heads: 5,
            image_size: 32,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
        }
        .into(),
        text: Some(ClipTextConfig {
            vocab_size: 99,
            hidden_size: 16,
            intermediate_size: 40,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            max_position_embeddings: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
        }),
        projection_dim: 20,
    };
    load_weights(config.init(&device()), "clip_b", &CLIP_RENAMES)
}

fn gpt2_config() -> Gpt2Config {
    Gpt2Config {
        vocab_size: 97,
        n_positions: 48,
        n_embd: 32,
        n_layer: 2,
        n_head: 4,
        n_inner: None,
        activation_function: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        tie_word_embeddings: true,
    }
}

pub fn gpt2() -> Gpt2 {
    load_weights(
        gpt2_config().init(&device()),
        "gpt2",
        &[(r"^transformer\.", "")],
    )
}

pub fn mapper(name: &str, kind: MapperKind, n_embd: usize, prefix_length: usize) -> Mapper {
    let config = MapperConfig {
        kind,
        clip_dim: 20,
        n_embd,
        prefix_length,
    };
    load_weights(
        config.init(&device()),
        &format!("mapper_{name}"),
        &MAPPER_RENAMES,
    )
}

pub fn transformer_mapper() -> Mapper {
    let kind = MapperKind::Transformer {
        clip_length: 3,
        layers: 2,
        heads: 8,
    };
    mapper("transformer", kind, 32, 5)
}

fn check_clip(clip: &Clip, name: &str) {
    let (case, device) = (Case::open(name), device());
    let image = clip.encode_image(case.tensor("pixel_values", &device));
    let text = clip.encode_text(
        case.int_tensor("tokens", &device),
        case.int_tensor("eos_positions", &device),
    );
    let loss = contrastive_loss(
        image.clone(),
        text.clone(),
        clip.log_temperature(),
        CLIP_MAX_FACTOR,
    );
    assert_close(
        &values(image),
        &case.floats("image"),
        FLOAT32,
        "image embedding",
    );
    assert_close(
        &values(text),
        &case.floats("text"),
        FLOAT32,
        "text embedding",
    );
    assert_close(
        &values(loss),
        &case.floats("loss"),
        FLOAT32,
        "contrastive loss",
    );
}

#[test]
fn clip_with_quick_gelu_equals_transformers() {
    check_clip(&clip_a(), "clip_a_case");
}

#[test]
fn clip_with_gelu_and_other_sizes_equals_transformers() {
    check_clip(&clip_b(), "clip_b_case");
}

#[test]
fn every_mapper_equals_clipcaps() {
    let (case, device) = (Case::open("mapper_case"), device());
    let deep = MapperKind::Transformer {
        clip_length: 3,
        layers: 8,
        heads: 8,
    };
    let linear = MapperConfig {
        kind: MapperKind::Linear,
        clip_dim: 20,
        n_embd: 32,
        prefix_length: 4,
    };
    let linear = load_weights(
        linear.init(&device),
        "mapper_linear",
        &[(r"^clip_project\.", "output.")],
    );
    let mappers = [
        ("mlp", mapper("mlp", MapperKind::Mlp, 32, 4)),
        ("linear", linear),
        ("transformer", transformer_mapper()),
        ("transformer_deep", mapper("transformer_deep", deep, 16, 2)),
    ];
    for (name, mapper) in mappers {
        let prefix = mapper.forward(case.tensor("embedding", &device));
        assert_close(&values(prefix), &case.floats(name), FLOAT32, name);
    }
}

/// Scores at every position, `[B T, V]` row-major.
fn all_logits(gpt2: &Gpt2, tokens: Tensor<2, Int>) -> Vec<f32> {
    let hidden = gpt2.forward(gpt2.embed_tokens(tokens));
    let [b, t, c] = hidden.dims();
    values(gpt2.logits(hidden.reshape([b * t, c])))
}

#[test]
fn gpt2_equals_transformers_at_every_position() {
    let (case, device) = (Case::open("gpt2_case"), device());
    let logits = all_logits(&gpt2(), case.int_tensor("tokens", &device));
    assert_close(&logits, &case.floats("logits"), FLOAT32, "logits");
}

#[test]
fn cached_decoding_equals_reading_everything_anew() {
    let (case, device) = (Case::open("gpt2_case"), device());
    let gpt2 = gpt2();
    let tokens = case.int_tensor::<2>("tokens", &device);
    let expected = case.floats("logits");
    let mut cache = gpt2_config().cache(11);
    let embeddings = gpt2.embed_tokens(tokens.clone().narrow(1, 0, 4));
    let mut hidden = gpt2.prefill(embeddings, &mut cache);
    for position in 3..11 {
        if position > 3 {
            hidden = gpt2.extend(
                tokens.clone().narrow(1, position, 1).squeeze_dim(1),
                &mut cache,
            );
        }
        let logits = values(gpt2.logits(hidden.clone()));
        for row in 0..3 {
            let at = (row * 11 + position) * 97;
            let what = format!("row {row}, position {position}");
            assert_close(
                &logits[row * 97..][..97],
                &expected[at..][..97],
                FLOAT32,
                &what,
            );
        }
    }
    assert_eq!(cache.len(), 11);
}

#[test]
fn a_reordered_cache_goes_on_as_the_rows_it_came_from() {
    let (case, device) = (Case::open("gpt2_case"), device());
    let gpt2 = gpt2();
    let tokens = case.int_tensor::<2>("tokens", &device);
    let mut cache = gpt2_config().cache(11);
    gpt2.prefill(
        gpt2.embed_tokens(tokens.clone().narrow(1, 0, 10)),
        &mut cache,
    );
    let rows = [2, 0, 2, 2];
    cache.reorder(&rows);
    let last = tokens.narrow(1, 10, 1).squeeze_dim::<1>(1);
    let index = Tensor::<1, Int>::from_ints([2, 0, 2, 2], &device);
    let logits = values(gpt2.logits(gpt2.extend(last.select(0, index), &mut cache)));
    for (i, row) in rows.into_iter().enumerate() {
        let expected = &case.floats("logits")[(row * 11 + 10) * 97..][..97];
        assert_close(&logits[i * 97..][..97], expected, FLOAT32, "reordered row");
    }
}

#[test]
fn a_batch_gives_what_each_row_gives_alone() {
    let (case, device) = (Case::open("gpt2_case"), device());
    let gpt2 = gpt2();
    let tokens = case.int_tensor::<2>("tokens", &device);
    let together = all_logits(&gpt2, tokens.clone());
    for row in 0..3 {
        let alone = all_logits(&gpt2, tokens.clone().narrow(0, row, 1));
        assert_close(&together[row * 11 * 97..][..11 * 97], &alone, 1e-5, "row");
    }
}

#[test]
fn saved_weights_give_the_same_bits() {
    let (case, device) = (Case::open("gpt2_case"), device());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpt2.bpk");
    let gpt2 = gpt2();
    gpt2.clone().into_record().save(&path).unwrap();
    let record = burn::store::ModuleRecord::load(&path).unwrap();
    let loaded = gpt2_config().init(&device).try_load_record(record).unwrap();
    let tokens = || case.int_tensor("tokens", &device);
    assert_eq!(all_logits(&gpt2, tokens()), all_logits(&loaded, tokens()));
}

fn found_ids(strategy: Strategy, case: &Case) -> Vec<Vec<clipcap::decode::Hypothesis>> {
    let device = device();
    let gpt2 = gpt2();
    let prefix = transformer_mapper().forward(case.tensor("embedding", &device));
    let config = DecodeConfig::new(strategy, 12, vec![case.ints("stop")[0] as u32]);
    let mut step = Gpt2Step::new(&gpt2, gpt2_config().n_layer, prefix, &config);
    decode(&mut step, &config).unwrap()
}

#[test]
fn greedy_ids_equal_an_uncached_search_in_pytorch() {
    let case = Case::open("search_case");
    for (i, found) in found_ids(Strategy::Greedy, &case).into_iter().enumerate() {
        let tokens: Vec<i32> = found[0].tokens.iter().map(|&token| token as i32).collect();
        assert_eq!(tokens, case.ints(&format!("greedy_{i}")), "image {i}");
    }
}

#[test]
fn beams_equal_clipcaps_in_ids_lengths_and_scores() {
    let case = Case::open("search_case");
    let mut early = 0;
    for beam_size in [3, 5] {
        for (i, found) in found_ids(Strategy::Beam { beam_size }, &case)
            .into_iter()
            .enumerate()
        {
            let key = |what: &str| format!("beam{beam_size}_{what}_{i}");
            let (ids, lengths) = (case.ints(&key("ids")), case.ints(&key("lengths")));
            for (rank, hypothesis) in found.iter().enumerate() {
                let length = lengths[rank] as usize;
                let tokens: Vec<i32> = hypothesis
                    .tokens
                    .iter()
                    .map(|&token| token as i32)
                    .collect();
                assert_eq!(tokens, ids[rank * 12..][..length], "image {i}, rank {rank}");
                early += usize::from(length < 12);
            }
            let scores: Vec<f32> = found.iter().map(|hypothesis| hypothesis.score).collect();
            assert_close(&scores, &case.floats(&key("scores")), FLOAT32, "scores");
        }
    }
    assert!(
        early > 10,
        "the fixture has beams that finish early: {early}"
    );
}

fn batch(case: &Case, index: usize, device: &Device) -> CaptionBatch {
    let tokens = case.ints(&format!("tokens_{index}"));
    let rows: Vec<Vec<u32>> = case
        .ints(&format!("lengths_{index}"))
        .into_iter()
        .enumerate()
        .map(|(row, length)| {
            tokens[row * 9..][..length as usize]
                .iter()
                .map(|&token| token as u32)
                .collect()
        })
        .collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    CaptionBatch {
        clip_embedding: case.tensor(&format!("embedding_{index}"), device),
        tokens: TokenBatch::new(&rows, device),
        references: Vec::new(),
        prompts: Vec::new(),
        weight: 1.0,
    }
}

/// A step without anything but the networks.
fn step(trainable: Trainable) -> StepConfig {
    StepConfig {
        trainable,
        accumulation: 1,
        clip_norm: None,
        label_smoothing: 0.0,
        precision: Precision::F32,
    }
}

fn caption_model() -> CaptionModel {
    CaptionModel {
        prefix_mapper: transformer_mapper(),
        gpt2: gpt2(),
    }
}

#[test]
fn the_joint_loss_ignores_padding_and_counts_a_real_token_zero() {
    let case = Case::open("training_case");
    let learner = CaptionLearner::new(caption_model(), step(Trainable::MapperAndGpt2));
    let output = InferenceStep::step(&learner, batch(&case, 0, &device()));
    assert_close(&values(output.loss), &case.floats("loss"), FLOAT32, "loss");
}

#[test]
fn gradients_reach_mapper_and_gpt2_with_pytorchs_norms() {
    let case = Case::open("training_case");
    let device = device().autodiff();
    let model = caption_model().train();
    let batch = batch(&case, 0, &device);
    let hidden = model.forward(batch.clip_embedding, batch.tokens.tokens);
    let loss = clipcap::models::gpt2::cross_entropy(
        &model.gpt2,
        hidden,
        batch.tokens.positions,
        batch.tokens.targets,
    );
    let grads = loss.backward();
    let Mapper::Transformer(mapper) = &model.prefix_mapper else {
        panic!("the fixture's mapper is a transformer");
    };
    let weights = [
        mapper.linear.weight.val(),
        mapper.prefix_const.val(),
        model.gpt2.h[0].attn.c_proj.weight.val(),
        model.gpt2.wte.weight.val(),
    ];
    let norms: Vec<f32> = weights
        .iter()
        .map(|weight| {
            let grad = weight.grad(&grads).expect("a gradient");
            values((grad.clone() * grad).sum())[0].sqrt()
        })
        .collect();
    for (norm, expected) in norms.iter().zip(case.floats("grad_norms")) {
        assert_close(&[*norm], &[expected], FLOAT32, "gradient norm");
    }
}

fn ten_steps(trainable: Trainable) -> (Vec<f32>, CaptionModel) {
    let case = Case::open("training_case");
    let device = device().autodiff();
    let mut learner = CaptionLearner::new(caption_model(), step(trainable)).train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .init();
    let losses = (0..10)
        .map(|step| {
            let output = TrainStep::step(&learner, batch(&case, step % 2, &device));
            let grads: GradientsParams = output.grads;
            learner = optimizer.step(1e-3, learner.clone(), grads);
            values(output.item.loss)[0]
        })
        .collect();
    (losses, learner.valid().into_model())
}

#[test]
fn ten_steps_of_adamw_on_the_mapper_follow_pytorch_and_leave_gpt2_alone() {
    let (losses, model) = ten_steps(Trainable::Mapper);
    assert_close(
        &losses,
        &Case::open("training_case").floats("losses_mapper"),
        FLOAT32,
        "losses",
    );
    let weight = |gpt2: &Gpt2| values(gpt2.h[1].mlp.c_fc.weight.val());
    assert_eq!(weight(&model.gpt2), weight(&gpt2()));
}

#[test]
fn ten_steps_of_adamw_on_both_follow_pytorch() {
    let (losses, model) = ten_steps(Trainable::MapperAndGpt2);
    assert_close(
        &losses,
        &Case::open("training_case").floats("losses_joint"),
        FLOAT32,
        "losses",
    );
    let weight = |gpt2: &Gpt2| values(gpt2.h[1].mlp.c_fc.weight.val());
    assert_ne!(weight(&model.gpt2), weight(&gpt2()));
}

/// Warmup, linear decay, weight decay that spares biases and norms, clipping, smoothing and accumulation, together.
fn thirty_steps(trainable: Trainable) -> Vec<f32> {
    let case = Case::open("training_case");
    let device = device().autodiff();
    let config = StepConfig {
        accumulation: 2,
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        ..step(trainable)
    };
    let mut learner = CaptionLearner::new(caption_model(), config).train();
    let mut optimizer = OptimizerConfig {
        weight_decay: 0.1,
        ..OptimizerConfig::adam()
    }
    .init();
    let mut schedule = ScheduleConfig {
        learning_rate: 2e-3,
        warmup_steps: 5,
        decay: Decay::Linear,
    }
    .init(30);
    let mut losses = Vec::new();
    for _ in 0..30 {
        let mut accumulated = GradientsAccumulator::new();
        for index in 0..2 {
            let output = TrainStep::step(&learner, batch(&case, index, &device));
            accumulated.accumulate(&learner, output.grads);
            losses.extend(values(output.item.loss));
        }
        let rate = schedule.step();
        learner = learner.optimize(&mut optimizer, rate.into(), accumulated.grads());
    }
    losses
}

#[test]
fn thirty_steps_on_the_mapper_with_everything_on_follow_pytorch() {
    let expected = Case::open("schedule_case").floats("losses_mapper");
    assert_close(
        &thirty_steps(Trainable::Mapper),
        &expected,
        FLOAT32,
        "losses",
    );
}

#[test]
fn thirty_steps_on_both_with_everything_on_follow_pytorch() {
    let expected = Case::open("schedule_case").floats("losses_joint");
    assert_close(
        &thirty_steps(Trainable::MapperAndGpt2),
        &expected,
        FLOAT32,
        "losses",
    );
}

#[test]
fn low_rank_training_changes_attention_weights_and_nothing_else_of_gpt2() {
    let case = Case::open("training_case");
    let device = device().autodiff();
    let trainable = Trainable::MapperAndLora {
        rank: 2,
        alpha: 4.0,
    };
    let mut learner = CaptionLearner::new(caption_model(), step(trainable)).train();
    let mut optimizer = OptimizerConfig::adam().init();
    let mut losses = Vec::new();
    for i in 0..6 {
        let output = TrainStep::step(&learner, batch(&case, i % 2, &device));
        learner = learner.optimize(&mut optimizer, 1e-2.into(), output.grads);
        losses.extend(values(output.item.loss));
    }
    assert!(losses[4] < losses[0] && losses[5] < losses[1], "{losses:?}");
    let before = losses_of(&learner.valid(), &case);
    let (trained, original) = (learner.valid().into_model().gpt2, gpt2());
    let weights = |gpt2: &Gpt2| {
        let block = &gpt2.h[1];
        (
            values(block.attn.c_attn.weight.val()),
            [
                values(block.attn.c_attn.bias.val()),
                values(block.attn.c_proj.weight.val()),
                values(block.mlp.c_fc.weight.val()),
                values(gpt2.wte.weight.val()),
            ],
        )
    };
    assert_ne!(weights(&trained).0, weights(&original).0);
    assert_eq!(weights(&trained).1, weights(&original).1);
    let model = CaptionModel {
        gpt2: trained,
        ..learner.valid().into_model()
    };
    let merged = CaptionLearner::new(model, step(Trainable::Mapper));
    assert_close(
        &losses_of(&merged, &case),
        &before,
        FLOAT32,
        "losses of merged weights",
    );
}

fn losses_of(learner: &CaptionLearner, case: &Case) -> Vec<f32> {
    values(InferenceStep::step(learner, batch(case, 0, &device())).loss)
}

#[test]
fn full_size_models_have_the_published_numbers_of_parameters() {
    let device = device();
    let mapper = |kind, clip_dim, prefix_length| {
        let config = MapperConfig {
            kind,
            clip_dim,
            n_embd: 768,
            prefix_length,
        };
        config.init(&device).num_params()
    };
    let transformer = |clip_length| MapperKind::Transformer {
        clip_length,
        layers: 8,
        heads: 8,
    };
    assert_eq!(mapper(MapperKind::Mlp, 512, 10), 31_468_800);
    assert_eq!(mapper(transformer(10), 640, 10), 42_728_448);
    assert_eq!(mapper(transformer(40), 640, 40), 57_520_128);
    assert_eq!(Gpt2Config::small().init(&device).num_params(), 124_439_808);
}

#[test]
fn a_cache_without_room_says_so() {
    let gpt2 = gpt2();
    let mut cache = KvCache::new(2, 3);
    let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3, 4]], &device());
    let read = std::panic::AssertUnwindSafe(|| gpt2.prefill(gpt2.embed_tokens(tokens), &mut cache));
    let panic = std::panic::catch_unwind(read).unwrap_err();
    assert!(
        panic
            .downcast_ref::<String>()
            .unwrap()
            .contains("room for 3")
    );
}
