//! The GPU backend beside the CPU's, on whatever Vulkan, Metal or DirectX device there is: Mesa's software one does.
//! Without any the tests pass without having run, unless `CLIPCAP_REQUIRE_WGPU` is set.
#![cfg(feature = "wgpu")]

use burn::module::Module;
use burn::tensor::{Device, DeviceType, Tensor, TensorData};
use burn::train::{InferenceStep, TrainStep};
use clipcap::captioner::Captioner;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::data::batcher::{CaptionBatch, TokenBatch};
use clipcap::datasets::scenes;
use clipcap::decode::Strategy;
use clipcap::device::Precision;
use clipcap::models::caption_model::{CaptionModel, Trainable};
use clipcap::train::learner::{CaptionLearner, StepConfig};
use clipcap::trainer::optimizer::OptimizerConfig;

fn wgpu() -> Option<Device> {
    let device = Device::enumerate(DeviceType::Wgpu)
        .into_vec()
        .into_iter()
        .next();
    let required = std::env::var_os("CLIPCAP_REQUIRE_WGPU").is_some();
    assert!(device.is_some() || !required, "no device for wgpu");
    device
}

/// Captions on the device in a precision, beside the CPU's in float32.
fn captions_equal(precision: Precision, strategies: &[Strategy], tolerance: f32) {
    let Some(device) = wgpu() else { return };
    let load = |device: &Device, precision| {
        let builder = Captioner::builder().device(device).precision(precision);
        builder.load("model/sample").unwrap()
    };
    let (cpu, gpu) = (
        load(&Device::flex(), Precision::F32),
        load(&device, precision),
    );
    let images: Vec<_> = (0..3)
        .map(|index| scenes::draw(&scenes::scene(77, index)))
        .collect();
    let (expected, found) = (
        cpu.encoder.embed_images(&images).unwrap(),
        gpu.encoder.embed_images(&images).unwrap(),
    );
    assert_eq!(found.concat().len(), expected.concat().len());
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < tolerance, "{a} {b}");
    }
    for strategy in strategies {
        let config = cpu.decoder.decode_config(strategy.clone());
        let expected = cpu.decoder.caption(&expected, &config).unwrap();
        let found = gpu.decoder.caption(&found, &config).unwrap();
        assert_eq!(found.len(), images.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found.tokens, expected.tokens);
                assert!((found.log_prob - expected.log_prob).abs() < 10.0 * tolerance);
            }
        }
    }
}

#[test]
fn captions_on_wgpu_are_those_of_the_cpu() {
    let strategies = [Strategy::Greedy, Strategy::Beam { beam_size: 3 }];
    captions_equal(Precision::F32, &strategies, 1e-3);
}

#[test]
fn captions_in_float16_on_wgpu_are_those_of_the_cpu() {
    captions_equal(Precision::F16, &[Strategy::Greedy], 1e-2);
}

/// Losses of three training steps, and the validation loss after them.
fn losses(folder: &ModelFolder, device: &Device, precision: Precision) -> Vec<f32> {
    let model = CaptionModel {
        prefix_mapper: folder.load_mapper(device).unwrap(),
        gpt2: folder.load_gpt2(device).unwrap(),
    };
    let step = StepConfig {
        trainable: Trainable::MapperAndGpt2,
        accumulation: 1,
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        precision,
    };
    let batch = |device: &Device| {
        let rows: [&[u32]; 3] = [&[5, 6, 7, 8], &[9, 10], &[11, 12, 13]];
        let width = folder.captioner_config().unwrap().sizes.clip_dim;
        let values: Vec<f32> = (0..3 * width).map(|i| (i as f32).sin()).collect();
        CaptionBatch {
            clip_embedding: Tensor::from_data(TensorData::new(values, [3, width]), device),
            tokens: TokenBatch::new(&rows, device),
            references: Vec::new(),
            prompts: Vec::new(),
            weight: 1.0,
        }
    };
    let loss = |loss: Tensor<1>| loss.into_data().iter::<f32>().next().unwrap();
    let mut learner = CaptionLearner::new(model, step).train();
    let mut optimizer = OptimizerConfig::adam().init();
    let mut losses = Vec::new();
    for _ in 0..3 {
        let output = TrainStep::step(&learner, batch(&device.clone().autodiff()));
        learner = TrainStep::optimize(learner, &mut optimizer, 1e-3.into(), output.grads);
        losses.push(loss(output.item.loss));
    }
    let valid = InferenceStep::step(&learner.valid(), batch(device));
    losses.push(loss(valid.loss));
    losses
}

#[test]
fn training_on_wgpu_has_the_losses_of_the_cpu() {
    let Some(device) = wgpu() else { return };
    let place = tempfile::tempdir().unwrap();
    crate::common::model::write_model(place.path());
    let folder = ModelFolder::open(place.path()).unwrap();
    let expected = losses(&folder, &Device::flex(), Precision::F32);
    assert!(expected[3] < expected[0], "it learns: {expected:?}");
    let found = losses(&folder, &device, Precision::F32);
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-3, "{found:?} {expected:?}");
    }
}
