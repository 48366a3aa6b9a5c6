//! Explanations: relevance as the published rule has it, and what a captioner says of its captions.

mod program;

use burn::module::Module;
use burn::tensor::Device;
use clipcap::captioner::model_folder::update_config;
use clipcap::captioner::{CaptionOptions, Captioner, Modules};
use clipcap::device::Precision;
use clipcap::explain::attention::{Reading, patches, sources};
use clipcap::explain::{ExplainOptions, Method};
use clipcap::images;
use clipcap::models::caption_model::CaptionModel;
use clipcap::models::encoder::{ImageEncoderConfig, NetworkConfig, preprocessing};
use clipcap::models::mapper::{Mapper, MapperKind};
use image::RgbImage;

use crate::common::model::{write_model, write_model_sized};
use crate::common::{Case, assert_close, fixture};
use crate::parity;

/// Of relevance, a product of gradients and probabilities over all layers.
const TOLERANCE: f32 = 1e-4;

fn modules(mapper: Mapper) -> Modules {
    let captions = CaptionModel {
        prefix_mapper: mapper,
        gpt2: parity::gpt2(),
    };
    let device = Device::flex().autodiff();
    Modules::new(Some(parity::clip_a().train()), captions.train(), device)
}

/// `fixtures/make_explain.py`
#[test]
fn relevance_is_that_of_the_published_rule() {
    let case = Case::at("explain/chefer");
    let tokens: Vec<u32> = case.ints("tokens").iter().map(|&id| id as u32).collect();
    for (name, mapper) in [
        ("transformer", parity::transformer_mapper()),
        ("mlp", parity::mapper("mlp", MapperKind::Mlp, 32, 4)),
    ] {
        let modules = modules(mapper);
        let clip = modules.clip.as_ref().unwrap();
        let pixel_values = case.tensor("pixel_values", &modules.device);
        let embedding = clip.encode_image(pixel_values.clone()).into_data();
        let embedding: Vec<f32> = embedding.iter().collect();
        let reading = Reading {
            embedding: &embedding,
            normalize: true,
            tokens: &tokens,
            explained: 0..tokens.len(),
        };
        let sources = sources(&modules, &reading).unwrap();
        assert_eq!(sources.len(), tokens.len());
        let gradients: Vec<Vec<f32>> = (sources.iter())
            .map(|source| source.gradient.clone())
            .collect();
        let patches = patches(clip, &pixel_values, &gradients).unwrap();
        for (place, (source, patches)) in sources.iter().zip(&patches).enumerate() {
            let check = |what: &str, found: &[f32]| {
                let key = format!("{name}_{what}_{place}");
                assert_close(found, &case.floats(&key), TOLERANCE, &key);
            };
            check("log_prob", &[source.log_probs[tokens[place] as usize]]);
            check("gradient", &source.gradient);
            check("positions", &source.positions);
            check("patches", patches);
            match name {
                "transformer" => check("embedding", &source.embedding),
                _ => assert!(source.embedding.is_empty(), "an MLP attends to nothing"),
            }
        }
        // One after the other as together, and after a prompt.
        let last = Reading {
            explained: 4..6,
            ..reading
        };
        let last = clipcap::explain::attention::sources(&modules, &last).unwrap();
        for (alone, together) in last.iter().zip(&sources[4..]) {
            assert_close(&alone.gradient, &together.gradient, TOLERANCE, "gradient");
            assert_close(
                &alone.positions,
                &together.positions,
                TOLERANCE,
                "positions",
            );
        }
    }
}

fn captioner() -> (tempfile::TempDir, Captioner) {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let builder = Captioner::builder().device(&Device::flex());
    let captioner = builder.precision(Precision::F32).load(folder.path());
    (folder, captioner.unwrap())
}

fn photo() -> RgbImage {
    images::open(fixture("preprocess/wide.png")).unwrap()
}

