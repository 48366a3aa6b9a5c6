//! How a run computes changes what it costs and not what it learns: several devices, recomputed activations, half
//! precision.

use std::process::Output;

use crate::common::place::{Place, fails_with, stderr};
use crate::common::run::{losses, validation_losses, weights};
use clipcap::train::config::TrainConfig;

const SHORT: [&str; 6] = ["--epochs", "2", "--seed", "3", "--warmup-steps", "1"];

/// Trains, and gives the run's name.
fn train<'a>(place: &Place, run: &'a str, more: &[&str]) -> &'a str {
    let output = place.train(run, &[&SHORT[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{run}: {}", stderr(&output));
    run
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * expected.abs(),
            "{found} is not {expected}"
        );
    }
}

/// Trains on these devices, the GPU-less names of `--devices`.
fn on_devices(place: &Place, run: &str, devices: &str, batch_size: &str, more: &[&str]) -> Output {
    let args = format!(
        "train --model model/tiny --data data/captions.json --images data/images --prefix-length 4 --clip-length 3 --layers 1 --learning-rate 1e-3 --ui plain --run {run} --devices {devices} --batch-size {batch_size}"
    );
    let args: Vec<&str> = args.split(' ').collect();
    place.run(&[&args[..], &SHORT, more].concat())
}

#[test]
fn devices_that_share_a_batch_learn_what_one_learns_from_the_whole() {
    let place = Place::new();
    place.write_data();
    let path = |run: &str| place.path("artifacts").join(run);
    // Captions differ in length, and with seven rows a batch neither two nor three devices get the same number of them.
    for trainable in ["mapper", "mapper-and-gpt2"] {
        let more = ["--trainable", trainable, "--clip-norm", "1"];
        let name = |devices: &str| format!("{}-{trainable}", devices.replace(',', "-"));
        for devices in ["cpu", "cpu,cpu", "cpu,cpu,cpu"] {
            let run = name(devices);
            let output = on_devices(&place, &run, devices, "7", &more);
            assert_eq!(output.status.code(), Some(0), "{run}: {}", stderr(&output));
            let found = validation_losses(&path(&run));
            assert_eq!(found.len(), 2);
            // Every device's part of a step is a line of the log; validation, a line an epoch, is done on one.
            let steps = losses(&path(&name("cpu"))).len() - found.len();
            let lines = losses(&path(&run)).len() - found.len();
            assert_eq!(lines, steps * devices.split(',').count());
            assert_near(&found, &validation_losses(&path(&name("cpu"))), 1e-5);
        }
    }
    let (one, two) = (
        weights(&path("cpu-mapper")),
        weights(&path("cpu-cpu-mapper")),
    );
    let worst = one
        .iter()
        .zip(&two)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "weights differ by {worst}");
}

#[test]
fn devices_that_cannot_be_had_or_shared_are_refused() {
    let place = Place::new();
    place.write_data();
    fails_with(
        &on_devices(&place, "few", "cpu,cpu,cpu", "2", &[]),
        &["batch of 2", "3 devices", "--batch-size"],
    );
    let output = on_devices(&place, "twice", "rocm:0,rocm:0", "4", &[]);
    fails_with(&output, &["`rocm:0` is named twice"]);
    if cfg!(not(feature = "cuda")) {
        let output = on_devices(&place, "cards", "cuda:0,cuda:1", "4", &[]);
        fails_with(
            &output,
            &["`cuda:0` is not in this build", "--features cuda"],
        );
    }
}

#[test]
fn recomputed_activations_give_the_same_losses_and_resume() {
    let place = Place::new();
    place.write_data();
    let path = |run: &str| place.path("artifacts").join(run);
    for trainable in ["mapper", "mapper-and-gpt2", "mapper-and-lora"] {
        let kept = format!("kept-{trainable}");
        let again = format!("again-{trainable}");
        train(&place, &kept, &["--trainable", trainable]);
        train(
            &place,
            &again,
            &["--trainable", trainable, "--activation-checkpointing"],
        );
        assert_eq!(losses(&path(&again)), losses(&path(&kept)), "{trainable}");
        assert_eq!(weights(&path(&again)), weights(&path(&kept)), "{trainable}");
    }
    let run = path("again-mapper");
    let config: TrainConfig = clipcap::files::read_json(&run.join("config.json")).unwrap();
    let longer = TrainConfig {
        epochs: 3,
        ..config
    };
    clipcap::files::write_json(&run.join("config.json"), &longer).unwrap();
    let output = place.run(&[
        "train",
        "--resume",
        "artifacts/again-mapper",
        "--device",
        "cpu",
        "--ui",
        "plain",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn half_precision_learns_nearly_the_same_and_keeps_float32_weights() {
    let place = Place::new();
    place.write_data();
    let path = |run: &str| place.path("artifacts").join(run);
    for trainable in ["mapper", "mapper-and-gpt2", "mapper-and-lora"] {
        let full = format!("f32-{trainable}");
        train(&place, &full, &["--trainable", trainable]);
        for (precision, tolerance) in [("f16", 2e-3), ("bf16", 2e-2)] {
            let run = format!("{precision}-{trainable}");
            train(
                &place,
                &run,
                &["--trainable", trainable, "--precision", precision],
            );
            assert_near(
                &validation_losses(&path(&run)),
                &validation_losses(&path(&full)),
                tolerance,
            );
            let kept = weights(&path(&run));
            let halves = kept
                .iter()
                .filter(|weight| weight.to_bits() & 0x1fff == 0)
                .count();
            assert!(halves < kept.len() / 2, "{run}: weights were rounded");
        }
    }
}
