//! What encoders are trained and judged with computes what PyTorch, torchvision, lightly and scikit-learn compute
//! (`fixtures/make_probe.py`).

use crate::common::{Case, FLOAT32, assert_close, load_weights_of, values};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::Device;
use clipcap::models::clip::preprocess::resized;
use clipcap::models::pca::Pca;
use clipcap::models::resnet18::{ResNet18, ResNet18Config, Stem};
use clipcap::pretrain::augment::{self, Planes};
use clipcap::pretrain::view_loss::ViewLoss;
use clipcap::probe::Embedded;
use clipcap::probe::knn::{self, KnnConfig};
use clipcap::probe::linear::Regression;
use clipcap::trainer::lars::LarsConfig;
use image::{RgbImage, imageops};

const RENAMES: [(&str, &str); 2] = [
    (r"downsample\.0\.", "downsample.conv."),
    (r"downsample\.1\.", "downsample.bn."),
];

fn resnet18_agrees(name: &str, stem: Stem) {
    let device = Device::flex().autodiff();
    let config = ResNet18Config { width: 4, stem };
    let model: ResNet18 = load_weights_of(config.init(&device), &format!("probe/{name}"), &RENAMES);
    let case = Case::at(&format!("probe/{name}_case"));
    let evaluated = |model: &ResNet18| {
        let x = case.tensor("x", &Device::flex());
        values(model.valid().forward(x))
    };
    assert_close(
        &evaluated(&model),
        &case.floats("eval_before"),
        FLOAT32,
        "eval mode",
    );
    let output = model.forward(case.tensor("x", &device));
    assert_close(
        &values(output.clone()),
        &case.floats("train"),
        FLOAT32,
        "train mode",
    );
    let grads = (output * case.tensor("weights", &device)).sum().backward();
    let conv1 = model.conv1.weight.grad(&grads).unwrap();
    assert_close(
        &values(conv1),
        &case.floats("conv1_grad"),
        1e-3,
        "the stem's gradient",
    );
    let bn = model.layer4[1].bn2.weight.grad(&grads).unwrap();
    assert_close(
        &values(bn),
        &case.floats("bn_grad"),
        FLOAT32,
        "a norm's gradient",
    );
    let downsample = model.layer2[0].downsample.as_ref().unwrap();
    let bias = downsample.bn.bias.grad(&grads).unwrap();
    assert_close(
        &values(bias),
        &case.floats("bias_grad"),
        1e-3,
        "a bias's gradient",
    );
    // The running statistics have followed the batch.
    assert_close(
        &evaluated(&model),
        &case.floats("eval_after"),
        FLOAT32,
        "eval mode after it",
    );
}

#[test]
fn resnet18_with_the_stem_for_small_images_equals_torchvision() {
    resnet18_agrees("resnet18_cifar", Stem::Cifar);
}

#[test]
fn resnet18_with_the_stem_for_large_images_equals_torchvision() {
    resnet18_agrees("resnet18_imagenet", Stem::Imagenet);
}

#[test]
fn losses_between_views_equal_lightly_and_their_definitions() {
    let case = Case::at("probe/losses");
    let device = Device::flex().autodiff();
    let first = case.tensor::<2>("first", &device).require_grad();
    let second = case.tensor("second", &device);
    let temperature = 0.2;
    let loss = ViewLoss::NtXent { temperature }.loss(first.clone(), second.clone());
    assert_close(
        &values(loss.clone()),
        &case.floats("nt_xent"),
        FLOAT32,
        "NT-Xent",
    );
    let grad = first.grad(&loss.backward()).unwrap();
    assert_close(&values(grad), &case.floats("grad"), FLOAT32, "its gradient");
    let value = |loss: ViewLoss| values(loss.loss(first.clone(), second.clone()));
    assert_close(
        &value(ViewLoss::NtLogistic { temperature }),
        &case.floats("nt_logistic"),
        FLOAT32,
        "NT-Logistic",
    );
    assert_close(
        &value(ViewLoss::Triplet { margin: 0.8 }),
        &case.floats("triplet"),
        FLOAT32,
        "triplet",
    );
}

#[test]
fn lars_takes_lightlys_steps() {
    let case = Case::at("probe/lars");
    let device = Device::flex();
    let mut layer: Linear = LinearConfig::new(5, 3).init(&device.clone().autodiff());
    let autodiff = device.clone().autodiff();
    let id = (layer.weight.id, layer.bias.as_ref().unwrap().id);
    // burn keeps a linear layer's weights the other way round.
    layer.weight = Param::initialized(
        id.0,
        case.tensor::<2>("weight0", &autodiff)
            .transpose()
            .detach()
            .require_grad(),
    );
    layer.bias = Some(Param::initialized(
        id.1,
        case.tensor::<1>("bias0", &autodiff).require_grad(),
    ));
    let config = LarsConfig {
        momentum: 0.9,
        weight_decay: 1e-2,
        trust: 1e-3,
    };
    let mut optimizer = config.init();
    let all = case.tensor::<3>("grads", &device);
    let all_bias = case.tensor::<2>("bias_grads", &device);
    for step in 0..4 {
        let grad = all.clone().narrow(0, step, 1).squeeze_dim::<2>(0);
        let mut grads = GradientsParams::new();
        grads.register(id.0, grad.transpose());
        grads.register(
            id.1,
            all_bias.clone().narrow(0, step, 1).squeeze_dim::<1>(0),
        );
        layer = optimizer.step(0.7, layer, grads);
        let name = format!("step {step}");
        let weight = layer.weight.val().inner().transpose();
        let expected = case.floats(&format!("weight{}", step + 1));
        assert_close(&values(weight), &expected, 1e-5, &name);
        let bias = layer.bias.as_ref().unwrap().val().inner();
        assert_close(
            &values(bias),
            &case.floats(&format!("bias{}", step + 1)),
            1e-5,
            &name,
        );
    }
}

