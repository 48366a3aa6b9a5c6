//! Embeds images with an encoder of one's own, and gives each the caption of the most similar image that is known: the
//! baseline that a captioner must beat. `cargo run --release --example own_encoder`

use anyhow::Result;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use clipcap::ImageEncoder;
use clipcap::datasets::scenes;
use clipcap::models::clip::Preprocessing;
use clipcap::models::encoder::Encoder;

/// Mean colors of an image's parts.
#[derive(Debug)]
struct MeanColors;

/// Parts a side.
const PARTS: usize = 4;

impl Encoder for MeanColors {
    fn encode(&self, pixel_values: Tensor<4>) -> Tensor<2> {
        let means = adaptive_avg_pool2d(pixel_values, [PARTS, PARTS]); // [n, 3, PARTS, PARTS]
        means.flatten(1, 3) // [n, 3 * PARTS * PARTS]
    }
}

fn main() -> Result<()> {
    let preprocessing = Preprocessing::openai(32);
    let encoder = ImageEncoder::new(Box::new(MeanColors), preprocessing, &Device::flex());
    let known: Vec<_> = (0..500).map(|index| scenes::scene(1, index)).collect();
    let images: Vec<_> = known.iter().map(scenes::draw).collect();
    let embeddings = encoder.embed_images(&images)?;
    for index in 0..3 {
        let scene = scenes::scene(2, index);
        let asked = &encoder.embed_images(&[scenes::draw(&scene)])?[0];
        let distance = |embedding: &[f32]| -> f32 {
            (embedding.iter().zip(asked))
                .map(|(a, b)| (a - b).powi(2))
                .sum()
        };
        let nearest = (0..known.len())
            .min_by(|&a, &b| distance(&embeddings[a]).total_cmp(&distance(&embeddings[b])))
            .expect("there are known images");
        println!("nearest:   {}", known[nearest].captions[0]);
        println!("reference: {}", scene.captions[0]);
    }
    Ok(())
}
