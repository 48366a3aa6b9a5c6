//! Two result files on the same images: how sure the difference is, and where it comes from.

use anyhow::{Result, bail};
use serde::Serialize;

use super::score::Evaluation;
use caption_metrics::bootstrap::{Bootstrap, Difference};

/// Two evaluations beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub images: usize,
    pub differences: Vec<Difference>,
    /// The images whose score changed most, largest change first.
    pub moved: Vec<Moved>,
}

/// An image that the models describe differently well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    pub id: String,
    pub a: f64,
    pub b: f64,
    pub caption_a: String,
    pub caption_b: String,
    pub references: Vec<String>,
}

/// Compares score by score with a paired bootstrap; `by` names the score that images are ordered by.
///
/// # Errors
/// When the evaluations are not of the same images, or have no score of that name.
pub fn compare(
    a: &Evaluation,
    b: &Evaluation,
    bootstrap: &Bootstrap,
    by: &str,
    shown: usize,
) -> Result<Comparison> {
    same_images(a, b)?;
    let Some(score) = a.names().iter().position(|&name| name == by) else {
        bail!(
            "there is no score `{by}`: use one of {}",
            a.names().join(", ")
        );
    };
    let mut moved: Vec<Moved> = (0..a.images.len())
        .map(|i| Moved {
            id: a.images[i].id.clone(),
            a: a.per_image(i)[score],
            b: b.per_image(i)[score],
            caption_a: a.images[i].sample.candidate.clone(),
            caption_b: b.images[i].sample.candidate.clone(),
            references: a.images[i].sample.references.clone(),
        })
        .filter(|moved| moved.a != moved.b)
        .collect();
    moved.sort_by(|x, y| (y.b - y.a).abs().total_cmp(&(x.b - x.a).abs()));
    moved.truncate(shown);
    Ok(Comparison {
        images: a.images.len(),
        differences: bootstrap.compare(&a.scores, &b.scores),
        moved,
    })
}

fn same_images(a: &Evaluation, b: &Evaluation) -> Result<()> {
    let missing = |from: &Evaluation, other: &Evaluation| {
        let known: std::collections::HashSet<&str> =
            from.images.iter().map(|image| image.id.as_str()).collect();
        let lost = other
            .images
            .iter()
            .find(|image| !known.contains(image.id.as_str()));
        lost.map(|image| image.id.clone())
    };
    for (from, other, which) in [(a, b, "first"), (b, a, "second")] {
        if let Some(id) = missing(from, other) {
            bail!("image {id} is not in the {which} file: both must caption the same images");
        }
    }
    Ok(())
}