#[test]
fn a_caption_is_explained_token_by_token() {
    let (_folder, captioner) = captioner();
    let captions = CaptionOptions::beam(3).prompt("A red").max_length(6);
    let options = ExplainOptions::default().captions(captions.clone());
    let best = captioner
        .caption_batch(&[photo()], &captions)
        .unwrap()
        .remove(0)
        .remove(0);
    for method in [Method::Attention, Method::Occlusion] {
        let options = options.clone().method(method).alternatives(4).neighbors(3);
        let found = captioner.explain(&photo(), &options).unwrap();
        assert_eq!((found.method, found.side), (method, 2));
        assert_eq!(found.caption, best.caption);
        assert!((found.log_prob - best.log_prob).abs() < 1e-3 * best.log_prob.abs());
        let prompt = found.prompt.len();
        assert_eq!(found.prompt.concat(), "A red");
        assert_eq!(prompt + found.tokens.len(), best.tokens.len());
        assert_eq!(found.prefix.len(), 4);
        for vector in &found.prefix {
            assert_eq!(vector.neighbors.len(), 3);
            assert!(vector.neighbors.is_sorted_by(|a, b| a.cosine >= b.cosine));
            assert!(
                vector
                    .neighbors
                    .iter()
                    .all(|near| near.cosine.abs() <= 1.0001)
            );
        }
        for (place, token) in found.tokens.iter().enumerate() {
            assert_eq!(token.id, best.tokens[prompt + place]);
            assert_eq!((token.cells.len(), token.prefix.len()), (4, 4));
            assert_eq!(token.words.len(), prompt + place);
            assert_eq!(token.embedding.len(), 3);
            assert_eq!(token.alternatives.len(), 4);
            assert!(
                token
                    .alternatives
                    .is_sorted_by(|a, b| a.log_prob >= b.log_prob)
            );
            let own = token.alternatives.iter().find(|other| other.id == token.id);
            assert!(own.is_none_or(|own| own.log_prob == token.log_prob));
            assert!(
                (0.0..=1.0).contains(&token.image_share),
                "{}",
                token.image_share
            );
            let attended = token.prefix.iter().chain(&token.words);
            assert!(attended.into_iter().all(|&value| value > -1e-5));
            if method == Method::Attention {
                assert!(token.cells.iter().all(|&value| value >= 0.0));
            }
        }
        let maps: Vec<_> = found.tokens.iter().map(|token| &token.cells).collect();
        assert!(
            maps.windows(2).any(|pair| pair[0] != pair[1]),
            "tokens look at the same"
        );
    }
}

#[test]
fn what_cannot_be_explained_is_named() {
    let (_folder, captioner) = captioner();
    let refused = |options: ExplainOptions| {
        let error = captioner.explain(&photo(), &options).unwrap_err();
        error.to_string()
    };
    let attention = ExplainOptions::default().method(Method::Attention);
    assert!(refused(attention.cells(5)).contains("2 a side"));
    let occlusion = || ExplainOptions::default().method(Method::Occlusion);
    assert!(refused(occlusion().cells(0)).contains("0 cells a side"));
    let found = captioner.explain(&photo(), &occlusion().cells(3)).unwrap();
    assert_eq!((found.side, found.tokens[0].cells.len()), (3, 9));
}

#[test]
fn an_encoder_without_attention_is_explained_by_occlusion() {
    let folder = tempfile::tempdir().unwrap();
    let side = 4;
    write_model_sized(folder.path(), 1, 3 * side * side);
    update_config(folder.path(), |config| {
        config.encoder = Some(ImageEncoderConfig {
            network: NetworkConfig::Pixels,
            preprocessing: preprocessing(side as u32),
        });
    })
    .unwrap();
    let captioner = Captioner::builder().device(&Device::flex());
    let captioner = captioner.load(folder.path()).unwrap();
    let found = captioner
        .explain(&photo(), &ExplainOptions::default())
        .unwrap();
    assert_eq!((found.method, found.side), (Method::Occlusion, side));
    let lost = found.tokens.iter().flat_map(|token| &token.cells);
    assert!(lost.into_iter().any(|&lost| lost != 0.0));
    let options = ExplainOptions::default().method(Method::Attention);
    let error = captioner.explain(&photo(), &options).unwrap_err();
    assert!(error.to_string().contains("use occlusion"), "{error}");
}

#[test]
fn the_sample_model_looks_at_what_it_names() {
    let captioner = Captioner::builder()
        .device(&Device::flex())
        .load(clipcap::Catalog::default().find("sample").unwrap())
        .unwrap();
    // A small red circle in the lower right of a white square.
    let image = RgbImage::from_fn(64, 64, |x, y| {
        let (x, y) = (x as f32 - 45.5, y as f32 - 45.5);
        match x * x + y * y < 90.0 {
            true => image::Rgb([220, 30, 30]),
            false => image::Rgb([245, 245, 245]),
        }
    });
    for method in [Method::Attention, Method::Occlusion] {
        let options = ExplainOptions::default().method(method);
        let found = captioner.explain(&image, &options).unwrap();
        let token = found.tokens.iter().find(|token| token.text.trim() == "red");
        let token = token.unwrap_or_else(|| panic!("{}", found.caption));
        assert!(token.content);
        let most = (0..64).max_by(|&a, &b| token.cells[a].total_cmp(&token.cells[b]));
        let (row, column) = (most.unwrap() / 8, most.unwrap() % 8);
        assert!(
            (4..8).contains(&row) && (4..8).contains(&column),
            "{row} {column}"
        );
    }
}
