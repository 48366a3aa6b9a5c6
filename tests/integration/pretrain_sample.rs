//! The sample model made from nothing, at a tiny size.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use burn::train::Interrupter;
use clipcap::captioner::model_folder::ModelFolder;
use clipcap::datasets::scenes;
use clipcap::device::{DeviceChoice, Devices};
use clipcap::pretrain::run::PretrainData;
use clipcap::pretrain::sample::{SampleConfig, SampleContext, SampleDone, pretrain_sample};
use clipcap::train::config::TrainData;
use clipcap::trainer::dashboard::Ui;
use serde_json::Value;

fn tiny(data: &Path) -> SampleConfig {
    let mut config = SampleConfig::default();
    config.clip.data = PretrainData::Scenes { count: 320 };
    config.clip.batch_size = 16;
    config.clip.epochs = 2;
    config.gpt2.data = PretrainData::Scenes { count: 100 };
    config.gpt2.epochs = 1;
    config.mapper.data = TrainData::Files {
        captions: data.join("captions.json"),
        images: vec![data.join("images")],
    };
    config.mapper.batch_size = 4;
    config.mapper.epochs = 1;
    config
}

fn run(
    config: &SampleConfig,
    folder: &Path,
    interrupter: Interrupter,
) -> anyhow::Result<Option<SampleDone>> {
    let context = SampleContext {
        folder: &folder.join("run"),
        output: &folder.join("made"),
        dataset: &folder.join("dataset"),
        devices: &Devices::resolve(&[DeviceChoice::Cpu])?,
        ui: Ui::Quiet,
        report: Arc::new(|_| ()),
        interrupter,
        overwrite: false,
    };
    pretrain_sample(config, &context)
}

#[test]
fn the_sample_model_is_made_part_by_part_and_goes_on_where_it_was_stopped() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    scenes::ensure(&folder.join("data"), 5, 12).unwrap();
    fs::create_dir(folder.join("run")).unwrap();
    let config = tiny(&folder.join("data"));

    let stopped = Interrupter::new();
    stopped.stop(None);
    assert_eq!(run(&config, folder, stopped).unwrap(), None);
    assert!(!folder.join("made").exists());
    assert!(folder.join("run/clip/spent.json").is_file());

    let done = run(&config, folder, Interrupter::new()).unwrap().unwrap();
    assert!(done.clip.parameters > 600_000 && done.gpt2.parameters > 200_000);
    let model = ModelFolder::open(&folder.join("made")).unwrap();
    model.load_mapper(&Device::flex()).unwrap();
    model.check_texts().unwrap();
    let source = fs::read_to_string(folder.join("made/source.json")).unwrap();
    let source: Value = serde_json::from_str(&source).unwrap();
    for part in ["clip", "gpt2", "mapper"] {
        let entry = &source[part];
        assert!(entry["seconds"].as_f64().unwrap() > 0.0, "{entry}");
        assert!(entry["parameters"].as_u64().unwrap() > 0);
        assert!(entry["config"]["seed"].is_u64() && entry["sha256"].is_string());
    }
    let scores = &source["mapper"]["scores"];
    assert_eq!(scores["images"], 1);
    assert!(scores["scenes"]["true_captions"].is_number());
    assert!(scores["overall"]["CIDEr"].is_number());

    let weights = fs::read(folder.join("made/clip.bpk")).unwrap();
    let again = run(&config, folder, Interrupter::new()).unwrap().unwrap();
    assert_eq!(again, done, "nothing is trained twice");
    assert_eq!(fs::read(folder.join("made/clip.bpk")).unwrap(), weights);

    let mut other = config.clone();
    other.gpt2.seed = 9;
    let error = run(&other, folder, Interrupter::new()).unwrap_err();
    assert!(format!("{error:#}").contains("sample.json"), "{error:#}");
}
