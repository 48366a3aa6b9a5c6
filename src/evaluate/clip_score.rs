//! CLIPScore and RefCLIPScore (Hessel et al. 2021, <https://arxiv.org/abs/2104.08718>): captions judged by CLIP.
//!
//! ```text
//! CLIPScore(c, v)        = 2.5 * max(cos(c, v), 0)
//! RefCLIPScore(c, R, v)  = harmonic mean of CLIPScore(c, v) and max over r in R of max(cos(c, r), 0)
//! ```
//! Sentences are read behind `A photo depicts`. The published figures are of CLIP ViT-B/32; another CLIP gives others.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;

use super::read::EvaluatedImage;
use crate::captioner::ImageEncoder;
use crate::captioner::model_folder::ModelFolder;
use crate::data::embeddings;
use crate::data::image_source::ImageSource;
use crate::data::unreadable;
use crate::tokenizer::CutTexts;
use crate::vector::{dot, normalized};
use caption_metrics::Scores;

/// Both scores, and the captions that CLIP read the beginning of alone.
pub struct ClipScores {
    /// CLIPScore and RefCLIPScore.
    pub scores: Vec<Scores>,
    /// Of candidates and references.
    pub cut: CutTexts,
}

const WEIGHT: f64 = 2.5;
const PROMPT: &str = "A photo depicts ";

/// Scores every image's candidate, in order. `image_folder` is the folder that the images' file names are in. Images that
/// cannot be read are named and taken out of `images`.
///
/// # Errors
/// When the folder has no CLIP, an image has no file name, or too many images cannot be read.
pub fn score(
    model: &Path,
    images: &mut Vec<EvaluatedImage>,
    image_folder: &Path,
    device: &Device,
    progress: &dyn Fn(usize),
    report: &dyn Fn(&str),
) -> Result<ClipScores> {
    let folder = ModelFolder::open(model)?;
    folder.check_texts()?;
    let sources = (images.iter())
        .map(|image| {
            let name = image.file_name.as_ref().with_context(|| {
                format!(
                    "image {} has no `file_name` in the references: CLIPScore looks at the images",
                    image.id
                )
            })?;
            Ok(ImageSource::File(image_folder.join(name)))
        })
        .collect::<Result<Vec<_>>>()?;
    let encoder = ImageEncoder::load(&folder, device)?;
    let seen = embeddings::uncached(&encoder, &sources, progress)?;
    unreadable::check(
        &seen.unreadable,
        sources.len(),
        image_folder.display(),
        report,
    )?;
    let mut readable = seen.rows.iter().map(Option::is_some);
    images.retain(|_| readable.next().unwrap_or(false));
    let said = images.iter().flat_map(|image| {
        let sample = &image.sample;
        std::iter::once(&sample.candidate).chain(&sample.references)
    });
    let said: Vec<String> = said.map(|text| format!("{PROMPT}{text}")).collect();
    let cut = encoder.cut_texts(said.iter().map(String::as_str))?;
    if let Some(line) = cut.told() {
        report(&line);
    }
    let read = |texts: &mut dyn Iterator<Item = &String>| -> Result<Vec<Vec<f32>>> {
        let texts: Vec<String> = texts.map(|text| format!("{PROMPT}{text}")).collect();
        Ok(encoder
            .embed_texts(&texts)?
            .into_iter()
            .map(|row| normalized(&row))
            .collect())
    };
    let candidates = read(&mut images.iter().map(|image| &image.sample.candidate))?;
    let references = read(&mut images.iter().flat_map(|image| &image.sample.references))?;
    let mut rest = &references[..];
    let (mut clip, mut with_references) = (Vec::new(), Vec::new());
    for ((image, row), candidate) in images
        .iter()
        .zip(seen.rows.into_iter().flatten())
        .zip(&candidates)
    {
        let embedding = normalized(&row);
        let (own, others) = rest.split_at(image.sample.references.len());
        rest = others;
        let score = WEIGHT * dot(candidate, &embedding).max(0.0);
        let nearest = own
            .iter()
            .map(|other| dot(candidate, other))
            .fold(0.0, f64::max);
        clip.push(score);
        with_references.push(harmonic_mean(score, nearest));
    }
    Ok(ClipScores {
        scores: vec![
            Scores::mean("CLIPScore", clip),
            Scores::mean("RefCLIPScore", with_references),
        ],
        cut,
    })
}

fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b == 0.0 {
        0.0
    } else {
        2.0 * a * b / (a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmonic_mean_is_0_where_either_is() {
        assert_eq!(harmonic_mean(0.0, 0.0), 0.0);
        assert_eq!(harmonic_mean(0.0, 1.0), 0.0);
        assert!((harmonic_mean(1.0, 0.5) - 2.0 / 3.0).abs() < 1e-12);
    }
}