#[test]
fn principal_components_equal_scikit_learns() {
    let case = Case::at("probe/pca");
    let rows = case.tensor::<2>("rows", &Device::flex());
    let pca = Pca::fit(rows.clone(), 8, 1).unwrap();
    assert_close(
        &values(pca.mean.val()),
        &case.floats("mean"),
        FLOAT32,
        "mean",
    );
    let components = values(pca.components.val());
    assert_close(
        &components,
        &case.floats("components"),
        FLOAT32,
        "components",
    );
    let variance = values(pca.variance.val());
    assert_close(&variance, &case.floats("variance"), FLOAT32, "variance");
    let projected = values(pca.project(rows.clone()));
    assert_close(&projected, &case.floats("projected"), FLOAT32, "projection");
    let error = Pca::fit(rows, 61, 1).unwrap_err().to_string();
    assert!(error.contains("61 principal components"), "{error}");
}

#[test]
fn nearest_neighbors_vote_as_lightlys_do() {
    let case = Case::at("probe/readout");
    let device = Device::flex();
    let train = embedded(&case, &device);
    let test = case.tensor("test", &device);
    for (neighbors, temperature) in [(1, 0.07), (15, 0.07), (50, 0.5), (160, 0.1)] {
        let config = KnnConfig {
            neighbors,
            temperature,
        };
        let found: Vec<i32> = knn::predict(&train, &test, 4, &config)
            .into_iter()
            .map(|class| class as i32)
            .collect();
        assert_eq!(
            found,
            case.ints(&format!("knn_{neighbors}_{temperature}")),
            "{config:?}"
        );
    }
}

#[test]
fn the_linear_classifier_equals_scikit_learns() {
    let case = Case::at("probe/readout");
    let device = Device::flex();
    let train = embedded(&case, &device);
    for (strength, name) in [(0.01, "0.01"), (1.0, "1.0")] {
        let model = Regression::fit(&train.rows, &train.labels, 4, strength);
        let close = |found: Vec<f32>, what: &str| {
            assert_close(
                &found,
                &case.floats(&format!("{what}_{name}")),
                FLOAT32,
                what,
            );
        };
        close(values(model.logits(case.tensor("test", &device))), "logits");
        close(values(model.weight.val()), "weight");
        close(values(model.bias.val()), "bias");
    }
}

fn embedded(case: &Case, device: &Device) -> Embedded {
    Embedded {
        rows: case.tensor::<2>("rows", device),
        labels: case
            .ints("labels")
            .iter()
            .map(|&label| label as usize)
            .collect(),
    }
}

#[test]
fn augmentations_are_torchvisions() {
    let case = Case::at("probe/augmentations");
    let bytes = |key| {
        case.ints(key)
            .iter()
            .map(|&value| value as u8)
            .collect::<Vec<u8>>()
    };
    let image = RgbImage::from_raw(26, 20, bytes("picture")).unwrap();
    // torchvision gives top and left, height and width.
    let cut = imageops::crop_imm(&image, 7, 3, 17, 14).to_image();
    assert_eq!(resized(&cut, 16).into_raw(), bytes("crop"));
    let check = |change: &dyn Fn(&mut Planes), key: &str| {
        let mut view = Planes {
            side: 20,
            values: case.floats("square"),
        };
        change(&mut view);
        let expected = case.floats(key);
        for (i, (found, expected)) in view.values.iter().zip(&expected).enumerate() {
            assert!(
                (found - expected).abs() < 1e-5,
                "{key}: value {i} is {found}, expected {expected}"
            );
        }
    };
    check(&|view| augment::adjust_brightness(view, 1.35), "brightness");
    check(&|view| augment::adjust_contrast(view, 0.6), "contrast");
    check(&|view| augment::adjust_saturation(view, 1.7), "saturation");
    check(&|view| augment::adjust_hue(view, 0.13), "hue");
    check(&|view| augment::adjust_hue(view, -0.4), "hue_back");
    check(&augment::grayscale, "grayscale");
    check(&Planes::flip, "flip");
    check(&|view| augment::gaussian_blur(view, 3, 0.8), "blur_3");
    check(&|view| augment::gaussian_blur(view, 9, 1.9), "blur_9");
}
